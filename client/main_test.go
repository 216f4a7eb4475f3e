package client_test

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/client"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/internal/leaktest"
	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/kernel/kerneltest"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/inside"
)

// The tests share one sandbox.
var (
	box  *agent.Sandbox
	site *httptest.Server
	c    *client.Client
	seen operations
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	defer kerneltest.Home()()
	python := os.Getenv("K2_TEST_PYTHON")
	if python == "" {
		fmt.Fprintln(os.Stderr, "K2_TEST_PYTHON must name a Python interpreter that has ipykernel")
		return 1
	}
	var err error
	if box, err = agent.New(context.Background(), agent.Options{Spec: kernel.PythonSpec(python)}); err == nil {
		site = httptest.NewServer(seen.record(inside.New(box, server.Options{})))
		c, err = client.New(site.URL, client.Options{})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	c.Close()
	if err := box.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	site.Close() // waits for every answer to end
	if err := leaktest.Goroutines(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

// operations notes which operations of the document were called.
type operations struct {
	once   sync.Once
	all    []operation
	mu     sync.Mutex
	called map[string]bool
}

// operation is one of the document.
type operation struct {
	id, method string
	path       *regexp.Regexp
}

var parameter = regexp.MustCompile(`\\\{[a-z]+\\\}`)

func (o *operations) load() {
	var doc struct {
		Paths map[string]map[string]yaml.Node
	}
	if err := yaml.Unmarshal(api.OpenAPI, &doc); err != nil {
		panic(err)
	}
	o.called = map[string]bool{}
	for path, methods := range doc.Paths {
		for method, node := range methods {
			var op struct {
				OperationID string `yaml:"operationId"`
			}
			if method == "parameters" {
				continue
			}
			if err := node.Decode(&op); err != nil {
				panic(err)
			}
			last := regexp.QuoteMeta(path)
			last = parameter.ReplaceAllString(last, "[^/]*")
			if strings.HasSuffix(path, "/{path}") {
				last = strings.TrimSuffix(last, "[^/]*") + ".*"
			}
			o.all = append(o.all, operation{op.OperationID, strings.ToUpper(method), regexp.MustCompile("^" + last + "$")})
		}
	}
}

func (o *operations) record(next http.Handler) http.Handler {
	o.once.Do(o.load)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		for _, op := range o.all {
			if op.method == r.Method && op.path.MatchString(r.URL.Path) {
				o.called[op.id] = true
			}
		}
		o.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

// must returns the value of a call that may not fail.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// all reads a stream to its end.
func all[T any](t *testing.T, events iter.Seq2[T, error]) []T {
	t.Helper()
	var got []T
	for e, err := range events {
		ok(t, err)
		got = append(got, e)
	}
	return got
}

// first returns the first of a stream that is meant, and leaves it.
func first[T any](t *testing.T, events iter.Seq2[T, error], meant func(T) bool) T {
	t.Helper()
	for e, err := range events {
		ok(t, err)
		if meant(e) {
			return e
		}
	}
	t.Fatal("the stream ended")
	panic("not reached")
}

// submit runs code and returns the run's id once an event of the type has come.
func submit(t *testing.T, req api.RunRequest, until executor.Type) string {
	t.Helper()
	id := must[executor.Summary](t)(c.Submit(t.Context(), req)).ExecutionID
	first(t, c.Events(t.Context(), id, 0), func(e executor.Event) bool { return e.Type == until })
	return id
}
