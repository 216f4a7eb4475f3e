package inside_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/inside"
)

// Closing the sandbox ends every stream with an end, and what is asked then is told why.
func TestShutdown(t *testing.T) {
	box, err := agent.New(t.Context(), agent.Options{Spec: kernel.PythonSpec(os.Getenv("K2_TEST_PYTHON")), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	srv := httptest.NewServer(inside.New(box, server.Options{}))
	defer srv.Close()
	do := func(method, path, body string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+path, bytes.NewReader([]byte(body)))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	if resp := do("GET", "/readyz", ""); resp.StatusCode != 200 {
		t.Errorf("status %d", resp.StatusCode)
	}
	running := open(t, do("POST", "/v1/code", `{"code":"input()","allow_stdin":true}`))
	running.until(t, executor.Input)
	queued := open(t, do("POST", "/v1/code", `{"code":"1"}`))
	everything := do("GET", "/v1/stream", "")
	late := open(t, do("GET", "/v1/contexts/default/events", ""))
	if err := box.Close(); err != nil {
		t.Fatal(err)
	}
	running.end(t, executor.SandboxKilled)
	queued.end(t, executor.SandboxKilled)
	late.end(t, executor.OK)
	lines := read(t, everything)
	if n := strings.Count(lines, `"status":"sandbox_killed"`); n != 4 { // the end of each run, and the timeline's word of it
		t.Errorf("%d lines tell of a run that was killed, want 4:\n%s", n, lines)
	}
	if last := lines[strings.LastIndex(lines[:len(lines)-1], "\n")+1:]; !strings.HasPrefix(last, `{"source":"timeline"`) || !strings.Contains(last, `"type":"end"`) {
		t.Errorf("the last line is %s", last)
	}
	for _, path := range []string{"/v1/stream?after=now", "/v1/timeline?after=" + strconv.FormatInt(box.Now().Timeline, 10)} {
		if again := read(t, do("GET", path, "")); strings.Count(again, `"type":"end"`) != 1 || !strings.Contains(again, `"reason":"closed"`) {
			t.Errorf("%s: %s", path, again)
		}
	}
	refused(t, do("GET", "/readyz", ""), 503, api.Unavailable)
	refused(t, do("POST", "/v1/contexts", ""), 410, api.Gone)
	if resp := do("GET", "/healthz", ""); resp.StatusCode != 200 {
		t.Errorf("status %d", resp.StatusCode)
	}
	if resp := do("GET", "/v1/executions/"+running.id+"/events", ""); resp.StatusCode != 200 {
		t.Errorf("the events of an ended run are gone: %d", resp.StatusCode)
	}
}
