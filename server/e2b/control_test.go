package e2b_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
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
	return decode[box](s.t, s.control("GET", "/sandboxes/"+id, ""), http.StatusOK)
}

// What clients parse has to be there, whatever its value.
func TestRequiredFields(t *testing.T) {
	s := start(t, echo, nil)
	m := s.create(`{"templateID":"base"}`)
	for path, names := range map[string]string{
		"/sandboxes/" + m.SandboxID:              "templateID sandboxID clientID startedAt endAt cpuCount memoryMB diskSizeMB state envdVersion lifecycle",
		"/v2/sandboxes":                          "templateID sandboxID clientID startedAt endAt cpuCount memoryMB diskSizeMB state envdVersion",
		"/sandboxes":                             "templateID sandboxID clientID startedAt endAt cpuCount memoryMB diskSizeMB state envdVersion",
		"/sandboxes/" + m.SandboxID + "/metrics": "timestamp timestampUnix cpuCount cpuUsedPct memUsed memTotal memCache diskUsed diskTotal",
	} {
		text := strings.TrimPrefix(read(t, s.control("GET", path, "")), "[")
		var got map[string]json.RawMessage
		if err := json.NewDecoder(strings.NewReader(text)).Decode(&got); err != nil {
			t.Fatalf("%s: %v: %s", path, err, text)
		}
		for name := range strings.SplitSeq(names, " ") {
			if value, ok := got[name]; !ok || string(value) == "null" {
				t.Errorf("%s: %s is %s: %s", path, name, value, text)
			}
		}
	}
}

func TestCreate(t *testing.T) {
	s := start(t, echo, nil)
	resp := s.control("POST", "/v2/sandboxes", `{"templateID":"code-interpreter-v1","timeout":60,"metadata":{"a b":"c=d&"},"envVars":{"X":"'\""},
		"autoPause":true,"autoResume":{"enabled":true},"allow_internet_access":false,"network":{"allowPublicTraffic":false},"unknown":[1],"mcp":null}`)
	m := decode[made](t, resp, http.StatusCreated)
	if m.TemplateID != "code-interpreter-v1" || m.EnvdVersion != "0.6.13" || m.ClientID == "" || m.EnvdAccessToken != s.fleet.AccessToken(m.SandboxID) || m.TrafficAccessToken == nil {
		t.Errorf("got %+v", m)
	}
	if resp.Header.Get("Cache-Control") != "no-store" {
		t.Error("the token may be cached")
	}
	got := s.get(m.SandboxID)
	if got.State != "running" || got.CPUCount != 2 || got.MemoryMB != 512 || got.DiskSizeMB != 1024 || got.Metadata["a b"] != "c=d&" ||
		got.AllowInternetAccess || !got.Lifecycle.AutoResume || got.Lifecycle.OnTimeout != "pause" || got.EnvdAccessToken != m.EnvdAccessToken {
		t.Errorf("got %+v", got)
	}
	if lasts := got.EndAt.Sub(got.StartedAt); lasts < 60*time.Second || lasts > 90*time.Second {
		t.Errorf("it lasts %v", lasts)
	}
	if spec := s.machines.last(); spec.Network.Mode != "none" || spec.Envs["X"] != `'"` || spec.Template != hostTemplate {
		t.Errorf("the runtime was asked for %+v", spec)
	}
}

func TestCreateOld(t *testing.T) {
	s := start(t, echo, nil)
	secure := decode[made](t, s.control("POST", "/sandboxes", `{"templateID":"base","secure":true,"timeout":300}`), 201)
	open := decode[made](t, s.control("POST", "/sandboxes", `{"templateID":"base","secure":false}`), 201)
	if secure.EnvdAccessToken == "" || open.EnvdAccessToken != "" || secure.TrafficAccessToken != nil {
		t.Errorf("got %+v and %+v", secure, open)
	}
	decode[asked](t, s.call("POST", "/process.Process/List", "{}", open.to("49983")...), 200)
	refused(t, s.call("POST", "/process.Process/List", "{}", secure.to("49983")...), 401)
	if forced := s.create(`{"templateID":"base","secure":false}`); forced.EnvdAccessToken == "" {
		t.Error("the new form leaves a sandbox open")
	}
	got := s.get(open.SandboxID)
	if lasts := got.EndAt.Sub(got.StartedAt); lasts < 15*time.Second || lasts > 45*time.Second {
		t.Errorf("it lasts %v", lasts)
	}
}

func TestTemplates(t *testing.T) {
	s := start(t, echo, nil)
	for _, name := range []string{"base", "code-interpreter-v1", "base:default", hostTemplate, "host"} {
		if m := s.create(fmt.Sprintf(`{"templateID":%q}`, name)); m.TemplateID != name {
			t.Errorf("%s: got %+v", name, m)
		}
	}
	refused(t, s.control("POST", "/v2/sandboxes", `{"templateID":"other"}`), 404)
	refused(t, s.control("POST", "/v2/sandboxes", `{"templateID":"`+strings.Repeat("x", 10000)+`"}`), 404)
}

// What a request asks for is done, or refused: by a status that is no client's "again", and in words that name it.
func TestBadRequests(t *testing.T) {
	s := start(t, echo, nil)
	m := s.create(`{"templateID":"base"}`)
	one := "/sandboxes/" + m.SandboxID
	for _, test := range []struct {
		method, path, body string
		status             int
		word               string
	}{
		{"POST", "/v2/sandboxes", `{}`, 400, "templateID"},
		{"POST", "/v2/sandboxes", ``, 400, "templateID"},
		{"POST", "/v2/sandboxes", `[]`, 400, "object"},
		{"POST", "/v2/sandboxes", `null`, 400, "object"},
		{"POST", "/v2/sandboxes", `{"templateID":"base"`, 400, "JSON"},
		{"POST", "/v2/sandboxes", `{"templateID":"base"} x`, 400, "goes on"},
		{"POST", "/v2/sandboxes", "{\"templateID\":\"\xff\"}", 400, "UTF-8"},
		{"POST", "/v2/sandboxes", strings.Repeat("[", 100000), 400, "object"},
		{"POST", "/v2/sandboxes", `{"templateID":"base","x":"` + strings.Repeat("x", 1<<20) + `"}`, 413, "longer"},
		{"POST", "/v2/sandboxes", `{"templateID":1}`, 400, "templateID"},
		{"POST", "/v2/sandboxes", `{"templateID":"base","timeout":0}`, 400, "Timeout must be greater than 0"},
		{"POST", "/v2/sandboxes", `{"templateID":"base","timeout":-1}`, 400, "Timeout"},
		{"POST", "/v2/sandboxes", `{"templateID":"base","timeout":1.5}`, 400, "timeout"},
		{"POST", "/v2/sandboxes", `{"templateID":"base","timeout":"5"}`, 400, "timeout"},
		{"POST", "/v2/sandboxes", `{"templateID":"base","timeout":86401}`, 400, "timeout"},
		{"POST", "/v2/sandboxes", `{"templateID":"base","timeout":9223372036854775807}`, 400, "timeout"},
		{"POST", "/v2/sandboxes", `{"templateID":"base","timeout":99999999999999999999}`, 400, "timeout"},
		{"POST", "/v2/sandboxes", `{"templateID":"base","metadata":{"a":1}}`, 400, "metadata"},
		{"POST", "/v2/sandboxes", `{"templateID":"base","metadata":{"":"x"}}`, 400, "metadata"},
		{"POST", "/v2/sandboxes", `{"templateID":"base","envVars":{"A=B":"x"}}`, 400, "envVars"},
		{"POST", "/v2/sandboxes", `{"templateID":"base","envVars":{"A":"\u0000"}}`, 400, "envVars"},
		{"POST", "/v2/sandboxes", `{"templateID":"base","envVars":[]}`, 400, "envVars"},
		{"POST", "/v2/sandboxes", `{"templateID":"base","mcp":{"x":{}}}`, 501, "mcp"},
		{"POST", "/v2/sandboxes", `{"templateID":"base","iam":{"x":{}}}`, 501, "iam"},
		{"POST", "/v2/sandboxes", `{"templateID":"base","volumeMounts":[{"name":"a","path":"/b"}]}`, 501, "volumeMounts"},
		{"POST", "/v2/sandboxes", `{"templateID":"base","autoPauseMemory":false}`, 501, "memory"},
		{"POST", "/v2/sandboxes", `{"templateID":"base","network":{"denyOut":["10.0.0.0/8"]}}`, 501, "denyOut"},
		{"POST", "/v2/sandboxes", `{"templateID":"base","network":{"denyOut":["0.0.0.0/0"],"allowOut":["1.1.1.1"]}}`, 501, "denyOut"},
		{"POST", "/v2/sandboxes", `{"templateID":"base","network":{"dnsServers":["1.1.1.1"]}}`, 501, "dnsServers"},
		{"POST", "/v2/sandboxes", `{"templateID":"base","network":{"egressProxy":{"address":"a:1"}}}`, 501, "egressProxy"},
		{"POST", "/v2/sandboxes", `{"templateID":"base","network":{"maskRequestHost":"x"}}`, 501, "maskRequestHost"},
		{"POST", "/v2/sandboxes", `{"templateID":"base","network":{"httpsPorts":[1]}}`, 501, "httpsPorts"},
		{"POST", "/v2/sandboxes", `{"templateID":"base","network":{"rules":{"a":[]}}}`, 501, "rules"},
		{"POST", one + "/timeout", `{}`, 400, "timeout"},
		{"POST", one + "/timeout", `{"timeout":-1}`, 400, "timeout"},
		{"POST", one + "/timeout", `{"timeout":86401}`, 400, "timeout"},
		{"POST", one + "/connect", `{"timeout":0}`, 400, "Timeout"},
		{"POST", one + "/resume", `{"timeout":0}`, 400, "Timeout"},
		{"POST", one + "/pause", `{"memory":false}`, 501, "memory"},
		{"POST", one + "/pause", `{"memory":"x"}`, 400, "memory"},
		{"GET", one + "/metrics?start=5&end=4", ``, 400, "start"},
		{"GET", one + "/metrics?start=x", ``, 400, "start"},
		{"GET", one + "/metrics?end=-1", ``, 400, "end"},
		{"PUT", one + "/network", `{}`, 501, "network"},
		{"POST", one + "/snapshots", `{}`, 501, "snapshots"},
		{"POST", one + "/fork", `{}`, 501, "forked"},
		{"GET", "/v2/sandboxes?state=x", ``, 400, "state"},
		{"GET", "/v2/sandboxes?order=up", ``, 400, "order"},
		{"GET", "/v2/sandboxes?limit=0", ``, 400, "limit"},
		{"GET", "/v2/sandboxes?limit=101", ``, 400, "limit"},
		{"GET", "/v2/sandboxes?startedAfter=2026-01-01T00:00:00", ``, 400, "startedAfter"},
		{"GET", "/v2/sandboxes?nextToken=x", ``, 400, "nextToken"},
		{"GET", "/v2/sandboxes?metadata=x", ``, 400, "metadata"},
		{"GET", "/v2/sandboxes?metadata=%2525zz%3Dx", ``, 400, "metadata"},
		{"GET", "/v2/sandboxes?metadata=%zz", ``, 400, "query"},
		{"GET", "/sandboxes?metadata=x", ``, 400, "metadata"},
		{"GET", "/sandboxes/sb_none", ``, 404, "sb_none"},
		{"DELETE", "/sandboxes/sb_none", ``, 404, "sb_none"},
		{"POST", "/sandboxes/sb_none/timeout", `{"timeout":1}`, 404, "sb_none"},
		{"POST", "/v2/sandboxes/sb_none/connect", `{"timeout":1}`, 404, "sb_none"},
		{"POST", "/sandboxes/sb_none/pause", ``, 404, "sb_none"},
		{"POST", "/sandboxes/sb_none/resume", `{}`, 404, "sb_none"},
		{"GET", "/sandboxes/sb_none/metrics", ``, 404, "sb_none"},
		{"POST", "/sandboxes/sb_none/snapshots", `{}`, 404, "sb_none"},
		{"POST", "/sandboxes/sb_none/fork", `{}`, 404, "sb_none"},
		{"GET", "/sandboxes/" + strings.Repeat("x", 10000), ``, 404, "xxx"},
		{"GET", "/sandboxes/%2e%2e%2f", ``, 404, ""},
		{"GET", "/templates", ``, 404, "/templates"},
		{"DELETE", "/templates/x%2Fy", ``, 404, "/templates"},
		{"GET", "/volumes", ``, 404, "/volumes"},
		{"GET", "/v2/sandboxes/x/y/z", ``, 404, ""},
		{"PATCH", "/v2/sandboxes", ``, 405, "PATCH"},
	} {
		name := test.method + " " + test.path[:min(len(test.path), 60)] + " " + test.body[:min(len(test.body), 80)]
		if got := refused(t, s.control(test.method, test.path, test.body), test.status); !strings.Contains(got.Message, test.word) || len(got.Message) > 1000 {
			t.Errorf("%s: %q does not tell of %s", name, got.Message, test.word)
		}
	}
	refused(t, s.control("POST", "/v2/sandboxes", `{"templateID":"base"}`, "Content-Type", "text/plain"), 415)
	refused(t, s.control("POST", "/v2/sandboxes", `{"templateID":"base"}`, "Content-Type", "?"), 415)
	if strings.Contains(s.log.String(), `"level":"ERROR"`) {
		t.Errorf("an error of ours: %s", s.log.String())
	}
}

func TestDenyOutAll(t *testing.T) {
	s := start(t, echo, nil)
	s.create(`{"templateID":"base","network":{"denyOut":["0.0.0.0/0"]}}`)
	if mode := s.machines.last().Network.Mode; mode != "none" {
		t.Errorf("the network's mode is %q", mode)
	}
	s.create(`{"templateID":"base","network":{"allowOut":["1.1.1.1"],"denyOut":[]},"mcp":{},"volumeMounts":[]}`)
	if mode := s.machines.last().Network.Mode; mode != "" {
		t.Errorf("the network's mode is %q", mode)
	}
}

func TestKeys(t *testing.T) {
	s := start(t, echo, nil)
	refused(t, s.call("GET", "/v2/sandboxes", ""), 401)
	decode[[]box](t, s.call("GET", "/v2/sandboxes", "", "X-API-KEY", "anything"), 200)
	decode[[]box](t, s.call("GET", "/v2/sandboxes", "", "Authorization", "Bearer anything"), 200)
	decode[map[string]string](t, s.call("GET", "/health", ""), 200)

	s = keyed(t)
	refused(t, s.call("GET", "/v2/sandboxes", ""), 401)
	refused(t, s.call("GET", "/v2/sandboxes", "", "X-API-KEY", "e2b_00"), 401)
	refused(t, s.call("POST", "/v2/sandboxes", `{"templateID":"base"}`, "X-API-KEY", "e2b_00"), 401)
	decode[map[string]string](t, s.call("GET", "/health", ""), 200)
	m := s.create(`{"templateID":"base"}`)
	if m.TrafficAccessToken == nil || *m.TrafficAccessToken == m.EnvdAccessToken {
		t.Errorf("got %+v", m)
	}
	if got := s.log.String(); strings.Contains(got, s.key) || strings.Contains(got, m.EnvdAccessToken) {
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
	done(t, s.control("DELETE", "/sandboxes/"+dead.SandboxID, ""))
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
	if got := decode[[]box](t, s.control("GET", "/v2/sandboxes", ""), 200); len(got) != 1 || got[0].SandboxID != bob.SandboxID {
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
		t.Errorf("the native API does not find it: %s", read(t, resp))
	}
	if resp := s.call("GET", "/v1/sandboxes/"+ada.SandboxID, "", "X-API-KEY", bobKey); resp.StatusCode != 404 {
		t.Errorf("the native API finds it: %s", read(t, resp))
	}
}

func TestLifecycle(t *testing.T) {
	s := start(t, echo, nil)
	m := s.create(`{"templateID":"base","timeout":600}`)
	one := "/sandboxes/" + m.SandboxID
	ends := s.get(m.SandboxID).EndAt
	if got := decode[made](t, s.control("POST", "/v2"+one+"/connect", `{"timeout":60}`), 200); got != m {
		t.Errorf("got %+v, want %+v", got, m)
	}
	if got := s.get(m.SandboxID).EndAt; !got.Equal(ends) {
		t.Errorf("a shorter timeout moved the end from %v to %v", ends, got)
	}
	decode[made](t, s.control("POST", one+"/connect", `{"timeout":3600}`), 200)
	if got := s.get(m.SandboxID).EndAt; got.Sub(ends) < 2000*time.Second {
		t.Errorf("a longer timeout moved the end from %v to %v", ends, got)
	}
	done(t, s.control("POST", one+"/timeout", `{"timeout":60}`))
	if got := s.get(m.SandboxID).EndAt; !got.Before(ends) {
		t.Errorf("the end is %v, want one before %v", got, ends)
	}
	refused(t, s.control("POST", one+"/resume", `{"timeout":60}`), 409)

	done(t, s.control("POST", one+"/pause", ``))
	refused(t, s.control("POST", one+"/pause", `{}`), 409)
	refused(t, s.control("POST", one+"/timeout", `{"timeout":60}`), 409)
	if got := s.get(m.SandboxID); got.State != "paused" || got.PauseMode != "full" {
		t.Errorf("got %+v", got)
	}
	if got := refused(t, s.call("GET", "/health", "", m.to("49983")...), 502); !strings.Contains(got.Message, "was not found") || got.SandboxID != m.SandboxID {
		t.Errorf("got %+v", got)
	}
	if got := decode[made](t, s.control("POST", "/v2"+one+"/connect", `{"timeout":60}`), 201); got != m {
		t.Errorf("got %+v, want %+v", got, m)
	}
	if left := time.Until(s.get(m.SandboxID).EndAt); left > 61*time.Second {
		t.Errorf("it has %v", left)
	}
	decode[asked](t, s.call("GET", "/health", "", m.to("49983")...), 200)
	done(t, s.control("POST", one+"/pause", `{"requireHealthyGuest":true}`))
	decode[made](t, s.control("POST", one+"/resume", `{"timeout":600,"autoPause":true}`), 201)
	if got := s.get(m.SandboxID); got.Lifecycle.OnTimeout != "pause" {
		t.Errorf("got %+v", got)
	}

	done(t, s.control("DELETE", one+"-client", ""))
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
	_, box, err := s.fleet.Use(m.SandboxID)
	if err != nil {
		t.Fatal(err)
	}
	done(t, s.control("POST", "/sandboxes/"+m.SandboxID+"/timeout", `{"timeout":0}`))
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
	go func() { _ = s.fleet.CloseSandbox(t.Context(), m.SandboxID) }()
	<-closing
	if got := refused(t, s.control("GET", "/sandboxes/"+m.SandboxID, ""), 404); !strings.Contains(got.Message, "was closed at") {
		t.Errorf("got %q", got.Message)
	}
	refused(t, s.call("GET", "/health", "", m.to("49983")...), 502)
	if got := decode[[]box](t, s.control("GET", "/v2/sandboxes", ""), 200); len(got) != 0 {
		t.Errorf("it is in the list: %+v", got)
	}
	close(end)
}

// A sandbox of the native API keeps its timeout of inactivity, unless somebody sets another one.
func TestNativeSandboxes(t *testing.T) {
	s := start(t, echo, nil)
	info, token, err := s.fleet.Create(t.Context(), fleet.CreateOptions{Timeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	m := decode[made](t, s.control("POST", "/v2/sandboxes/"+info.ID+"/connect", `{"timeout":60}`), 200)
	if m.EnvdAccessToken != token || m.TemplateID != hostTemplate {
		t.Errorf("got %+v", m)
	}
	if got, err := s.fleet.Get(info.ID); err != nil || got.Term || got.Timeout != time.Hour {
		t.Errorf("got %+v, %v", got, err)
	}
	done(t, s.control("POST", "/sandboxes/"+info.ID+"/timeout", `{"timeout":60}`))
	if got, err := s.fleet.Get(info.ID); err != nil || !got.Term {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestAutoResume(t *testing.T) {
	s := start(t, echo, nil)
	m := s.create(`{"templateID":"base","autoPause":true,"autoResume":{"enabled":true}}`)
	done(t, s.control("POST", "/sandboxes/"+m.SandboxID+"/pause", ``))
	refused(t, s.call("GET", "/health", "", m.to("49983")...), 502)
	refused(t, s.call("GET", "/envs", "", m.to("49983", "X-Access-Token", "x")...), 401)
	if got := s.get(m.SandboxID); got.State != "paused" {
		t.Errorf("it is %s", got.State)
	}
	decode[asked](t, s.call("GET", "/envs", "", m.to("49983", "X-Access-Token", m.EnvdAccessToken)...), 200)
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

func TestLimits(t *testing.T) {
	s := start(t, echo, func(_ *e2b.Options, o *fleet.Options) { o.Max = 1 })
	s.create(`{"templateID":"base"}`)
	resp := s.control("POST", "/v2/sandboxes", `{"templateID":"base"}`)
	refused(t, resp, 429)
	if resp.Header.Get("Retry-After") == "" || resp.Header.Get("Should-Retry") != "false" {
		t.Errorf("got %v", resp.Header)
	}
	if err := s.fleet.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	resp = s.control("POST", "/v2/sandboxes", `{"templateID":"base"}`)
	refused(t, resp, 503)
	if resp.Header.Get("Should-Retry") != "false" {
		t.Errorf("got %v", resp.Header)
	}
}

func TestIdempotencyKey(t *testing.T) {
	s := start(t, echo, nil)
	first := s.create(`{"templateID":"base"}`, "Idempotency-Key", "a-1")
	if again := s.create(`{"templateID":"base"}`, "Idempotency-Key", "a-1"); again != first {
		t.Errorf("got %+v and %+v", first, again)
	}
	if other := s.create(`{"templateID":"base"}`, "Idempotency-Key", "a-2"); other.SandboxID == first.SandboxID {
		t.Error("another key gets the same sandbox")
	}
	refused(t, s.control("POST", "/v2/sandboxes", `{"templateID":"base"}`, "Idempotency-Key", strings.Repeat("x", 256)), 400)
}

func TestList(t *testing.T) {
	s := start(t, echo, nil)
	var ids []string
	for i := range 5 {
		ids = append(ids, s.create(fmt.Sprintf(`{"templateID":"base","metadata":{"n":"%d","a b":"c=d&"}}`, i)).SandboxID)
	}
	other := s.create(`{"templateID":"host"}`)
	done(t, s.control("POST", "/sandboxes/"+ids[1]+"/pause", ``))
	dead := s.create(`{"templateID":"base"}`)
	done(t, s.control("DELETE", "/sandboxes/"+dead.SandboxID, ""))
	started := s.get(ids[3]).StartedAt

	list := func(query string) []string {
		t.Helper()
		var got []string
		for token := ""; ; {
			resp := s.control("GET", "/v2/sandboxes?"+query+token, "")
			if n := resp.Header.Get("X-Total-Running"); n != "5" {
				t.Errorf("%s runs", n)
			}
			for _, one := range decode[[]box](t, resp, 200) {
				got = append(got, one.SandboxID)
			}
			next := resp.Header.Get("X-Next-Token")
			if next == "" {
				return got
			}
			token = "&nextToken=" + url.QueryEscape(next)
		}
	}
	all := append(slices.Clone(ids), other.SandboxID)
	newest := slices.Clone(all)
	slices.Reverse(newest)
	for query, want := range map[string][]string{
		"":                     newest,
		"limit=2":              newest,
		"limit=1&order=asc":    all,
		"order=desc":           newest,
		"state=paused":         {ids[1]},
		"state=running,paused": newest,
		"template=host":        {other.SandboxID},
		"metadata=n%3D2":       {ids[2]},
		"metadata=a%252520b%3Dc%25253Dd%252526&order=asc": ids,
		"metadata=a%252520b%3Dc%25253Dd%252526%26n%3D4":   {ids[4]},
		"metadata=n%3D9": nil,
		"metadata=":      newest,
		"startedAfter=" + url.QueryEscape(started.Format(time.RFC3339Nano)) + "&order=asc": {ids[3], ids[4], other.SandboxID},
		"unknown=1&order=asc": all,
	} {
		if got := list(query); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", query, got, want)
		}
	}
	old := decode[[]box](t, s.control("GET", "/sandboxes?metadata=a%252520b%3Dc%25253Dd%252526", ""), 200)
	if len(old) != 4 {
		t.Errorf("the old form lists %+v", old)
	}
	if got := read(t, s.control("GET", "/snapshots?limit=1", "")); got != "[]\n" {
		t.Errorf("snapshots: %s", got)
	}
	if got := read(t, s.control("GET", "/v2/sandboxes?metadata=n%3D9", "")); got != "[]\n" {
		t.Errorf("no sandboxes: %s", got)
	}
}

func TestMetrics(t *testing.T) {
	s := start(t, echo, nil)
	m := s.create(`{"templateID":"base"}`)
	path := "/sandboxes/" + m.SandboxID + "/metrics"
	type metric struct {
		Timestamp                                                                 time.Time
		TimestampUnix, CPUCount, MemUsed, MemTotal, MemCache, DiskUsed, DiskTotal int64
		CPUUsedPct                                                                float64
	}
	got := decode[[]metric](t, s.control("GET", path, ""), 200)
	if len(got) != 1 || got[0].MemUsed != 20<<20 || got[0].MemTotal != 512<<20 || got[0].CPUCount != 2 || got[0].DiskUsed != 0 || got[0].CPUUsedPct <= 0 || got[0].TimestampUnix != got[0].Timestamp.Unix() {
		t.Fatalf("got %+v", got)
	}
	at := got[0].TimestampUnix
	for query, want := range map[string]int{
		fmt.Sprintf("?start=%d", at): 1, fmt.Sprintf("?start=%d", at+1000): 0, fmt.Sprintf("?end=%d", at-1): 0, fmt.Sprintf("?start=%d&end=%d", at, at+1000): 1,
	} {
		if got := decode[[]metric](t, s.control("GET", path+query, ""), 200); len(got) < want || want == 0 && len(got) > 0 {
			t.Errorf("%s: got %+v", query, got)
		}
	}
}
