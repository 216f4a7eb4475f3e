package inside_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/client"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/internal/leaktest"
	"github.com/k2sandbox/k2sandbox/internal/servertest"
	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/kernel/kerneltest"
	"github.com/k2sandbox/k2sandbox/packages"
	"github.com/k2sandbox/k2sandbox/process"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/inside"
)

// Starting a kernel takes a second of CPU, so that the tests share one sandbox,
// whose default context they take in turns, and open others only to lose them.
var (
	box  *agent.Sandbox
	site *httptest.Server
	logs servertest.Buffer

	zygote *kernel.Zygote // of the kernels, where the tests run with one
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	defer kerneltest.Home()()
	python := os.Getenv("K2_TEST_PYTHON")
	if python == "" {
		fmt.Fprintln(os.Stderr, "K2_TEST_PYTHON must name a Python interpreter that has ipykernel")
		return 1
	}
	log := slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	local, err := wheels()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(local)
	if os.Getenv(kerneltest.AsZygote) != "" {
		z, err := kerneltest.NewZygote(python)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer z.Close()
		zygote = z.Zygote
	}
	box, err = agent.New(context.Background(), agent.Options{
		Spec:      kernel.PythonSpec(python),
		Start:     kernel.Options{Zygote: zygote},
		Log:       log,
		Executor:  executor.Options{QueueLimit: 8, Grace: 3 * time.Second},
		Keep:      agent.Keep{Runs: 200},
		Processes: process.Options{Grace: 3 * time.Second},
		Packages:  packages.Options{FindLinks: []string{local}, NoIndex: true, Deny: []string{"k2-denied"}},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	site = httptest.NewServer(inside.New(box, server.Options{Log: log, MaxCode: 1 << 20, MaxBody: 2 << 20}))
	if c, err = client.New(site.URL, client.Options{Retries: -1}); err != nil {
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
	var but []string
	if zygote != nil {
		but = append(but, "process.Reap") // which goes on
	}
	if err := leaktest.Goroutines(but...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

// call sends a request, whose body is a string or a value to be sent as JSON.
// headers are names and values in turns.
func call(t *testing.T, method, path string, body any, headers ...string) *http.Response {
	t.Helper()
	return callCtx(t.Context(), t, method, path, body, headers...)
}

func callCtx(ctx context.Context, t *testing.T, method, path string, body any, headers ...string) *http.Response {
	t.Helper()
	var sent io.Reader
	switch body := body.(type) {
	case nil:
	case string:
		sent = strings.NewReader(body)
	default:
		raw, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		sent = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, site.URL+path, sent)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	if h := req.Header.Get("Host"); h != "" {
		req.Host = h
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// read returns the whole body.
func read(t *testing.T, resp *http.Response) string {
	t.Helper()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// get decodes an answer of the expected status into a T.
func get[T any](t *testing.T, resp *http.Response, status int) T {
	t.Helper()
	var v T
	body := read(t, resp)
	if resp.StatusCode != status {
		t.Fatalf("status %d, want %d: %s", resp.StatusCode, status, body)
	}
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return v
}

// refused checks that the answer is an error, and returns it.
func refused(t *testing.T, resp *http.Response, status int, code api.Code) api.Error {
	t.Helper()
	e := get[api.ErrorBody](t, resp, status).Error
	if e.Code != code {
		t.Errorf("code %q, want %q: %s", e.Code, code, e.Message)
	}
	if e.Message == "" {
		t.Error("no message")
	}
	return e
}

// event is an executor.Event with what a server adds to an end line.
type event struct {
	executor.Event
	Fault *api.Error
}

func (e *event) UnmarshalJSON(raw []byte) error {
	var more struct{ Error *api.Error }
	if err := json.Unmarshal(raw, &more); err != nil {
		return err
	}
	e.Fault = more.Error
	return json.Unmarshal(raw, &e.Event)
}

// stream reads the lines of an answer one by one.
type stream struct {
	*http.Response
	id    string
	lines *bufio.Scanner
}

func open(t *testing.T, resp *http.Response) *stream {
	t.Helper()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d: %s", resp.StatusCode, read(t, resp))
	}
	s := &stream{resp, resp.Header.Get("X-Execution-Id"), bufio.NewScanner(resp.Body)}
	s.lines.Buffer(nil, 64<<20)
	return s
}

// runs opens the stream of a new run.
func runs(t *testing.T, req api.RunRequest) *stream {
	t.Helper()
	return open(t, call(t, "POST", "/v1/code", req))
}

// next returns the next event that is no ping, or ok false at the end of the stream.
func (s *stream) next(t *testing.T) (e event, ok bool) {
	t.Helper()
	for s.lines.Scan() {
		if err := json.Unmarshal(s.lines.Bytes(), &e); err != nil {
			t.Fatalf("%v: %s", err, s.lines.Bytes())
		}
		if e.Type != api.Ping {
			return e, true
		}
	}
	if err := s.lines.Err(); err != nil {
		t.Fatal(err)
	}
	return event{}, false
}

// until reads to the first event of a type.
func (s *stream) until(t *testing.T, typ executor.Type) event {
	t.Helper()
	for {
		e, ok := s.next(t)
		if !ok {
			t.Fatalf("the stream ended without %q", typ)
		}
		if e.Type == typ {
			return e
		}
	}
}

// rest reads to the end, and checks what holds for every stream: numbers without
// a gap, a time on each line, and exactly one end, last.
func (s *stream) rest(t *testing.T) []event {
	t.Helper()
	var all []event
	for e, ok := s.next(t); ok; e, ok = s.next(t) {
		if n := len(all); n > 0 && e.Seq != all[n-1].Seq+1 {
			t.Fatalf("%s has number %d after %d", e.Type, e.Seq, all[n-1].Seq)
		}
		if n := len(all); n > 0 && all[n-1].Type == executor.End {
			t.Fatalf("%s after the end", e.Type)
		}
		if e.Time.IsZero() {
			t.Errorf("%s has no time", e.Type)
		}
		all = append(all, e)
	}
	if len(all) == 0 || all[len(all)-1].Type != executor.End {
		t.Fatalf("no end: %v", all)
	}
	return all
}

// end reads to the end and checks its status.
func (s *stream) end(t *testing.T, status executor.Status) []event {
	t.Helper()
	all := s.rest(t)
	if last := all[len(all)-1]; last.Status != status {
		t.Fatalf("ended as %q, want %q: %+v", last.Status, status, all)
	}
	return all
}

// text joins the text of a stream's events.
func text(all []event, stream executor.Type) string {
	var b strings.Builder
	for _, e := range all {
		if e.Type == stream {
			b.WriteString(e.Text)
		}
	}
	return b.String()
}

// quick runs code that ends well and returns its events.
func quick(t *testing.T, code string) []event {
	t.Helper()
	return runs(t, api.RunRequest{Code: code}).end(t, executor.OK)
}
