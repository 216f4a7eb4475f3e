package interpreter_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/internal/leaktest"
	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/kernel/kerneltest"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/e2b/interpreter"
)

// The tests share one sandbox, as a kernel takes a second of CPU to start, and open others only to lose them.
var (
	python string
	shared place
)

// place is a sandbox and where it is served.
type place struct {
	box  *agent.Sandbox
	site *httptest.Server
}

func newPlace(o server.Options) (place, error) {
	box, err := agent.New(context.Background(), agent.Options{
		Spec:     kernel.PythonSpec(python),
		Executor: executor.Options{Grace: 10 * time.Second, Again: 2 * time.Second}, // Deno can miss an interrupt
	})
	if err != nil {
		return place{}, err
	}
	return place{box, httptest.NewServer(interpreter.New(box, o))}, nil
}

func (p place) close() error {
	err := p.box.Close()
	p.site.Close() // waits for every answer to end
	return err
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	defer kerneltest.Home()()
	if python = os.Getenv("K2_TEST_PYTHON"); python == "" {
		fmt.Fprintln(os.Stderr, "K2_TEST_PYTHON must name a Python interpreter that has ipykernel")
		return 1
	}
	var err error
	if shared, err = newPlace(server.Options{MaxCode: 1 << 20}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if err := leaktest.Goroutines(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

type object = map[string]any

// call sends a request whose body is a value, or is missing where that is nil.
func (p place) call(ctx context.Context, t *testing.T, method, path string, body any) *http.Response {
	t.Helper()
	var sent io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		sent = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, p.site.URL+path, sent)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json") // as the clients do, with or without a body
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// ask returns the status and the body of an answer.
func (p place) ask(t *testing.T, method, path string, body any) (int, string) {
	t.Helper()
	resp := p.call(t.Context(), t, method, path, body)
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

// get decodes the body of an answer that has to be one of success.
func get[T any](t *testing.T, p place, method, path string, body any) T {
	t.Helper()
	status, raw := p.ask(t, method, path, body)
	var v T
	if status != http.StatusOK {
		t.Fatalf("%s %s: status %d: %s", method, path, status, raw)
	}
	if err := json.Unmarshal([]byte(raw), &v); err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	return v
}

// stream reads the messages of a run.
type stream struct {
	*http.Response
	lines *bufio.Scanner
}

func (p place) open(ctx context.Context, t *testing.T, body object) *stream {
	t.Helper()
	resp := p.call(ctx, t, "POST", "/execute", body)
	if resp.StatusCode != http.StatusOK {
		raw, _ := io.ReadAll(resp.Body)
		t.Fatalf("status %d: %s", resp.StatusCode, raw)
	}
	s := &stream{resp, bufio.NewScanner(resp.Body)}
	s.lines.Buffer(nil, 64<<20)
	return s
}

// next returns the next message, keepalives included; nil at the end of the answer.
func (s *stream) next(t *testing.T) object {
	t.Helper()
	if !s.lines.Scan() {
		if err := s.lines.Err(); err != nil {
			t.Fatal(err)
		}
		return nil
	}
	line := s.lines.Bytes()
	if i := slices.IndexFunc(line, func(b byte) bool { return b >= 0x80 }); i >= 0 {
		t.Errorf("not ASCII at byte %d: %q", i, line)
	}
	var m object
	if err := json.Unmarshal(line, &m); err != nil {
		t.Fatalf("%v: %q", err, line)
	}
	return m
}

// until reads to the first message of a type.
func (s *stream) until(t *testing.T, typ string) object {
	t.Helper()
	for m := s.next(t); m != nil; m = s.next(t) {
		if m["type"] == typ {
			return m
		}
	}
	t.Fatalf("the answer ended without %q", typ)
	return nil
}

// execution is what a client makes of the messages of a run.
type execution struct {
	Count          any
	Stdout, Stderr []string
	Results        []object
	Error          object
}

// rest reads to the end, and checks what holds for every answer.
func (s *stream) rest(t *testing.T) execution {
	t.Helper()
	var e execution
	var last any
	for m := s.next(t); m != nil; m = s.next(t) {
		if last == "end_of_execution" {
			t.Errorf("%v after the end", m)
		}
		switch last = m["type"]; last {
		case "number_of_executions":
			e.Count = m["execution_count"]
		case "stdout":
			e.Stdout = append(e.Stdout, m["text"].(string))
		case "stderr":
			e.Stderr = append(e.Stderr, m["text"].(string))
		case "result":
			delete(m, "type")
			e.Results = append(e.Results, m)
		case "error":
			if e.Error != nil {
				t.Errorf("two errors: %v and %v", e.Error, m)
			}
			e.Error = m
		case "keepalive", "end_of_execution":
		default:
			t.Errorf("a message of an unknown type: %v", m)
		}
	}
	if last != "end_of_execution" {
		t.Fatalf("the answer ended with %v", last)
	}
	return e
}

// run runs code in the shared sandbox; more is what else the request has.
func (p place) run(t *testing.T, code string, more ...object) execution {
	t.Helper()
	return p.open(t.Context(), t, request(code, more...)).rest(t)
}

func request(code string, more ...object) object {
	body := object{"code": code}
	for _, m := range more {
		for name, value := range m {
			body[name] = value
		}
	}
	return body
}

// formats are the names of what a result has, sorted.
func formats(result object) []string {
	var names []string
	for name := range result {
		if name != "extra" && name != "is_main_result" {
			names = append(names, name)
		}
	}
	for name := range result["extra"].(object) {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
