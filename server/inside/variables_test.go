package inside_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/fixtures"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/inside"
)

// variables asks for the variables of a context, by name.
func variables(t *testing.T, path string) map[string]executor.Variable {
	t.Helper()
	byName := map[string]executor.Variable{}
	for _, v := range get[executor.Variables](t, call(t, "GET", path, nil), 200).Variables {
		byName[v.Name] = v
	}
	return byName
}

func TestVariables(t *testing.T) {
	info := newContext(t, api.ContextRequest{})
	path := "/v1/contexts/" + info.ContextID + "/variables"
	if got := read(t, call(t, "GET", path, nil)); got != `{"variables":[],"truncated":false}`+"\n" {
		t.Errorf("got %s", got)
	}
	const code = `
import numpy
numbers = list(range(100))
grid = numpy.zeros((3, 4))
class Point:
    def __init__(self): self.x = 1
    def __repr__(self): print("not to be run"); raise SystemExit
point = Point()
`
	runs(t, api.RunRequest{Context: info.ContextID, Code: code}).end(t, executor.OK)
	got := variables(t, path)
	if v := got["numbers"]; v.Type != "list" || *v.Length != 100 || v.Repr != "[0, 1, 2, 3, 4, 5, …]" || v.Module != "" || *v.Size < 800 {
		t.Errorf("got %+v", v)
	}
	if v := got["grid"]; !slices.Equal(v.Shape, []int64{3, 4}) || v.Dtype != "float64" || *v.Size != 96 {
		t.Errorf("got %+v", v)
	}
	if v := got["point"]; v.Kind != "variable" || v.Module != "__main__" || v.Repr != "Point(x=1)" {
		t.Errorf("got %+v", v)
	}
	if got["Point"].Kind != "class" || got["numpy"].Kind != "module" || len(got) != 5 {
		t.Errorf("got %+v", got)
	}
	refused(t, call(t, "GET", "/v1/contexts/nowhere/variables", nil), 404, api.NotFound)
}

// A kernel that runs a cell answers when that is over.
func TestVariablesTakeTheirTurn(t *testing.T) {
	info := newContext(t, api.ContextRequest{})
	open := runs(t, api.RunRequest{Context: info.ContextID, Code: "given = input()", AllowStdin: true})
	open.until(t, executor.Input)
	asked := make(chan *http.Response)
	go func() {
		resp, _ := http.Get(site.URL + "/v1/contexts/" + info.ContextID + "/variables")
		asked <- resp
	}()
	if resp := call(t, "POST", "/v1/executions/"+open.id+"/input", api.InputRequest{Value: "Ada"}); resp.StatusCode != 204 {
		t.Errorf("status %d", resp.StatusCode)
	}
	resp := <-asked
	defer resp.Body.Close()
	if got := get[executor.Variables](t, resp, 200).Variables; len(got) != 1 || got[0].Repr != "'Ada'" {
		t.Errorf("got %+v", got)
	}
	open.end(t, executor.OK)
}

// A kernel that takes too long is not waited for, and answers the next question.
func TestVariablesOfABusyKernel(t *testing.T) {
	info := newContext(t, api.ContextRequest{})
	path := "/v1/contexts/" + info.ContextID + "/variables"
	open := runs(t, api.RunRequest{Context: info.ContextID, Code: "given = input()", AllowStdin: true})
	open.until(t, executor.Input)
	hasty := httptest.NewServer(inside.New(box, server.Options{AskTimeout: time.Millisecond}))
	defer hasty.Close()
	resp, err := hasty.Client().Get(hasty.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	refused(t, resp, 504, api.DeadlineExceeded)
	call(t, "POST", "/v1/executions/"+open.id+"/input", api.InputRequest{Value: "Ada"})
	open.end(t, executor.OK)
	if got := variables(t, path)["given"]; got.Repr != "'Ada'" {
		t.Errorf("got %+v", got)
	}
}

func TestVariablesOfAnotherKernel(t *testing.T) {
	all, err := fixtures.All()
	if err != nil {
		t.Fatal(err)
	}
	bash := all[slices.IndexFunc(all, func(f *fixtures.Fixture) bool { return f.Name == "bash-cell" })]
	c := executor.New("default", bash.Replay(fixtures.Recorded), bash.Options())
	defer c.Close(executor.Aborted)
	srv := httptest.NewServer(inside.Serve(&replayed{c: c, runs: map[string]*executor.Execution{}}, server.Options{}))
	defer srv.Close()
	resp, err := srv.Client().Get(srv.URL + "/v1/contexts/default/variables")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	refused(t, resp, 422, api.Unprocessable)
}
