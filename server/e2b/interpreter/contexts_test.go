package interpreter_test

import (
	"net/http"
	"path/filepath"
	"slices"
	"testing"
)

type contextInfo struct{ ID, Language, Cwd string }

func TestContexts(t *testing.T) {
	p := shared
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c := get[contextInfo](t, p, "POST", "/contexts", object{"language": "Python", "cwd": dir})
	if c.ID == "" || c.Language != "python" || c.Cwd != dir {
		t.Errorf("context %+v", c)
	}
	all := get[[]contextInfo](t, p, "GET", "/contexts", nil)
	if all[0].ID != "default" || all[0].Language != "python" || all[0].Cwd == "" || all[len(all)-1] != c {
		t.Errorf("contexts %+v", all)
	}

	in := object{"context_id": c.ID}
	if e := p.run(t, "x = 1\nimport os\nos.getcwd()", in); e.Results[0]["text"] != dir || e.Count != 1.0 {
		t.Errorf("first run %+v", e)
	}
	if e := p.run(t, "x", in); e.Results[0]["text"] != "1" || e.Count != 2.0 {
		t.Errorf("second run %+v", e)
	}
	if e := p.run(t, "'x' in globals() and x == 1"); e.Results[0]["text"] != "False" {
		t.Errorf("contexts share variables")
	}

	s := p.open(t.Context(), t, request("print('begun'); os.chdir('/'); import time; time.sleep(300)", in))
	s.until(t, "stdout")
	if got := get[any](t, p, "POST", "/contexts/"+c.ID+"/restart", nil); got != nil {
		t.Errorf("restart: %v", got)
	}
	if e := s.rest(t); e.Error["name"] != "ContextRestarting" || e.Error["value"] != "Context was restarted" {
		t.Errorf("a run that was restarted: %v", e.Error)
	}
	if e := p.run(t, "import os\nos.getcwd(), 'x' in globals()", in); e.Results[0]["text"] != "('"+dir+"', False)" || e.Count != 1.0 {
		t.Errorf("after the restart %+v", e)
	}

	if got := get[any](t, p, "DELETE", "/contexts/"+c.ID, nil); got != nil {
		t.Errorf("remove: %v", got)
	}
	if status, words := p.ask(t, "POST", "/execute", request("1", in)); status != http.StatusNotFound {
		t.Errorf("%d %s", status, words)
	}
	all = get[[]contextInfo](t, p, "GET", "/contexts", nil)
	if slices.Contains(all, c) {
		t.Errorf("contexts %+v", all)
	}
}
