package inside_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/inside"
)

// A server that owns its sandbox can end it: what is under way is told to the end first.
func TestClose(t *testing.T) {
	for reason, graceful := range map[string]bool{"closed": true, "killed": false, "timed_out": false} {
		t.Run(reason, func(t *testing.T) {
			path := "/v1/close?reason=" + reason
			dir := t.TempDir()
			box, err := agent.New(t.Context(), agent.Options{Spec: kernel.PythonSpec(os.Getenv("K2_TEST_PYTHON")), Cwd: dir, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			defer box.Close()
			srv := httptest.NewServer(inside.New(box, server.Options{Behind: true}))
			defer srv.Close()
			post := func(path, body string) *http.Response {
				t.Helper()
				resp, err := srv.Client().Post(srv.URL+path, "application/json", strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { resp.Body.Close() })
				return resp
			}
			kernelGone := filepath.Join(dir, "kernel")
			open(t, post("/v1/code", `{"code":"import atexit; atexit.register(open, '`+kernelGone+`', 'w')"}`)).end(t, executor.OK)
			run := open(t, post("/v1/code", `{"code":"input()","allow_stdin":true}`))
			run.until(t, executor.Input)
			command := open(t, post("/v1/processes", `{"cmd":"trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.01; done"}`))
			command.until(t, executor.Stdout)
			resp := post(path, "")
			if resp.StatusCode != http.StatusNoContent {
				t.Fatal(resp.Status, read(t, resp))
			}
			run.end(t, executor.SandboxKilled)
			if said := text(command.end(t, executor.SandboxKilled), executor.Stdout); (said == "bye\n") != graceful {
				t.Errorf("the command said %q", said)
			}
			if _, err := os.Stat(kernelGone); (err == nil) != graceful {
				t.Errorf("atexit handlers of the kernel: %v", err)
			}
			select {
			case <-box.Ended():
			default:
				t.Error("it has not ended")
			}
			if resp := post("/v1/close?reason=closed", ""); resp.StatusCode != http.StatusNoContent {
				t.Error(resp.Status)
			}
			for line, err := range box.Timeline(t.Context(), 0) {
				if err != nil || line.Type == journal.End && !strings.Contains(string(line.JSON), `"reason":"`+reason+`"`) {
					t.Errorf("the timeline has %s, %v", line.JSON, err)
				}
			}
		})
	}
}

func TestCloseWantsAReason(t *testing.T) {
	h := inside.New(box, server.Options{Behind: true})
	for _, query := range []string{"", "?reason=", "?reason=crashed", "?now=true"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", "http://localhost/v1/close"+query, nil))
		if w.Code != http.StatusBadRequest {
			t.Errorf("%q: %d %s", query, w.Code, w.Body)
		}
	}
}

func TestCloseIsForTheOwner(t *testing.T) {
	refused(t, call(t, "POST", "/v1/close", nil), 404, api.NotFound)
}

func TestActivity(t *testing.T) {
	activity := func() api.Activity { return get[api.Activity](t, call(t, "GET", "/v1/activity", nil), 200) }
	run := runs(t, api.RunRequest{Code: "input()", AllowStdin: true})
	run.until(t, executor.Input)
	if a := activity(); !a.Busy || a.IdleSeconds != 0 {
		t.Errorf("while code runs: %+v", a)
	}
	call(t, "POST", "/v1/executions/"+run.id+"/input", api.InputRequest{Value: "x"})
	run.end(t, executor.OK)
	if a := activity(); a.Busy || a.IdleSeconds < 0 {
		t.Errorf("when it has ended: %+v", a)
	}
	background := get[api.Process](t, call(t, "POST", "/v1/processes", api.ProcessRequest{Cmd: "cat", Stdin: api.OpenStdin, Background: true}), 201)
	defer call(t, "DELETE", fmt.Sprint("/v1/processes/", background.Pid), nil)
	if a := activity(); a.Busy {
		t.Errorf("while a process is in the background: %+v", a)
	}
	terminal := get[api.Process](t, call(t, "POST", "/v1/processes", api.ProcessRequest{Cmd: "cat", Pty: &api.Pty{Rows: 24, Cols: 80}, Background: true}), 201)
	if a := activity(); !a.Busy {
		t.Errorf("while a terminal is open: %+v", a)
	}
	call(t, "DELETE", fmt.Sprint("/v1/processes/", terminal.Pid), nil)
	if a := activity(); a.Busy {
		t.Errorf("when it is closed: %+v", a)
	}
}
