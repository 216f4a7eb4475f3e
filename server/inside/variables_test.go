package inside_test

import (
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
func variables(t *testing.T, id string) map[string]executor.Variable {
	t.Helper()
	byName := map[string]executor.Variable{}
	for _, v := range must[executor.Variables](t)(c.Variables(t.Context(), id)).Variables {
		byName[v.Name] = v
	}
	return byName
}

func TestVariables(t *testing.T) {
	info := newContext(t, api.ContextRequest{})
	if got := read(t, call(t, "GET", "/v1/contexts/"+info.ContextID+"/variables", nil)); got != `{"variables":[],"truncated":false}`+"\n" {
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
	got := variables(t, info.ContextID)
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
	_, err := c.Variables(t.Context(), "nowhere")
	refuses(t, err, 404, api.NotFound)
}

// A kernel that runs a cell answers when that is over.
func TestVariablesTakeTheirTurn(t *testing.T) {
	info := newContext(t, api.ContextRequest{})
	open := runs(t, api.RunRequest{Context: info.ContextID, Code: "given = input()", AllowStdin: true})
	open.until(t, executor.Input)
	asked := make(chan executor.Variables)
	go func() {
		got, _ := c.Variables(t.Context(), info.ContextID)
		asked <- got
	}()
	if err := c.Input(t.Context(), open.id, "Ada"); err != nil {
		t.Error(err)
	}
	if got := (<-asked).Variables; len(got) != 1 || got[0].Repr != "'Ada'" {
		t.Errorf("got %+v", got)
	}
	open.end(t, executor.OK)
}

// A kernel that takes too long is not waited for, and answers the next question.
func TestVariablesOfABusyKernel(t *testing.T) {
	info := newContext(t, api.ContextRequest{})
	open := runs(t, api.RunRequest{Context: info.ContextID, Code: "given = input()", AllowStdin: true})
	open.until(t, executor.Input)
	hasty := httptest.NewServer(inside.New(box, server.Options{AskTimeout: time.Millisecond}))
	defer hasty.Close()
	resp, err := hasty.Client().Get(hasty.URL + "/v1/contexts/" + info.ContextID + "/variables")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	refused(t, resp, 504, api.DeadlineExceeded)
	if err := c.Input(t.Context(), open.id, "Ada"); err != nil {
		t.Error(err)
	}
	open.end(t, executor.OK)
	if got := variables(t, info.ContextID)["given"]; got.Repr != "'Ada'" {
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
