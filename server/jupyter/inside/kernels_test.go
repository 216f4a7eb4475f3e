package inside_test

import (
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
)

type kernelModel struct {
	ID, Name     string
	LastActivity string `json:"last_activity"`
	State        string `json:"execution_state"`
	Connections  *int
}

type sessionModel struct {
	ID, Path, Name, Type string
	Kernel               kernelModel
	Notebook             struct{ Path, Name string }
}

// printed runs code in a kernel by the native API and returns what it prints.
func printed(t *testing.T, kernelID, code string) string {
	t.Helper()
	_, context, ok := api.ParseKernelID(kernelID)
	if !ok {
		t.Fatalf("%q is no id of a kernel", kernelID)
	}
	run, err := box.Submit(context, executor.Cell{Code: code})
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for e, err := range run.Events(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		text.WriteString(e.Text)
	}
	return strings.TrimSpace(text.String())
}

func TestAKernelIsAContext(t *testing.T) {
	status, k, header := ask[kernelModel](t, "POST", "/api/kernels", object{"name": "python3", "path": folder(t) + "/not/there", "env": object{"GIVEN": "v"}})
	if status != http.StatusCreated || header.Get("Location") != "/jupyter/api/kernels/"+k.ID {
		t.Fatalf("status %d, Location %q", status, header.Get("Location"))
	}
	if !regexp.MustCompile(`^\w+-\w+-\w+-\w+-\w+$`).MatchString(k.ID) || !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$`).MatchString(k.LastActivity) ||
		k.Name != "python3" || k.State != "idle" || k.Connections == nil {
		t.Errorf("%+v", k)
	}
	if got := printed(t, k.ID, "import os; print(os.getcwd(), os.environ['GIVEN'])"); !strings.HasPrefix(got, filepath.Join(root, "test")) || !strings.HasSuffix(got, " v") {
		t.Errorf("it prints %q", got)
	}
	kernels := get[[]kernelModel](t, http.StatusOK, "GET", "/api/kernels", nil)
	if kernels[0].ID != api.KernelID("local", "default") || kernels[len(kernels)-1].ID != k.ID {
		t.Errorf("kernels %+v", kernels)
	}
	printed(t, k.ID, "x = 1")
	get[object](t, http.StatusNoContent, "POST", "/api/kernels/"+k.ID+"/interrupt", object{})
	if again := get[kernelModel](t, http.StatusOK, "POST", "/api/kernels/"+k.ID+"/restart", object{}); again.ID != k.ID {
		t.Errorf("restarted as %+v", again)
	}
	if got := printed(t, k.ID, "print('x' in globals())"); got != "False" {
		t.Errorf("after the restart: %q", got)
	}
	get[object](t, http.StatusNoContent, "DELETE", "/api/kernels/"+k.ID, nil)
	if e := get[object](t, http.StatusNotFound, "GET", "/api/kernels/"+k.ID, nil); e["message"] != "Kernel does not exist: "+k.ID {
		t.Errorf("%v", e)
	}
}

func TestAContextOfEveryNameIsAKernel(t *testing.T) {
	if _, err := box.CreateContext(t.Context(), agent.ContextOptions{ID: agent.LanguagePrefix + "other"}); err != nil {
		t.Fatal(err)
	}
	at := "/api/kernels/" + api.KernelID("local", agent.LanguagePrefix+"other")
	if k := get[kernelModel](t, http.StatusOK, "GET", at, nil); !regexp.MustCompile(`^\w+-\w+-\w+-\w+-\w+$`).MatchString(k.ID) {
		t.Errorf("%+v", k)
	}
	get[object](t, http.StatusNoContent, "DELETE", at, nil)
}

func TestTheDefaultKernelIsNewWhenItIsShutDown(t *testing.T) {
	id := api.KernelID("local", "default")
	printed(t, id, "mark = 1")
	get[object](t, http.StatusNoContent, "DELETE", "/api/kernels/"+id, nil)
	if got := printed(t, id, "print('mark' in globals())"); got != "False" {
		t.Errorf("it has %q", got)
	}
}

func TestASessionIsAKernelByItsPath(t *testing.T) {
	body := object{"path": folder(t) + "/n.ipynb", "type": "notebook", "name": "n", "kernel": object{"name": "python3"}}
	status, s, header := ask[sessionModel](t, "POST", "/api/sessions", body)
	if status != http.StatusCreated || header.Get("Location") != "/jupyter/api/sessions/"+s.ID || s.Path != body["path"] || s.Notebook.Path != s.Path {
		t.Fatalf("%d %+v", status, s)
	}
	if got := printed(t, s.Kernel.ID, "import os; print(os.environ['JPY_SESSION_NAME'])"); got != s.Path {
		t.Errorf("the kernel's session is %q", got)
	}
	if again := get[sessionModel](t, http.StatusCreated, "POST", "/api/sessions", body); again.ID != s.ID || again.Kernel.ID != s.Kernel.ID {
		t.Errorf("asked again: %+v", again)
	}
	at := "/api/sessions/" + s.ID
	if m := get[sessionModel](t, http.StatusOK, "PATCH", at, object{"path": "renamed.ipynb", "name": ""}); m.Path != "renamed.ipynb" || m.Name != "" || m.Kernel.ID != s.Kernel.ID {
		t.Errorf("renamed: %+v", m)
	}
	m := get[sessionModel](t, http.StatusOK, "PATCH", at, object{"kernel": object{"name": "python3"}})
	if m.Kernel.ID == s.Kernel.ID {
		t.Errorf("it has its old kernel: %+v", m)
	}
	get[object](t, http.StatusNotFound, "GET", "/api/kernels/"+s.Kernel.ID, nil)
	get[object](t, http.StatusNoContent, "DELETE", at, nil)
	get[object](t, http.StatusNotFound, "GET", "/api/kernels/"+m.Kernel.ID, nil)
	get[object](t, http.StatusNotFound, "DELETE", at, nil)
}

func TestASessionEndsWithItsKernel(t *testing.T) {
	s := get[sessionModel](t, http.StatusCreated, "POST", "/api/sessions", object{"notebook": object{"path": "old.ipynb"}, "kernel": object{"id": nil, "name": ""}})
	if s.Type != "notebook" || s.Path != "old.ipynb" {
		t.Errorf("%+v", s)
	}
	_, context, _ := api.ParseKernelID(s.Kernel.ID)
	if err := box.DeleteContext(context); err != nil {
		t.Fatal(err)
	}
	get[object](t, http.StatusGone, "DELETE", "/api/sessions/"+s.ID, nil)
	if all := get[[]sessionModel](t, http.StatusOK, "GET", "/api/sessions", nil); len(all) != 0 {
		t.Errorf("sessions %+v", all)
	}
}

func TestManyWhoOpenANotebookShareItsKernel(t *testing.T) {
	var mu sync.Mutex
	ids := map[string]bool{}
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			_, s, _ := ask[sessionModel](t, "POST", "/api/sessions", object{"path": "shared.ipynb", "type": "notebook"})
			mu.Lock()
			defer mu.Unlock()
			ids[s.ID] = true
		})
	}
	work.Wait()
	if len(ids) != 1 {
		t.Errorf("sessions %v", ids)
	}
	for id := range ids {
		get[object](t, http.StatusNoContent, "DELETE", "/api/sessions/"+id, nil)
	}
}

func TestBadRequestsForKernelsAndSessionsAreRefused(t *testing.T) {
	for _, c := range []struct {
		method, path string
		body         any
		status       int
		says         string
	}{
		{"GET", "/api/kernels/x", nil, 404, "Kernel does not exist: x"},
		{"GET", "/api/kernels/local-gone-k-k-k", nil, 404, "Kernel does not exist"},
		{"GET", "/api/kernels/other-default-k-k-k", nil, 404, "Kernel does not exist"},
		{"GET", "/api/kernels/local-default-k-k-k/channels", nil, 400, ""},
		{"POST", "/api/kernels", object{"name": "cobol"}, 404, "cobol"},
		{"POST", "/api/kernels", object{"env": object{"A=B": "c"}}, 400, "env"},
		{"POST", "/api/kernels", object{"path": "../x"}, 404, "outside"},
		{"POST", "/api/kernels", `[]`, 400, "object"},
		{"POST", "/api/sessions", object{"type": "notebook"}, 400, "path"},
		{"POST", "/api/sessions", object{"path": "x"}, 400, "type"},
		{"POST", "/api/sessions", object{"path": strings.Repeat("x", 5000), "type": "file"}, 400, "path"},
		{"POST", "/api/sessions", object{"path": "x", "type": "file", "kernel": object{"name": "cobol"}}, 501, "cobol"},
		{"POST", "/api/sessions", object{"path": "x", "type": "file", "kernel": object{"id": "gone"}}, 404, "gone"},
		{"GET", "/api/sessions/x", nil, 404, "Session not found"},
		{"GET", "/api/kernelspecs/cobol", nil, 404, "cobol"},
		{"GET", "/kernelspecs/python3/..%2fkernel.json", nil, 404, ""},
		{"GET", "/kernelspecs/python3/kernel.json", nil, 404, ""},
		{"GET", "/api/gone", nil, 404, ""},
		{"PUT", "/api/kernels", nil, 405, ""},
	} {
		status, e, _ := ask[object](t, c.method, c.path, c.body)
		message, _ := e["message"].(string)
		if status != c.status || !strings.Contains(message, c.says) {
			t.Errorf("%s %s %v: %d %v", c.method, c.path, c.body, status, e)
		}
	}
}

func TestKernelspecsHaveWhatClientsShow(t *testing.T) {
	specs := get[api.JupyterSpecs](t, http.StatusOK, "GET", "/api/kernelspecs", nil)
	spec := specs.Specs[specs.Default]
	if spec.Name != "python3" || spec.Spec.Language != "python" || len(spec.Spec.Argv) == 0 || string(spec.Spec.Metadata) != `{"debugger":true}` {
		t.Errorf("%+v", spec)
	}
	logo, ok := strings.CutPrefix(spec.Resources["logo-svg"], "/jupyter")
	if !ok {
		t.Fatalf("resources %v", spec.Resources)
	}
	resp, err := http.Get(site.URL + logo)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if h := resp.Header; resp.StatusCode != http.StatusOK || h.Get("Content-Type") != "image/svg+xml" || h.Get("Content-Security-Policy") == "" {
		t.Errorf("%d %v", resp.StatusCode, h)
	}
}

func TestStatusAndIdentity(t *testing.T) {
	if v := get[object](t, http.StatusOK, "GET", "/api/", nil); v["version"] == "" {
		t.Errorf("%v", v)
	}
	if s := get[object](t, http.StatusOK, "GET", "/api/status", nil); s["kernels"].(float64) < 1 {
		t.Errorf("%v", s)
	}
	me := get[struct{ Permissions map[string][]string }](t, http.StatusOK, "GET", `/api/me?permissions=%7B%22contents%22%3A%5B%22read%22%5D%7D`, nil)
	if len(me.Permissions["contents"]) != 1 {
		t.Errorf("%+v", me)
	}
	get[object](t, http.StatusBadRequest, "GET", "/api/me?permissions=3", nil)
}
