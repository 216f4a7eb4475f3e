package e2b_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/k2sandbox/k2sandbox/internal/servertest"
	"github.com/k2sandbox/k2sandbox/server/e2b"
)

func TestDebugPorts(t *testing.T) {
	s := start(t, echo, nil)
	at := map[int]*httptest.Server{}
	for _, port := range e2b.DebugPorts {
		at[port] = httptest.NewServer(s.api.Debug(port))
		defer at[port].Close()
	}
	main := s.Server
	defer func() { s.Server = main }()
	on := func(port int, method, path, body string, headers ...string) *http.Response {
		t.Helper()
		s.Server = at[port]
		return s.call(method, path, body, headers...)
	}
	// New clients name a sandbox that they have not created.
	first := servertest.Decode[asked](t, on(49983, "GET", "/files?path=x", "", "E2b-Sandbox-Id", "debug_sandbox_id", "E2b-Sandbox-Port", "49983"), 200)
	if first.URI != "/e2b/envd/files?path=x" {
		t.Errorf("got %+v", first)
	}
	if got := servertest.Decode[asked](t, on(49999, "POST", "/execute", "{}"), 200); got.ID != first.ID || got.URI != "/e2b/interpreter/execute" {
		t.Errorf("got %+v", got)
	}
	if got := servertest.Decode[box](t, on(3000, "GET", "/sandboxes/debug_sandbox_id", ""), 200); got.SandboxID != first.ID {
		t.Errorf("got %+v", got)
	}
	// Old ones create one, and then name it, or not.
	servertest.Decode[made](t, on(3000, "POST", "/sandboxes", `{"templateID":"base","secure":false}`), 201) // and leave it
	m := servertest.Decode[made](t, on(3000, "POST", "/sandboxes", `{"templateID":"base","secure":false}`), 201)
	for name, headers := range map[string][]string{"nothing": nil, "its id": m.to("49999"), "its id alone": {"E2b-Sandbox-Id", m.SandboxID}} {
		if got := servertest.Decode[asked](t, on(49999, "POST", "/execute", "{}", headers...), 200); got.ID != m.SandboxID {
			t.Errorf("by %s it gets %s, want %s", name, got.ID, m.SandboxID)
		}
	}
	secure := servertest.Decode[made](t, on(3000, "POST", "/sandboxes", `{"templateID":"base","secure":true}`), 201)
	if got := servertest.Decode[asked](t, on(49999, "POST", "/execute", "{}", "X-Access-Token", secure.EnvdAccessToken), 200); got.ID != secure.SandboxID || got.URI != "/e2b/interpreter/execute" {
		t.Errorf("got %+v", got)
	}
	if got := servertest.Decode[asked](t, on(49983, "POST", "/process.Process/List", "{}"), 200); got.ID != m.SandboxID {
		t.Errorf("what has no token gets %s, want %s", got.ID, m.SandboxID)
	}
	if err := s.Fleet.Kill(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	if got := servertest.Decode[asked](t, on(49983, "GET", "/health", "", "E2b-Sandbox-Id", "debug_sandbox_id"), 200); got.ID == first.ID {
		t.Error("it is the one that has ended")
	}
	refused(t, on(3000, "GET", "/nowhere", ""), 404)
	refused(t, on(49983, "GET", "/x", "", "E2b-Sandbox-Id", "sb_x"), 502)
}
