package sandboxes_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/internal/servertest"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/sandboxes"
)

// locked starts a server with the keys of ada, who has two, and of bob.
func locked(t *testing.T, quota fleet.Quota) *site {
	t.Helper()
	return start(t, handler(http.HandlerFunc(echo)), func(o *sandboxes.Options, f *fleet.Options) {
		var err error
		if o.Keys, err = server.ReadKeys(strings.NewReader("ada:key-of-ada\nada:new-key-of-ada\nbob:key-of-bob")); err != nil {
			t.Fatal(err)
		}
		f.Quota = func(owner string) fleet.Quota {
			if owner == "bob" {
				return quota
			}
			return fleet.Quota{}
		}
	})
}

func TestSandboxesBelongToTheirKeys(t *testing.T) {
	s := locked(t, fleet.Quota{})
	ada, again, bob := []string{"X-Api-Key", "key-of-ada"}, []string{"Authorization", "Bearer new-key-of-ada"}, []string{"X-Api-Key", "key-of-bob"}
	made := servertest.Decode[api.Sandbox](t, s.call(t, "POST", "/v1/sandboxes", "{}", ada...), 201)
	path := "/v1/sandboxes/" + made.SandboxID
	token, other := []string{"X-Api-Key", made.AccessToken}, "/v1/sandboxes/"+s.create(t, bob...)
	for _, caller := range [][]string{ada, again, token} {
		if got := servertest.Decode[api.Sandbox](t, s.call(t, "GET", path, "", caller...), 200); got.SandboxID != made.SandboxID {
			t.Errorf("got %+v", got)
		}
		if got := servertest.Read(t, s.call(t, "POST", path+"/code", "{}", caller...)); !strings.HasPrefix(got, "POST /v1/code\n") {
			t.Errorf("got %s", got)
		}
		servertest.Decode[api.Sandbox](t, s.call(t, "POST", path+"/timeout", `{"timeout":60}`, caller...), 200)
	}
	if list := servertest.Decode[api.Sandboxes](t, s.call(t, "GET", "/v1/sandboxes", "", again...), 200); len(list.Sandboxes) != 1 || list.Sandboxes[0].SandboxID != made.SandboxID {
		t.Errorf("got %+v", list)
	}
	for _, call := range [][2]string{{"GET", path}, {"GET", path + "/metrics"}, {"DELETE", path}, {"POST", path + "/close"}, {"POST", path + "/pause"}, {"POST", path + "/code"}, {"GET", path + "/ports/80/"}, {"POST", path + "/timeout"}} {
		body := map[string]string{path + "/timeout": `{"timeout":1}`}[call[1]]
		refused(t, s.call(t, call[0], call[1], body, bob...), 404, api.NotFound)
		refused(t, s.call(t, call[0], call[1], body), 401, api.Unauthenticated)
		refused(t, s.call(t, call[0], strings.Replace(call[1], path, other, 1), body, token...), 401, api.Unauthenticated)
	}
	refused(t, s.call(t, "GET", "/v1/sandboxes", "", token...), 401, api.Unauthenticated)
	refused(t, s.call(t, "POST", "/v1/sandboxes", "{}", token...), 401, api.Unauthenticated)
	if resp := s.call(t, "DELETE", path, "", token...); resp.StatusCode != 204 {
		t.Errorf("status %d", resp.StatusCode)
	}
	refused(t, s.call(t, "GET", path, "", token...), 410, api.Gone)
	refused(t, s.call(t, "GET", path, "", again...), 410, api.Gone)
	for _, call := range [][2]string{{"GET", path}, {"GET", path + "/metrics"}, {"DELETE", path}, {"POST", path + "/code"}} {
		refused(t, s.call(t, call[0], call[1], "", bob...), 404, api.NotFound)
	}
	for _, secret := range []string{"key-of-ada", "key-of-bob", made.AccessToken} {
		if strings.Contains(s.Log.String(), secret) {
			t.Errorf("the log has %s", secret)
		}
	}
	if !strings.Contains(s.Log.String(), `"did":"create","sandbox":"`+made.SandboxID+`","by":"ada"`) || !strings.Contains(s.Log.String(), `"did":"kill","sandbox":"`+made.SandboxID+`","by":"access token"`) {
		t.Error("the log has not who did it")
	}
}

// No key gets inside, whichever way it came.
func TestKeysStayOutside(t *testing.T) {
	s := locked(t, fleet.Quota{})
	made := servertest.Decode[api.Sandbox](t, s.call(t, "POST", "/v1/sandboxes", "{}", "X-Api-Key", "key-of-ada"), 201)
	path := "/v1/sandboxes/" + made.SandboxID
	for _, headers := range [][]string{
		{"X-Api-Key", "key-of-ada"}, {"Authorization", "Bearer key-of-ada"}, {"Authorization", "Bearer " + made.AccessToken},
		{"X-Api-Key", "key-of-ada", "Authorization", "Bearer key-of-bob"}, {"X-Api-Key", "key-of-ada", "Authorization", "bearer " + made.AccessToken},
	} {
		for _, rest := range []string{"/code", "/ports/80/"} {
			got := strings.ToLower(servertest.Read(t, s.call(t, "GET", path+rest, "", headers...)))
			if strings.Contains(got, "authorization") || strings.Contains(got, "api-key") || strings.Contains(got, "key-of") || strings.Contains(got, strings.ToLower(made.AccessToken)) {
				t.Errorf("%q: got %s", headers, got)
			}
		}
	}
	theirs := []string{"X-Api-Key", "key-of-ada", "Authorization", "Basic eDp5"}
	if got := servertest.Read(t, s.call(t, "GET", path+"/ports/80/", "", theirs...)); !strings.Contains(got, "Authorization: Basic eDp5") {
		t.Errorf("what is for the server inside stays outside: %s", got)
	}
	if got := servertest.Read(t, s.call(t, "GET", path+"/code", "", theirs...)); strings.Contains(got, "Authorization") {
		t.Errorf("got %s", got)
	}
}

func TestLimitsOfKeys(t *testing.T) {
	s := locked(t, fleet.Quota{Sandboxes: 2})
	bob := []string{"X-Api-Key", "key-of-bob"}
	id := s.create(t, bob...)
	s.create(t, bob...)
	resp := s.call(t, "POST", "/v1/sandboxes", "{}", bob...)
	refused(t, resp, 429, api.LimitReached)
	if resp.Header.Get("Retry-After") != "5" {
		t.Errorf("Retry-After %q", resp.Header.Get("Retry-After"))
	}
	s.create(t, "X-Api-Key", "key-of-ada")
	s.call(t, "DELETE", "/v1/sandboxes/"+id, "", bob...)
	s.create(t, bob...)

	slow := locked(t, fleet.Quota{Rate: 0.001, Burst: 1})
	slow.create(t, bob...)
	resp = slow.call(t, "POST", "/v1/sandboxes", "{}", bob...)
	refused(t, resp, 429, api.LimitReached)
	if wait := resp.Header.Get("Retry-After"); len(wait) < 3 {
		t.Errorf("Retry-After %q", wait)
	}
	slow.create(t, "X-Api-Key", "key-of-ada")
}

// Where a key would go along, no redirect leads to another host.
func TestRedirectsTakeNoKeyAlong(t *testing.T) {
	s := start(t, handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "https://example.org/")
		w.WriteHeader(http.StatusFound)
	})), func(o *sandboxes.Options, _ *fleet.Options) {
		o.Keys, _ = server.ReadKeys(strings.NewReader("ada:key-of-ada"))
	})
	id := s.create(t, "X-Api-Key", "key-of-ada")
	if resp := s.call(t, "GET", "/v1/sandboxes/"+id+"/ports/80/", "", "X-Api-Key", "key-of-ada"); resp.StatusCode != 302 || resp.Header.Get("Location") != "" {
		t.Errorf("status %d, %q", resp.StatusCode, resp.Header.Get("Location"))
	}
}
