package envd_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/internal/leaktest"
	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/process"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/e2b/envd"
)

// The tests share one sandbox, as its kernel takes a second to start, and its home directory.
var (
	box  *agent.Sandbox
	site *httptest.Server
	home string
	left = make(chan struct{}, 1000) // one for each connection that has ended
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Getenv("K2_TEST_PYTHON") == "" {
		fmt.Fprintln(os.Stderr, "K2_TEST_PYTHON must name a Python interpreter that has ipykernel")
		return 1
	}
	dir, err := os.MkdirTemp("", "home")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if home, err = filepath.EvalSymlinks(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if box, err = open(home); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	site = serve(box, 0)
	code := m.Run()
	if err := box.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	site.Close() // waits for every answer to end
	transport.CloseIdleConnections()
	if err := leaktest.Goroutines(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

// open returns a sandbox with a home directory.
func open(home string) (*agent.Sandbox, error) {
	return agent.New(context.Background(), agent.Options{
		Spec: kernel.PythonSpec(os.Getenv("K2_TEST_PYTHON")), Cwd: home,
		Envs:      map[string]string{"HOME": home, "GIVEN": "to the sandbox"},
		Processes: process.Options{Grace: 30 * time.Second}, // which no timeout of these clients waits for
	})
}

// serve serves the sandbox, to clients that may take as long for each step; 0 is the usual.
func serve(box *agent.Sandbox, patience time.Duration) *httptest.Server {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	s := httptest.NewUnstartedServer(envd.New(box, server.Options{Log: log, MaxBody: 1 << 20, WriteTimeout: patience}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			select {
			case left <- struct{}{}:
			default: // nobody waits
			}
		}
	}
	s.Start()
	return s
}

// request sends one. headers are names and values in turns.
func request(t *testing.T, method, path string, body io.Reader, headers ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, site.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// transport leaves it to the tests to ask for gzip.
var transport = &http.Transport{DisableCompression: true}

func read(t *testing.T, resp *http.Response) string {
	t.Helper()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// object is a message.
type object = map[string]any

// call calls a unary method, which has to succeed.
func call(t *testing.T, method string, message any, headers ...string) object {
	t.Helper()
	status, answer := try(t, method, message, headers...)
	if status != http.StatusOK {
		t.Fatalf("%s %v: %d %v", method, message, status, answer)
	}
	return answer
}

// try calls a unary method with a message, or with the text of one.
func try(t *testing.T, method string, message any, headers ...string) (int, object) {
	t.Helper()
	raw, ok := message.(string)
	if !ok {
		raw = encode(t, message)
	}
	headers = append([]string{"Content-Type", "application/json", "Connect-Protocol-Version", "1"}, headers...)
	resp := request(t, "POST", "/"+method, strings.NewReader(raw), headers...)
	var answer object
	if body := read(t, resp); json.Unmarshal([]byte(body), &answer) != nil {
		t.Fatalf("%s: %d %q is no JSON", method, resp.StatusCode, body)
	}
	return resp.StatusCode, answer
}

// refused checks that a unary call fails with a code.
func refused(t *testing.T, status int, code, method string, message any, headers ...string) string {
	t.Helper()
	got, answer := try(t, method, message, headers...)
	if got != status || answer["code"] != code || answer["message"] == "" {
		t.Errorf("%s %.200v: %d %v, want %d %s", method, message, got, answer, status, code)
	}
	text, _ := answer["message"].(string)
	return text
}

func encode(t *testing.T, message any) string {
	t.Helper()
	raw, err := json.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// envelope frames a message of a stream.
func envelope(flags byte, message string) string {
	head := binary.BigEndian.AppendUint32([]byte{flags}, uint32(len(message)))
	return string(head) + message
}

// flow is the answer of a server stream.
type flow struct {
	*http.Response
	leave context.CancelFunc
	last  object            // the end-of-stream message, once it has come
	said  map[string]string // of a command, so far: by "stdout", "stderr" and "pty"
}

// stream calls a server-streaming method.
func stream(t *testing.T, method string, message any, headers ...string) *flow {
	t.Helper()
	return send(t, site.URL, method, strings.NewReader(envelope(0, encode(t, message))), headers...)
}

// send sends the body of a streaming method.
func send(t *testing.T, url, method string, body io.Reader, headers ...string) *flow {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "POST", url+"/"+method, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/connect+json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); resp.Body.Close() })
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/connect+json" {
		t.Fatalf("%s: %s, %q", method, resp.Status, resp.Header.Get("Content-Type"))
	}
	return &flow{Response: resp, leave: cancel, said: map[string]string{}}
}

// next returns the next message, nil at the end of the stream.
func (f *flow) next(t *testing.T) object {
	t.Helper()
	message, err := f.take()
	if err != nil {
		t.Fatal(err)
	}
	return message
}

func (f *flow) take() (object, error) {
	var head [5]byte
	if _, err := io.ReadFull(f.Body, head[:]); err != nil {
		return nil, fmt.Errorf("no envelope: %w", err)
	}
	raw := make([]byte, binary.BigEndian.Uint32(head[1:]))
	if _, err := io.ReadFull(f.Body, raw); err != nil {
		return nil, err
	}
	message := object{}
	if err := json.Unmarshal(raw, &message); err != nil {
		return nil, fmt.Errorf("%w: %q", err, raw)
	}
	switch head[0] {
	case 0:
		return message, nil
	case 2:
		f.last = message
		if rest, err := io.ReadAll(f.Body); err != nil || len(rest) != 0 {
			return nil, fmt.Errorf("after the end come %q, %w", rest, err)
		}
		return nil, nil
	}
	return nil, fmt.Errorf("flags %d", head[0])
}

// rest returns all messages up to the end.
func (f *flow) rest(t *testing.T) (all []object) {
	t.Helper()
	for m := f.next(t); m != nil; m = f.next(t) {
		all = append(all, m)
	}
	return all
}

// failed checks that the stream ends with an error, having said nothing else.
func (f *flow) failed(t *testing.T, code string) string {
	t.Helper()
	if all := f.rest(t); len(all) != 0 {
		t.Errorf("messages %v", all)
	}
	return f.endedBy(t, code)
}

// endedBy checks the code of the error that ended the stream, "" for none.
func (f *flow) endedBy(t *testing.T, code string) string {
	t.Helper()
	got, _ := at(f.last, "error", "code").(string)
	text, _ := at(f.last, "error", "message").(string)
	if f.last == nil || got != code || (code != "") != (text != "") {
		t.Errorf("the stream ended with %v, want the error %q", f.last, code)
	}
	return text
}

// at walks into a message; nil where there is nothing.
func at(message any, keys ...string) any {
	for _, key := range keys {
		m, _ := message.(object)
		message = m[key]
	}
	return message
}

// write puts a file into the home directory by the system.
func write(t *testing.T, name, content string) {
	t.Helper()
	path := filepath.Join(home, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// clean takes away what a run of the test before has left in the home directory.
func clean(t *testing.T, name string) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(home, name)); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(home, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
