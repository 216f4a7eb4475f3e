package jupyter_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/internal/servertest"
)

func TestASessionHasItsSandbox(t *testing.T) {
	s := start(t, nil)
	resp := s.call("POST", "/api/sessions", `{"path":"a/b.ipynb","name":"b","type":"notebook","kernel":{"name":"python3"}}`)
	one := servertest.Decode[api.JupyterSession](t, resp, 201)
	if one.Path != "a/b.ipynb" || one.Type != "notebook" || !uuid.MatchString(one.ID) || !uuid.MatchString(one.Kernel.ID) || resp.Header.Get("Location") != "/api/sessions/"+one.ID {
		t.Errorf("got %+v at %s", one, resp.Header.Get("Location"))
	}
	if again := servertest.Decode[api.JupyterSession](t, s.call("POST", "/api/sessions", `{"path":"a/b.ipynb","type":"notebook","kernel":{"name":"bash"}}`), 201); again.ID != one.ID {
		t.Errorf("the path has another session: %+v", again)
	}
	old := servertest.Decode[api.JupyterSession](t, s.call("POST", "/api/sessions", `{"notebook":{"path":"old.ipynb"},"kernel":{"name":"bash"}}`), 201)
	if old.Type != "notebook" || old.Kernel.Name != "bash" {
		t.Errorf("got %+v", old)
	}
	if all := servertest.Decode[[]api.JupyterSession](t, s.call("GET", "/api/sessions", ""), 200); len(all) != 2 {
		t.Errorf("listed %+v", all)
	}
	if got := servertest.Decode[api.JupyterSession](t, s.call("GET", "/api/sessions/"+one.ID, ""), 200); got.ID != one.ID {
		t.Errorf("got %+v", got)
	}
	for _, each := range []api.JupyterSession{one, old} {
		servertest.Done(t, s.call("DELETE", "/api/sessions/"+each.ID, ""))
		if state := s.state(sandboxOf(each.Kernel)); state != fleet.Ended {
			t.Errorf("the sandbox of %s is %s", each.Path, state)
		}
		refused(t, s.call("DELETE", "/api/sessions/"+each.ID, ""), 404)
	}
}

func TestASessionOfAKernelThatThereIs(t *testing.T) {
	s := start(t, nil)
	k := s.kernel("")
	one := servertest.Decode[api.JupyterSession](t, s.call("POST", "/api/sessions", `{"path":"a","type":"console","kernel":{"id":"`+k.ID+`"}}`), 201)
	if one.Kernel.ID != k.ID {
		t.Errorf("got %+v", one)
	}
	if got := s.kernels(); len(got) != 1 {
		t.Errorf("there are %v", got)
	}
	info := s.native("")
	other := servertest.Decode[api.JupyterSession](t, s.call("POST", "/api/sessions?sandbox="+info.ID, `{"path":"b","type":"console"}`), 201)
	if sandboxOf(other.Kernel) != info.ID {
		t.Errorf("it is in %s", other.Kernel.ID)
	}
}

func TestSessionsThatCannotBe(t *testing.T) {
	s := start(t, nil)
	for body, want := range map[string]string{`{"type":"notebook"}`: "path", `{"path":"x"}`: "type", `{"path":1}`: "path", `{"path":"x","type":"n","kernel":[]}`: "kernel"} {
		if got := refused(t, s.call("POST", "/api/sessions", body), 400); !strings.Contains(got, want) {
			t.Errorf("%s: told %q", body, got)
		}
	}
	for _, name := range []string{"cobol", "nothing"} {
		if got := refused(t, s.call("POST", "/api/sessions", `{"path":"x","type":"notebook","kernel":{"name":"`+name+`"}}`), 501); !strings.Contains(got, name) {
			t.Errorf("told %q", got)
		}
	}
	for _, id := range []string{"x", "sb_nobody-default-k-k-k"} {
		refused(t, s.call("POST", "/api/sessions", `{"path":"x","type":"notebook","kernel":{"id":"`+id+`"}}`), 404)
	}
	for _, id := range []string{"x", "a-b-c-d-e", "sb_nobody-1-s-s-s"} {
		refused(t, s.call("GET", "/api/sessions/"+id, ""), 404)
		refused(t, s.call("PATCH", "/api/sessions/"+id, "{}"), 404)
	}
	if page, err := s.Fleet.List(fleet.ListOptions{}); err != nil || len(page.Sandboxes) != 0 {
		t.Errorf("left %+v, %v", page, err)
	}
}

func TestManyWantTheSameSession(t *testing.T) {
	s := start(t, nil)
	ids := make([]string, 8)
	var work sync.WaitGroup
	for i := range ids {
		work.Go(func() {
			ids[i] = servertest.Decode[api.JupyterSession](t, s.call("POST", "/api/sessions", `{"path":"a.ipynb","type":"notebook"}`), 201).ID
		})
	}
	work.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("there are %v", ids)
		}
	}
}
