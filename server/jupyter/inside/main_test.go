package inside_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/internal/leaktest"
	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/kernel/kerneltest"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/jupyter/inside"
)

// The tests share one sandbox, as a kernel takes a second of CPU to start. Each works in a folder of its own.
var (
	box  *agent.Sandbox
	site *httptest.Server
	root string
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	defer kerneltest.Home()()
	python := os.Getenv("K2_TEST_PYTHON")
	if python == "" {
		fmt.Fprintln(os.Stderr, "K2_TEST_PYTHON must name a Python interpreter that has ipykernel")
		return 1
	}
	dir, err := os.MkdirTemp("", "contents")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if root, err = filepath.EvalSymlinks(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if box, err = agent.New(context.Background(), agent.Options{Spec: kernel.PythonSpec(python), Cwd: root}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	site = httptest.NewServer(inside.New(box, "local", server.Options{}))
	code := m.Run()
	if err := box.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	site.Close() // waits for every answer to end
	http.DefaultClient.CloseIdleConnections()
	if err := leaktest.Goroutines(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

type object = map[string]any

// ask sends a request and returns the status and the body of the answer, decoded where it is JSON.
func ask[T any](t *testing.T, method, path string, body any) (status int, answer T, header http.Header) {
	t.Helper()
	var sent io.Reader
	switch body := body.(type) {
	case nil:
	case string:
		sent = bytes.NewReader([]byte(body))
	default:
		raw, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		sent = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, site.URL+path, sent)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &answer); err != nil {
			t.Fatalf("%s %s: %d: %v: %.300s", method, path, resp.StatusCode, err, raw)
		}
	}
	return resp.StatusCode, answer, resp.Header
}

// get is ask for an answer that has to have a status.
func get[T any](t *testing.T, want int, method, path string, body any) T {
	t.Helper()
	status, answer, _ := ask[any](t, method, path, body)
	raw, err := json.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	if status != want {
		t.Fatalf("%s %s: status %d, want %d: %.500s", method, path, status, want, raw)
	}
	var v T
	if answer != nil {
		if err := json.Unmarshal(raw, &v); err != nil {
			t.Fatalf("%s %s: %v: %.500s", method, path, err, raw)
		}
	}
	return v
}

// folder makes a folder in the contents for a test.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(root, "test")
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Base(dir)
}
