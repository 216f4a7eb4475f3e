package e2b_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/internal/servertest"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/e2b"
)

// box is what is told of a sandbox.
type box struct {
	TemplateID, SandboxID, ClientID, Alias, EnvdVersion, EnvdAccessToken, PauseMode, State string

	StartedAt, EndAt               time.Time
	CPUCount, MemoryMB, DiskSizeMB int
	Metadata                       map[string]string
	AllowInternetAccess            bool
	Domain                         *string
	Lifecycle                      struct {
		AutoResume bool
		OnTimeout  string
	}
}

func (s *site) get(id string) box {
	s.t.Helper()
	return servertest.Decode[box](s.t, s.control("GET", "/sandboxes/"+id, ""), http.StatusOK)
}

func TestKeys(t *testing.T) {
	s := start(t, echo, nil)
	refused(t, s.call("GET", "/v2/sandboxes", ""), 401)
	servertest.Decode[[]box](t, s.call("GET", "/v2/sandboxes", "", "X-API-KEY", "anything"), 200)
	servertest.Decode[[]box](t, s.call("GET", "/v2/sandboxes", "", "Authorization", "Bearer anything"), 200)
	servertest.Decode[map[string]string](t, s.call("GET", "/health", ""), 200)

	s = keyed(t)
	refused(t, s.call("GET", "/v2/sandboxes", ""), 401)
	refused(t, s.call("GET", "/v2/sandboxes", "", "X-API-KEY", "e2b_00"), 401)
	refused(t, s.call("POST", "/v2/sandboxes", `{"templateID":"base"}`, "X-API-KEY", "e2b_00"), 401)
	servertest.Decode[map[string]string](t, s.call("GET", "/health", ""), 200)
	m := s.create(`{"templateID":"base"}`)
	if m.TrafficAccessToken == nil || *m.TrafficAccessToken == m.EnvdAccessToken {
		t.Errorf("got %+v", m)
	}
	if got := s.Log.String(); strings.Contains(got, s.key) || strings.Contains(got, m.EnvdAccessToken) {
		t.Error("a secret is in the log")
	}
}

const (
	adaKey = "e2b_ada0000000000000000000000000000000000000"
	bobKey = "e2b_b0b0000000000000000000000000000000000000"
)

// keyed is a server with two owners, of whom requests are Ada's.
func keyed(t *testing.T) *site {
	keys, err := server.ReadKeys(strings.NewReader("ada:" + adaKey + "\nbob:" + bobKey))
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, echo, func(o *e2b.Options, _ *fleet.Options) { o.Keys = keys })
	s.key = adaKey
	return s
}

func TestOwnersAreKeptApart(t *testing.T) {
	s := keyed(t)
	ada, dead := s.create(`{"templateID":"base"}`), s.create(`{"templateID":"base"}`)
	servertest.Done(t, s.control("DELETE", "/sandboxes/"+dead.SandboxID, ""))
	bob := s.create(`{"templateID":"base"}`, "X-API-KEY", bobKey)
	s.key = bobKey
	for _, id := range []string{ada.SandboxID, dead.SandboxID} {
		for _, call := range [][3]string{
			{"GET", "", ""}, {"DELETE", "", ""}, {"POST", "/timeout", `{"timeout":1}`}, {"POST", "/connect", `{"timeout":1}`}, {"POST", "/pause", "{}"},
			{"POST", "/resume", "{}"}, {"GET", "/metrics", ""}, {"PUT", "/network", "{}"}, {"POST", "/snapshots", "{}"}, {"POST", "/fork", "{}"},
		} {
			if got := refused(t, s.control(call[0], "/sandboxes/"+id+call[1], call[2]), 404); strings.Contains(got.Message, "killed") {
				t.Errorf("%s %s tells: %s", call[0], call[1], got.Message)
			}
		}
	}
	if got := servertest.Decode[[]box](t, s.control("GET", "/v2/sandboxes", ""), 200); len(got) != 1 || got[0].SandboxID != bob.SandboxID {
		t.Errorf("Bob sees %+v", got)
	}
	if got := refused(t, s.control("GET", "/sandboxes/"+dead.SandboxID, "", "X-API-KEY", adaKey), 404); !strings.Contains(got.Message, "was killed at") {
		t.Errorf("Ada is told %q", got.Message)
	}
	for _, port := range []string{"49983", "49999", "8000"} {
		for _, of := range [][]string{nil, {"X-API-KEY", bobKey}, {"X-Access-Token", bob.EnvdAccessToken, "E2B-Traffic-Access-Token", *bob.TrafficAccessToken}} {
			got := refused(t, s.call("GET", "/health", "", dead.to(port, of...)...), 502)
			if want := `The sandbox was not found: cannot find sandbox "` + dead.SandboxID + `"`; got.Message != want {
				t.Errorf("port %s tells who has %q: %s", port, of, got.Message)
			}
		}
		for _, of := range [][]string{{"X-Access-Token", dead.EnvdAccessToken}, {"E2B-Traffic-Access-Token", *dead.TrafficAccessToken}} {
			if got := refused(t, s.call("GET", "/health", "", dead.to(port, of...)...), 502); !strings.Contains(got.Message, "was killed at") {
				t.Errorf("port %s tells the owner's client %q", port, got.Message)
			}
		}
	}
	// Both APIs have the same sandboxes, and the same owners.
	if resp := s.call("GET", "/v1/sandboxes/"+ada.SandboxID, "", "X-API-KEY", adaKey); resp.StatusCode != 200 {
		t.Errorf("the native API does not find it: %s", servertest.Read(t, resp))
	}
	if resp := s.call("GET", "/v1/sandboxes/"+ada.SandboxID, "", "X-API-KEY", bobKey); resp.StatusCode != 404 {
		t.Errorf("the native API finds it: %s", servertest.Read(t, resp))
	}
}

func TestLifecycle(t *testing.T) {
	s := start(t, echo, nil)
	m := s.create(`{"templateID":"base","timeout":600}`)
	one := "/sandboxes/" + m.SandboxID
	ends := s.get(m.SandboxID).EndAt
	if got := servertest.Decode[made](t, s.control("POST", "/v2"+one+"/connect", `{"timeout":60}`), 200); got != m {
		t.Errorf("got %+v, want %+v", got, m)
	}
	if got := s.get(m.SandboxID).EndAt; !got.Equal(ends) {
		t.Errorf("a shorter timeout moved the end from %v to %v", ends, got)
	}
	servertest.Decode[made](t, s.control("POST", one+"/connect", `{"timeout":3600}`), 200)
	if got := s.get(m.SandboxID).EndAt; got.Sub(ends) < 2000*time.Second {
		t.Errorf("a longer timeout moved the end from %v to %v", ends, got)
	}
	servertest.Done(t, s.control("POST", one+"/timeout", `{"timeout":60}`))
	if got := s.get(m.SandboxID).EndAt; !got.Before(ends) {
		t.Errorf("the end is %v, want one before %v", got, ends)
	}
	refused(t, s.control("POST", one+"/resume", `{"timeout":60}`), 409)

	servertest.Done(t, s.control("POST", one+"/pause", ``))
	refused(t, s.control("POST", one+"/pause", `{}`), 409)
	refused(t, s.control("POST", one+"/timeout", `{"timeout":60}`), 409)
	if got := s.get(m.SandboxID); got.State != "paused" || got.PauseMode != "full" {
		t.Errorf("got %+v", got)
	}
	if got := refused(t, s.call("GET", "/health", "", m.to("49983")...), 502); !strings.Contains(got.Message, "was not found") || got.SandboxID != m.SandboxID {
		t.Errorf("got %+v", got)
	}
	if got := servertest.Decode[made](t, s.control("POST", "/v2"+one+"/connect", `{"timeout":60}`), 201); got != m {
		t.Errorf("got %+v, want %+v", got, m)
	}
	if left := time.Until(s.get(m.SandboxID).EndAt); left > 61*time.Second {
		t.Errorf("it has %v", left)
	}
	servertest.Decode[asked](t, s.call("GET", "/health", "", m.to("49983")...), 200)
	servertest.Done(t, s.control("POST", one+"/pause", `{"requireHealthyGuest":true}`))
	servertest.Decode[made](t, s.control("POST", one+"/resume", `{"timeout":600,"autoPause":true}`), 201)
	if got := s.get(m.SandboxID); got.Lifecycle.OnTimeout != "pause" {
		t.Errorf("got %+v", got)
	}

	servertest.Done(t, s.control("DELETE", one+"-client", ""))
	refused(t, s.control("DELETE", one, ""), 404)
	refused(t, s.control("POST", "/v2"+one+"/connect", `{}`), 404)
	got := refused(t, s.call("GET", "/health", "", m.to("49983")...), 502)
	if !strings.Contains(got.Message, "The sandbox was not found") || !strings.Contains(got.Message, "was killed at") {
		t.Errorf("got %+v", got)
	}
}

// A timeout of 0 is one that is over.
func TestTimeoutNow(t *testing.T) {
	s := start(t, echo, nil)
	m := s.create(`{"templateID":"base"}`)
	_, box, err := s.Fleet.Use(m.SandboxID)
	if err != nil {
		t.Fatal(err)
	}
	servertest.Done(t, s.control("POST", "/sandboxes/"+m.SandboxID+"/timeout", `{"timeout":0}`))
	<-box.Done()
	if got := refused(t, s.call("GET", "/health", "", m.to("49983")...), 502); !strings.Contains(got.Message, "timed out") {
		t.Errorf("got %+v", got)
	}
}

// One that is ending has ended, for its clients: they know no such state.
func TestEnding(t *testing.T) {
	s := start(t, echo, func(_ *e2b.Options, o *fleet.Options) { o.Grace = time.Hour })
	closing, end := make(chan struct{}), make(chan struct{})
	s.machines.closing = func() { close(closing); <-end }
	m := s.create(`{"templateID":"base"}`)
	go func() { _ = s.Fleet.CloseSandbox(t.Context(), m.SandboxID) }()
	<-closing
	if got := refused(t, s.control("GET", "/sandboxes/"+m.SandboxID, ""), 404); !strings.Contains(got.Message, "was closed at") {
		t.Errorf("got %q", got.Message)
	}
	refused(t, s.call("GET", "/health", "", m.to("49983")...), 502)
	if got := servertest.Decode[[]box](t, s.control("GET", "/v2/sandboxes", ""), 200); len(got) != 0 {
		t.Errorf("it is in the list: %+v", got)
	}
	close(end)
}

// A sandbox of the native API keeps its timeout of inactivity, unless somebody sets another one.
func TestNativeSandboxes(t *testing.T) {
	s := start(t, echo, nil)
	info, token, err := s.Fleet.Create(t.Context(), fleet.CreateOptions{Timeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	m := servertest.Decode[made](t, s.control("POST", "/v2/sandboxes/"+info.ID+"/connect", `{"timeout":60}`), 200)
	if m.EnvdAccessToken != token || m.TemplateID != hostTemplate {
		t.Errorf("got %+v", m)
	}
	if got, err := s.Fleet.Get(info.ID); err != nil || got.Term || got.Timeout != time.Hour {
		t.Errorf("got %+v, %v", got, err)
	}
	servertest.Done(t, s.control("POST", "/sandboxes/"+info.ID+"/timeout", `{"timeout":60}`))
	if got, err := s.Fleet.Get(info.ID); err != nil || !got.Term {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestAutoResume(t *testing.T) {
	s := start(t, echo, nil)
	m := s.create(`{"templateID":"base","autoPause":true,"autoResume":{"enabled":true}}`)
	servertest.Done(t, s.control("POST", "/sandboxes/"+m.SandboxID+"/pause", ``))
	refused(t, s.call("GET", "/health", "", m.to("49983")...), 502)
	refused(t, s.call("GET", "/envs", "", m.to("49983", "X-Access-Token", "x")...), 401)
	if got := s.get(m.SandboxID); got.State != "paused" {
		t.Errorf("it is %s", got.State)
	}
	servertest.Decode[asked](t, s.call("GET", "/envs", "", m.to("49983", "X-Access-Token", m.EnvdAccessToken)...), 200)
	if got := s.get(m.SandboxID); got.State != "running" {
		t.Errorf("it is %s", got.State)
	}
}

func TestNoPauseHere(t *testing.T) {
	s := start(t, echo, func(o *e2b.Options, _ *fleet.Options) { o.Pause = api.Capability{Reason: "no cgroups"} })
	m := s.create(`{"templateID":"base"}`)
	for path, body := range map[string]string{"/v2/sandboxes": `{"templateID":"base","autoPause":true}`, "/sandboxes/" + m.SandboxID + "/pause": `{}`} {
		if got := refused(t, s.control("POST", path, body), 501); !strings.Contains(got.Message, "no cgroups") {
			t.Errorf("%s: %q", path, got.Message)
		}
	}
}

func TestUnhealthyGuest(t *testing.T) {
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.WriteHeader(500)
	}, nil)
	m := s.create(`{"templateID":"base"}`)
	got := refused(t, s.control("POST", "/sandboxes/"+m.SandboxID+"/pause", `{"requireHealthyGuest":true}`), 409)
	if got.ErrorCode != "sandbox_snapshot_guest_agent_unresponsive" {
		t.Errorf("got %+v", got)
	}
}
