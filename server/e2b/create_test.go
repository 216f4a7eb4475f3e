package e2b_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/internal/servertest"
	"github.com/k2sandbox/k2sandbox/server/e2b"
)

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
		text := strings.TrimPrefix(servertest.Read(t, s.control("GET", path, "")), "[")
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
	m := servertest.Decode[made](t, resp, http.StatusCreated)
	if m.TemplateID != "code-interpreter-v1" || m.EnvdVersion != "0.6.13" || m.ClientID == "" || m.EnvdAccessToken != s.Fleet.AccessToken(m.SandboxID) || m.TrafficAccessToken == nil {
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
	if spec := s.machines.Last(); spec.Network.Mode != "none" || spec.Envs["X"] != `'"` || spec.Template != hostTemplate {
		t.Errorf("the runtime was asked for %+v", spec)
	}
}

func TestCreateOld(t *testing.T) {
	s := start(t, echo, nil)
	secure := servertest.Decode[made](t, s.control("POST", "/sandboxes", `{"templateID":"base","secure":true,"timeout":300}`), 201)
	open := servertest.Decode[made](t, s.control("POST", "/sandboxes", `{"templateID":"base","secure":false}`), 201)
	if secure.EnvdAccessToken == "" || open.EnvdAccessToken != "" || secure.TrafficAccessToken != nil {
		t.Errorf("got %+v and %+v", secure, open)
	}
	servertest.Decode[asked](t, s.call("POST", "/process.Process/List", "{}", open.to("49983")...), 200)
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
		{"POST", "/v2/sandboxes", `null`, 400, "templateID"},
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
		{"POST", "/v2/sandboxes", `{"templateID":"base","network":{"denyOut":["0.0.0.0/0"],"allowOut":["1.1.1.1","http://x"]}}`, 400, "network.allowOut[1]"},
		{"PUT", one + "/network", `{"denyOut":["10.0.0.0/8"]}`, 501, "denyOut"},
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
	if strings.Contains(s.Log.String(), `"level":"ERROR"`) {
		t.Errorf("an error of ours: %s", s.Log.String())
	}
}

func TestAllowOut(t *testing.T) {
	s := start(t, echo, nil)
	want := fleet.Network{Mode: "allow", Allow: []string{"1.1.1.1", "*.example.org"}}
	made := s.create(`{"templateID":"base","network":{"denyOut":["0.0.0.0/0"],"allowOut":["1.1.1.1","*.example.org"]}}`)
	if got := s.machines.Last().Network; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
	servertest.Done(t, s.control("PUT", "/sandboxes/"+made.SandboxID+"/network", `{"denyOut":["::/0"],"allowOut":["a.test"]}`))
	if info, err := s.Fleet.Get(made.SandboxID); err != nil || !reflect.DeepEqual(info.Network, fleet.Network{Mode: "allow", Allow: []string{"a.test"}}) {
		t.Errorf("got %+v, %v", info.Network, err)
	}
	servertest.Done(t, s.control("PUT", "/v2/sandboxes/"+made.SandboxID+"/network", `{}`))
	if info, err := s.Fleet.Get(made.SandboxID); err != nil || info.Network.Mode != "full" {
		t.Errorf("got %+v, %v", info.Network, err)
	}
}

func TestDenyOutAll(t *testing.T) {
	s := start(t, echo, nil)
	s.create(`{"templateID":"base","network":{"denyOut":["0.0.0.0/0"]}}`)
	if mode := s.machines.Last().Network.Mode; mode != "none" {
		t.Errorf("the network's mode is %q", mode)
	}
	s.create(`{"templateID":"base","network":{"allowOut":["1.1.1.1"],"denyOut":[]},"mcp":{},"volumeMounts":[]}`)
	if mode := s.machines.Last().Network.Mode; mode != "" {
		t.Errorf("the network's mode is %q", mode)
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
	if err := s.Fleet.Close(t.Context()); err != nil {
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
