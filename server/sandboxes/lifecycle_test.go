package sandboxes_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/internal/servertest"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/sandboxes"
)

// echo tells what came.
func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(w, r.Method+" "+r.RequestURI+"\n")
	_ = r.Header.Write(w)
}

func TestLifecycle(t *testing.T) {
	s := start(t, handler(http.HandlerFunc(echo)), nil)
	resp := s.call(t, "POST", "/v1/sandboxes", `{"template":"t","cwd":"/home/user","envs":{"A":"b"},"timeout":600.5,"metadata":{"user":"ada"},
		"limits":{"memory_mb":512,"cpus":1.5,"pids":256,"disk_mb":1024},"network":{"mode":"none","allow":[]}}`)
	made := servertest.Decode[api.Sandbox](t, resp, 201)
	if where, err := resp.Location(); err != nil || where.Path != "/v1/sandboxes/"+made.SandboxID {
		t.Errorf("Location %v, %v", where, err)
	}
	if made.State != api.SandboxRunning || made.Template != "t" || made.Timeout != 600.5 || made.Metadata["user"] != "ada" || made.Cwd != "/home/user" ||
		made.Limits != (api.SandboxLimits{MemoryMB: 512, CPUs: 1.5, Pids: 256, DiskMB: 1024}) || made.Network.Mode != api.NetworkNone ||
		made.ExpiresAt == nil || made.AccessToken == "" || made.Isolation.Warning == "" {
		t.Errorf("got %+v", made)
	}
	if spec := s.machines.Get(made.SandboxID).Spec; spec.Envs["A"] != "b" || spec.Network.Mode != "none" || spec.Limits.Memory != 512<<20 {
		t.Errorf("got %+v", spec)
	}
	path := "/v1/sandboxes/" + made.SandboxID
	got := servertest.Decode[api.Sandbox](t, s.call(t, "GET", path, ""), 200)
	if got.SandboxID != made.SandboxID || got.AccessToken != made.AccessToken {
		t.Errorf("got %+v", got)
	}
	if got := servertest.Decode[api.Sandbox](t, s.call(t, "POST", path+"/timeout", `{"timeout":30}`), 200); got.Timeout != 30 {
		t.Errorf("got %+v", got)
	}
	if got := servertest.Decode[api.Sandbox](t, s.call(t, "POST", path+"/pause", ""), 200); got.State != api.SandboxPaused {
		t.Errorf("got %+v", got)
	}
	refused(t, s.call(t, "POST", path+"/code", "{}"), 409, api.Conflict)
	if got := servertest.Decode[api.Sandbox](t, s.call(t, "POST", path+"/resume", ""), 200); got.State != api.SandboxRunning {
		t.Errorf("got %+v", got)
	}
	if text := servertest.Read(t, s.call(t, "POST", path+"/code", "{}")); !strings.HasPrefix(text, "POST /v1/code\n") {
		t.Errorf("got %q", text)
	}
	if resp := s.call(t, "DELETE", path, ""); resp.StatusCode != 204 || servertest.Read(t, resp) != "" {
		t.Errorf("status %d", resp.StatusCode)
	}
	for _, method := range []string{"GET", "DELETE"} {
		e := refused(t, s.call(t, method, path, ""), 410, api.Gone)
		at, err := time.Parse(time.RFC3339, e.Details["at"].(string))
		if e.Details["reason"] != "killed" || err != nil || time.Since(at) > time.Hour {
			t.Errorf("got %+v", e)
		}
	}
	refused(t, s.call(t, "POST", path+"/code", "{}"), 410, api.Gone)
	refused(t, s.call(t, "GET", "/v1/sandboxes/sb_nowhere", ""), 404, api.NotFound)
	refused(t, s.call(t, "GET", "/v1/sandboxes/sb_nowhere/files?path=/", ""), 404, api.NotFound)
	closed := s.create(t)
	if resp := s.call(t, "POST", "/v1/sandboxes/"+closed+"/close", ""); resp.StatusCode != 204 {
		t.Errorf("status %d", resp.StatusCode)
	}
	if e := refused(t, s.call(t, "GET", "/v1/sandboxes/"+closed, ""), 410, api.Gone); e.Details["reason"] != "closed" {
		t.Errorf("got %+v", e)
	}
	for _, did := range []string{"create", "timeout", "pause", "resume", "kill", "close"} {
		if !strings.Contains(s.Log.String(), `"did":"`+did+`"`) {
			t.Errorf("no audit line of %s", did)
		}
	}
	if strings.Contains(s.Log.String(), made.AccessToken) {
		t.Error("the log has a token")
	}
}

func TestList(t *testing.T) {
	s := start(t, handler(http.HandlerFunc(echo)), nil)
	var ids []string
	for _, user := range []string{"ada", "bob", "ada"} {
		ids = append(ids, servertest.Decode[api.Sandbox](t, s.call(t, "POST", "/v1/sandboxes", `{"metadata":{"user":"`+user+`","x.y":"1"}}`), 201).SandboxID)
	}
	s.call(t, "POST", "/v1/sandboxes/"+ids[1]+"/pause", "")
	for query, want := range map[string][]string{
		"": {ids[2], ids[1], ids[0]}, "?metadata.user=ada": {ids[2], ids[0]}, "?state=paused": {ids[1]}, "?metadata.user=eve": {},
		"?metadata.x.y=1&metadata.user=bob": {ids[1]}, "?state=ended": {}, "?limit=1": {ids[2]},
	} {
		page := servertest.Decode[api.Sandboxes](t, s.call(t, "GET", "/v1/sandboxes"+query, ""), 200)
		var got []string
		for _, box := range page.Sandboxes {
			got = append(got, box.SandboxID)
			if box.AccessToken != "" || box.Isolation.Warning == "" {
				t.Errorf("%s: got %+v", query, box)
			}
		}
		if strings.Join(got, " ") != strings.Join(want, " ") || page.Sandboxes == nil {
			t.Errorf("%s: got %v, want %v", query, got, want)
		}
		if (page.NextCursor != "") != (query == "?limit=1") {
			t.Errorf("%s: cursor %q", query, page.NextCursor)
		}
	}
	first := servertest.Decode[api.Sandboxes](t, s.call(t, "GET", "/v1/sandboxes?limit=2", ""), 200)
	if rest := servertest.Decode[api.Sandboxes](t, s.call(t, "GET", "/v1/sandboxes?limit=2&cursor="+url.QueryEscape(first.NextCursor), ""), 200); len(rest.Sandboxes) != 1 || rest.Sandboxes[0].SandboxID != ids[0] {
		t.Errorf("got %+v", rest)
	}
	s.call(t, "DELETE", "/v1/sandboxes/"+ids[0], "")
	if ended := servertest.Decode[api.Sandboxes](t, s.call(t, "GET", "/v1/sandboxes?state=ended", ""), 200); len(ended.Sandboxes) != 1 || ended.Sandboxes[0].Reason != "killed" || ended.Sandboxes[0].EndedAt == nil {
		t.Errorf("got %+v", ended)
	}
	for _, query := range []string{"?limit=0", "?limit=1001", "?state=x", "?cursor=x", "?metadata.=x", "?metadata=x", "?x=y", "?metadata.a=1&metadata.a=2"} {
		refused(t, s.call(t, "GET", "/v1/sandboxes"+query, ""), 400, api.InvalidRequest)
	}
}

func TestBadSandboxes(t *testing.T) {
	s := start(t, handler(http.HandlerFunc(echo)), nil)
	many := strings.Repeat(`"k%":"v",`, 65)
	for i := 0; strings.Contains(many, "%"); i++ {
		many = strings.Replace(many, "%", strings.Repeat("x", i), 1)
	}
	for body, field := range map[string]string{
		`{"x":1}`: "x", `{"template":1}`: "template", `{"template":"a\u0000"}`: "template", `{"cwd":"home"}`: "cwd", `{"envs":{"A=":"b"}}`: "envs",
		`{"envs":{"A":"b\u0000"}}`: "envs", `{"envs":{"A":1}}`: "envs.A", `{"envs":{"A":"` + strings.Repeat("x", 1<<20) + `"}}`: "envs",
		`{"timeout":-1}`: "timeout", `{"timeout":1e9}`: "timeout", `{"timeout":"1"}`: "timeout",
		`{"metadata":{"":"x"}}`: "metadata", `{"metadata":{"` + strings.Repeat("x", 129) + `":"x"}}`: "metadata", `{"metadata":{"a":"` + strings.Repeat("x", 1025) + `"}}`: "metadata.a",
		`{"metadata":{` + strings.TrimSuffix(many, ",") + `}}`: "metadata", `{"metadata":{"a\n":"x"}}`: "metadata",
		`{"limits":{"memory_mb":1}}`: "limits.memory_mb", `{"limits":{"memory_mb":-512}}`: "limits.memory_mb", `{"limits":{"cpus":0.001}}`: "limits.cpus", `{"limits":{"cpus":-1}}`: "limits.cpus",
		`{"limits":{"pids":2}}`: "limits.pids", `{"limits":{"disk_mb":-1}}`: "limits.disk_mb", `{"limits":{"memory_mb":9223372036854775807}}`: "limits.memory_mb", `{"limits":{"x":1}}`: "limits.x",
		`{"network":{"mode":"some"}}`: "network.mode", `{"network":{"mode":"full","allow":["a.test"]}}`: "network.allow", `{"network":{"allow":["a.test","http://b.test"]}}`: "network.allow[1]",
	} {
		if e := refused(t, s.call(t, "POST", "/v1/sandboxes", body), 400, api.InvalidRequest); e.Details["field"] != field {
			t.Errorf("%.100s: got %+v, want %s", body, e, field)
		}
	}
	id := s.create(t)
	for body, field := range map[string]string{
		`{}`: "mode", `{"mode":""}`: "mode", `{"mode":"some"}`: "mode", `{"mode":"none","allow":["a.test"]}`: "allow", `{"allow":[""]}`: "allow[0]", `{"x":1}`: "x",
	} {
		if e := refused(t, s.call(t, "PUT", "/v1/sandboxes/"+id+"/network", body), 400, api.InvalidRequest); e.Details["field"] != field {
			t.Errorf("%s: %+v", body, e)
		}
	}
	for _, body := range []string{`{}`, `{"timeout":0}`, `{"timeout":-1}`, `{"timeout":null}`, `{"timeout":1e9}`, `{"timeout":1,"x":1}`, `[]`} {
		refused(t, s.call(t, "POST", "/v1/sandboxes/"+id+"/timeout", body), 400, api.InvalidRequest)
	}
	for _, verb := range []string{"close", "pause", "resume"} {
		refused(t, s.call(t, "POST", "/v1/sandboxes/"+id+"/"+verb, `{"x":1}`), 400, api.InvalidRequest)
		refused(t, s.call(t, "GET", "/v1/sandboxes/"+id+"/"+verb, ""), 405, api.MethodNotAllowed)
	}
	if live := s.Fleet.Stats().Live[fleet.Running]; live != 1 {
		t.Errorf("%d live", live)
	}
}

func TestFailedStartsAreTold(t *testing.T) {
	s := start(t, handler(http.HandlerFunc(echo)), nil)
	for field, fail := range map[string]error{"template": fleet.ErrUnknownTemplate, "cwd": fleet.ErrCwd, "envs": fleet.ErrEnvs} {
		s.machines.fail = fmt.Errorf("a secret of the host: %w", fail)
		e := refused(t, s.call(t, "POST", "/v1/sandboxes", `{"template":"x","cwd":"/x"}`), 422, api.Unprocessable)
		if e.Details["field"] != field || strings.Contains(e.Message, "secret") {
			t.Errorf("got %+v", e)
		}
	}
	s.machines.fail = errors.New("a secret of the host")
	if e := refused(t, s.call(t, "POST", "/v1/sandboxes", `{}`), 500, api.Internal); strings.Contains(e.Message, "secret") {
		t.Errorf("got %+v", e)
	}
}

func TestServer(t *testing.T) {
	s := start(t, handler(http.HandlerFunc(run)), func(o *sandboxes.Options, _ *fleet.Options) {
		o.Version = "1.2.3"
		o.Capabilities.Networks = []string{"full", "none"}
	})
	id := s.create(t)
	if got := servertest.Read(t, s.call(t, "POST", "/v1/sandboxes/"+id+"/code", `{"code":"1+1"}`)); got != lines {
		t.Errorf("got %q", got)
	}
	if got := servertest.Decode[api.ServerCapabilities](t, s.call(t, "GET", "/v1/capabilities", ""), 200); got.Version != "1.2.3" || len(got.Networks) != 2 || got.Limits.MaxBodyBytes == 0 {
		t.Errorf("got %+v", got)
	}
	if got := servertest.Decode[api.Templates](t, s.call(t, "GET", "/v1/templates", ""), 200); len(got.Templates) != 1 {
		t.Errorf("got %+v", got)
	}
	for path, status := range map[string]string{"/healthz": "ok", "/readyz": "ready"} {
		if got := servertest.Decode[api.Health](t, s.call(t, "GET", path, ""), 200); got.Status != status {
			t.Errorf("got %+v", got)
		}
	}
	s.machines.fail = &fleet.LimitError{Limit: fleet.LimitMemory, What: "2 MiB of memory are left", RetryAfter: 1500 * time.Millisecond}
	full := s.call(t, "POST", "/v1/sandboxes", "{}")
	if e := refused(t, full, 429, api.LimitReached); e.Details["limit"] != "memory" || e.Details["field"] != "limits.memory_mb" || full.Header.Get("Retry-After") != "2" {
		t.Errorf("got %+v, %v", e, full.Header)
	}
	s.machines.fail = nil
	metrics := servertest.Read(t, s.call(t, "GET", "/metrics", ""))
	for _, line := range []string{
		`k2sandbox_sandboxes{state="running"} 1`, `k2sandbox_creates_total{outcome="created"} 1`, `k2sandbox_create_seconds_count 1`, `k2sandbox_run_seconds_count 1`,
		`k2sandbox_run_seconds_bucket{le="+Inf"} 1`, `k2sandbox_sandbox_ends_total{reason="out_of_memory"} 0`, `# TYPE k2sandbox_run_seconds histogram`, `k2sandbox_requests_total{class="2xx"} 6`,
	} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("no %s in %s", line, metrics)
		}
	}
	if got := servertest.Read(t, s.call(t, "GET", "/openapi.yaml", "")); got != string(api.ServerOpenAPI) {
		t.Errorf("got %.100q", got)
	}
	if err := s.Fleet.Close(t.Context()); err != nil {
		t.Error(err)
	}
	refused(t, s.call(t, "GET", "/readyz", ""), 503, api.Unavailable)
	refused(t, s.call(t, "POST", "/v1/sandboxes", "{}"), 503, api.Unavailable)
}

func TestNetworkChanges(t *testing.T) {
	posted := make(chan api.Refusals, 10)
	agent := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var told api.Refusals
		if r.URL.Path == "/v1/refusals" && server.Decode(r, &told) == nil {
			posted <- told
		}
		w.WriteHeader(http.StatusNoContent)
	})
	s := start(t, handler(agent), nil)
	made := servertest.Decode[api.Sandbox](t, s.call(t, "POST", "/v1/sandboxes", `{"network":{"allow":["a.test:443"]}}`), 201)
	if made.Network.Mode != api.NetworkAllow || !slices.Equal(made.Network.Allow, []string{"a.test:443"}) {
		t.Errorf("got %+v", made.Network)
	}
	path := "/v1/sandboxes/" + made.SandboxID
	for _, want := range []api.SandboxNetwork{{Mode: "packages"}, {Mode: "packages", Allow: []string{"10.0.0.0/8"}}, {Mode: "none"}, {Mode: "full"}, {Mode: "allow", Allow: []string{"*"}}} {
		body, _ := json.Marshal(want)
		if got := servertest.Decode[api.Sandbox](t, s.call(t, "PUT", path+"/network", string(body)), 200).Network; !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if got := servertest.Decode[api.Sandbox](t, s.call(t, "GET", path, ""), 200).Network; !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if has := s.machines.Get(made.SandboxID).Network(); has.Mode != string(want.Mode) || !slices.Equal(has.Allow, want.Allow) {
			t.Errorf("the machine has %+v, want %+v", has, want)
		}
	}
	m := s.machines.Get(made.SandboxID)
	for range 20 {
		m.Refused <- fleet.Refusal{Protocol: "tcp", Destination: "b.test:80", Reason: "no rule"}
	}
	got, n := api.Refusal{}, 0
	for n < 20 {
		told := <-posted
		got = told.Refusals[0]
		n += got.Count
	}
	if got.Destination != "b.test:80" || got.Protocol != "tcp" || got.Reason != "no rule" || n != 20 {
		t.Errorf("the agent is told %+v, %d times", got, n)
	}
	refused(t, s.call(t, "POST", path+"/refusals", `{"refusals":[]}`), 404, api.NotFound)
}

// Whoever has the sandbox's own token may have been given it to reach no more than the sandbox does.
func TestItsOwnTokenDoesNotChangeItsNetwork(t *testing.T) {
	const key = "a-key-of-more-than-sixteen-characters"
	keys, err := server.ReadKeys(strings.NewReader(key))
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, handler(http.HandlerFunc(echo)), func(o *sandboxes.Options, _ *fleet.Options) { o.Keys = keys })
	made := servertest.Decode[api.Sandbox](t, s.call(t, "POST", "/v1/sandboxes", "{}", "X-Api-Key", key), 201)
	path := "/v1/sandboxes/" + made.SandboxID + "/network"
	refused(t, s.call(t, "PUT", path, `{"mode":"full"}`, "Authorization", "Bearer "+made.AccessToken), 403, api.Forbidden)
	servertest.Decode[api.Sandbox](t, s.call(t, "PUT", path, `{"mode":"full"}`, "X-Api-Key", key), 200)
}
