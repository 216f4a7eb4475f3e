package mcp_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
)

func TestDefaultSandboxIsMadeOnce(t *testing.T) {
	for _, protocol := range protocols {
		s := start(t, echo, "")
		u := s.connect(protocol, "", "")
		var wg sync.WaitGroup
		ids := make([]string, 8)
		for i := range ids {
			wg.Go(func() { ids[i] = u.run(object{}) })
		}
		wg.Wait()
		if !slices.Equal(s.running(), slices.Compact(ids)) {
			t.Errorf("calls used %v, there are %v", ids, s.running())
		}
		if result := u.call("sandbox", object{"action": "info"}); !strings.Contains(textOf(result), ids[0]) {
			t.Errorf("info: %s", textOf(result))
		}
	}
}

// Sessions have a sandbox each; clients of the protocol without any share one, unless their URL has a name.
func TestSessionsAreApart(t *testing.T) {
	s := start(t, echo, "")
	one, other := s.connect(protocols[0], "", ""), s.connect(protocols[0], "", "")
	without, too := s.connect(protocols[1], "", ""), s.connect(protocols[1], "", "")
	named, same := s.connect(protocols[1], "", "?session=work"), s.connect(protocols[0], "", "?session=work")
	ids := []string{one.run(object{}), other.run(object{}), without.run(object{}), named.run(object{})}
	if again := []string{one.run(object{}), other.run(object{}), too.run(object{}), same.run(object{})}; !slices.Equal(ids, again) {
		t.Errorf("sandboxes %v, and then %v", ids, again)
	}
	slices.Sort(ids)
	if len(slices.Compact(ids)) != 4 {
		t.Errorf("sandboxes %v, want 4", ids)
	}
}

func TestSandboxesAreNamed(t *testing.T) {
	s := start(t, echo, "")
	u := s.connect(protocols[0], "", "")
	own := u.run(object{})
	other := s.connect(protocols[0], "", "").run(object{})
	if got := u.run(object{"sandbox_id": other}); got != other {
		t.Errorf("%s has answered, want %s", got, other)
	}
	if got := s.connect(protocols[0], "", "?sandbox="+own).run(object{}); got != own {
		t.Errorf("%s has answered, want %s", got, own)
	}
	if _, err := s.Fleet.Pause(t.Context(), own); err != nil {
		t.Fatal(err)
	}
	if text := u.refused(api.Conflict, "run_code", object{"code": "1"}); !strings.Contains(text, "resume") {
		t.Error(text)
	}
	if result := u.call("sandbox", object{"action": "resume"}); result.IsError {
		t.Error(textOf(result))
	}
	u.run(object{})
}

// A model is told when the sandbox that it knew is gone.
func TestNewDefaultSandboxIsTold(t *testing.T) {
	s := start(t, echo, "")
	u := s.connect(protocols[0], "", "")
	first := u.run(object{})
	if err := s.Fleet.Kill(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if text := u.refused(api.Gone, "get_run", object{"run_id": "ex_1"}); !strings.Contains(text, first) {
		t.Error(text)
	}
	result := u.call("run_code", object{"code": "1"})
	second := s.running()[0]
	if text := textOf(result); !strings.Contains(text, "note: sandbox "+first+" was killed") || !strings.Contains(text, second) {
		t.Errorf("it says %q", text)
	}
	if note, _ := result.StructuredContent.(object)["note"].(string); !strings.Contains(note, first) {
		t.Errorf("the note is %q", note)
	}
	if text := textOf(u.call("run_code", object{"code": "1"})); strings.Contains(text, "note:") {
		t.Errorf("it says %q again", text)
	}
	u.refused(api.Gone, "run_code", object{"code": "1", "sandbox_id": first})
}

func TestSessionEndsItsSandbox(t *testing.T) {
	s := start(t, echo, "")
	u, other := s.connect(protocols[0], "", ""), s.connect(protocols[0], "", "")
	u.run(object{})
	left := other.run(object{})
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	if ids := s.running(); !slices.Equal(ids, []string{left}) {
		t.Errorf("there are %v, want %s", ids, left)
	}
}

func TestKeysKeepApart(t *testing.T) {
	s := start(t, echo, "ada:secret-1\nbob:secret-2\n")
	ada, bob := s.connect(protocols[1], "secret-1", ""), s.connect(protocols[1], "secret-2", "")
	its, his := ada.run(object{}), bob.run(object{})
	if its == his {
		t.Error("keys share a sandbox")
	}
	bob.refused(api.NotFound, "run_code", object{"code": "1", "sandbox_id": its})
	for _, action := range []string{"info", "delete", "resume"} {
		bob.refused(api.NotFound, "sandbox", object{"action": action, "sandbox_id": its})
	}
	if text := textOf(bob.call("sandbox", object{"action": "list"})); strings.Contains(text, its) || !strings.Contains(text, his+": running") {
		t.Errorf("bob sees %s", text)
	}
	token := s.connect(protocols[0], s.Fleet.AccessToken(its), "?sandbox="+its)
	if got := token.run(object{}); got != its {
		t.Errorf("the token leads to %s, want %s", got, its)
	}
	token.refused(api.NotFound, "run_code", object{"code": "1", "sandbox_id": his})
	token.refused(api.Forbidden, "sandbox", object{"action": "create"})
	if text := textOf(token.call("sandbox", object{"action": "list"})); strings.Contains(text, his) || !strings.Contains(text, its) {
		t.Errorf("the token sees %s", text)
	}
}

func TestCallersAreChecked(t *testing.T) {
	s := start(t, echo, "ada:secret-1\n")
	id := s.connect(protocols[0], "secret-1", "").run(object{})
	token := s.Fleet.AccessToken(id)
	for _, c := range []struct {
		query  string
		status int
		header []string
	}{
		{"", 401, nil},
		{"", 401, []string{"Authorization", "Bearer wrong"}},
		{"", 401, []string{"X-API-Key", token}},
		{"?sandbox=sb_other", 401, []string{"X-API-Key", token}},
		{"?sandbox=" + id, 200, []string{"X-API-Key", token}},
		{"", 200, []string{"X-API-Key", "secret-1"}},
		{"", 400, []string{"X-API-Key", "secret-1", "Mcp-Session-Id", "a b"}},
		{"?session=" + strings.Repeat("a", 200), 400, []string{"X-API-Key", "secret-1"}},
		{"", 403, []string{"X-API-Key", "secret-1", "Origin", "https://evil.example"}},
		{"", 415, []string{"X-API-Key", "secret-1", "Content-Type", "text/plain"}},
	} {
		req, _ := http.NewRequest("POST", s.URL+"/mcp"+c.query, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
		for i := 0; i < len(c.header); i += 2 {
			req.Header.Set(c.header[i], c.header[i+1])
		}
		resp, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.status || (c.status == 401) != (resp.Header.Get("WWW-Authenticate") != "") {
			t.Errorf("%q %v: %d %s, want %d", c.query, c.header, resp.StatusCode, body, c.status)
		}
	}
}

func TestSandboxTool(t *testing.T) {
	s := start(t, echo, "")
	u := s.connect(protocols[0], "", "")
	made := u.call("sandbox", object{"action": "create", "timeout_s": 100, "metadata": object{"for": "tests"}})
	id, _ := made.StructuredContent.(object)["sandbox_id"].(string)
	if info, err := s.Fleet.Get(id); err != nil || info.Timeout.Seconds() != 100 || info.Metadata["for"] != "tests" {
		t.Fatalf("%s: %v, %+v", textOf(made), err, info)
	}
	if text := textOf(made); strings.Contains(text, "sbt_") {
		t.Errorf("it says a token: %s", text)
	}
	u.call("sandbox", object{"action": "extend", "sandbox_id": id, "timeout_s": 200})
	if info, _ := s.Fleet.Get(id); info.Timeout.Seconds() != 200 {
		t.Errorf("its timeout is %v", info.Timeout)
	}
	exposed := u.call("sandbox", object{"action": "expose_port", "sandbox_id": id, "port": 8000}).StructuredContent.(object)
	if want := s.URL + "/v1/sandboxes/" + id + "/ports/8000/"; exposed["url"] != want {
		t.Errorf("the port is at %v, want %s", exposed["url"], want)
	}
	u.call("sandbox", object{"action": "delete", "sandbox_id": id})
	if page, _ := s.Fleet.List(fleet.ListOptions{}); len(page.Sandboxes) > 0 {
		t.Errorf("there is %v", page.Sandboxes)
	}
	u.refused(api.Gone, "sandbox", object{"action": "info", "sandbox_id": id})
}
