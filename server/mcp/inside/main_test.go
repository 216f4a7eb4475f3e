package inside_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/internal/leaktest"
	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/kernel/kerneltest"
	"github.com/k2sandbox/k2sandbox/process"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/mcp/inside"
)

// Starting a kernel takes a second of CPU, so that the tests share one sandbox.
var (
	box  *agent.Sandbox
	site *httptest.Server
	kept string // where an original is
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	defer kerneltest.Home()()
	python := os.Getenv("K2_TEST_PYTHON")
	if python == "" {
		fmt.Fprintln(os.Stderr, "K2_TEST_PYTHON must name a Python interpreter that has ipykernel")
		return 1
	}
	cwd, err := os.MkdirTemp("", "k2-mcp-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(cwd)
	box, err = agent.New(context.Background(), agent.Options{
		Spec: kernel.PythonSpec(python), Cwd: cwd,
		Executor:  executor.Options{Grace: 3 * time.Second},
		Processes: process.Options{Grace: 3 * time.Second},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	site = httptest.NewServer(inside.New(box, server.Options{Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))}))
	code := m.Run()
	if err := box.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if _, err := os.Lstat(filepath.Dir(filepath.Dir(kept))); kept != "" && !errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintln(os.Stderr, "left behind:", kept)
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

// send asks for a tool.
func send(ctx context.Context, t *testing.T, tool string, arguments any) *http.Response {
	t.Helper()
	raw, err := json.Marshal(arguments)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, site.URL+"/"+tool, bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// lines yields what a tool answers, to the end.
func lines(t *testing.T, resp *http.Response) (progress []api.MCPProgress, answer *api.MCPAnswer) {
	t.Helper()
	if resp.StatusCode != http.StatusOK {
		raw, _ := io.ReadAll(resp.Body)
		t.Fatalf("status %d: %s", resp.StatusCode, raw)
	}
	in := bufio.NewScanner(resp.Body)
	in.Buffer(nil, api.MaxMCPLine)
	for in.Scan() {
		if answer != nil {
			t.Fatalf("a line after the answer: %.200s", in.Text())
		}
		d := json.NewDecoder(strings.NewReader(in.Text()))
		d.DisallowUnknownFields()
		var line api.MCPLine
		if err := d.Decode(&line); err != nil {
			t.Fatalf("%v: %.200s", err, in.Text())
		}
		switch {
		case line.Error != nil:
			t.Fatalf("error: %v", line.Error)
		case line.Progress != nil:
			progress = append(progress, *line.Progress)
		default:
			answer = line.Answer
		}
	}
	if err := in.Err(); err != nil {
		t.Fatal(err)
	}
	if answer == nil {
		t.Fatal("no answer")
	}
	return progress, answer
}

// use calls a tool and returns its answer and the text in that.
func use(t *testing.T, tool string, arguments any) (*api.MCPAnswer, string) {
	t.Helper()
	_, a := lines(t, send(t.Context(), t, tool, arguments))
	if a.Run != nil && len(a.Run.Outputs) > 0 && a.Run.Outputs[0].Path != "" {
		kept = a.Run.Outputs[0].Path
	}
	var text []string
	for _, c := range a.Content {
		if c.Type == api.TextContent {
			text = append(text, c.Text)
		}
	}
	return a, strings.Join(text, "\n")
}

// code runs code.
func code(t *testing.T, source string) (*api.MCPRun, string) {
	t.Helper()
	a, text := use(t, api.ToolRunCode, api.MCPRunCode{Code: source})
	return a.Run, text
}

// refused checks that a tool answers with an error, and returns it.
func refused(t *testing.T, tool string, arguments any, want api.Code) api.Error {
	t.Helper()
	resp := send(t.Context(), t, tool, arguments)
	var body api.ErrorBody
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	if body.Error.Code != want || resp.StatusCode != server.Statuses[want] {
		t.Errorf("%s: status %d, %v, want %s", tool, resp.StatusCode, body.Error, want)
	}
	return body.Error
}
