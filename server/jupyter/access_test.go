package jupyter_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/internal/servertest"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/jupyter"
)

func withKeys(t *testing.T, change func(*jupyter.Options)) *site {
	t.Helper()
	keys, err := server.ReadKeys(strings.NewReader("ada:key-of-ada\nbob:key-of-bob\n"))
	if err != nil {
		t.Fatal(err)
	}
	return start(t, func(o *jupyter.Options, _ *fleet.Options) {
		o.Keys = keys
		if change != nil {
			change(o)
		}
	})
}

func TestWaysToGiveAToken(t *testing.T) {
	s := withKeys(t, nil)
	for _, headers := range [][]string{
		{"Authorization", "token key-of-ada"}, {"Authorization", "Token key-of-ada"}, {"Authorization", "Bearer key-of-ada"}, {"authorization", "bearer  key-of-ada"},
		{"X-API-Key", "key-of-ada"},
	} {
		servertest.Decode[[]api.JupyterKernel](t, s.call("GET", "/api/kernels", "", headers...), 200)
	}
	servertest.Decode[[]api.JupyterKernel](t, s.call("GET", "/api/kernels?token=key-of-ada&1764000000", ""), 200)
	for _, path := range []string{"/api/kernels", "/api/kernels/x/channels", "/api/sessions", "/api/kernelspecs", "/jupyter/sb_x/api", "/api/kernels?token=", "/api/kernels?token=key-of-eve"} {
		refused(t, s.call("GET", path, ""), 401)
	}
	refused(t, s.call("GET", "/api/kernels", "", "Authorization", "Basic key-of-ada"), 401)
	if strings.Contains(s.Log.String(), "key-of") {
		t.Errorf("a key is in the log: %s", s.Log.String())
	}
}

// A server without keys lets everybody in, whatever they send: a client that was told no token sends an empty one, or "None".
func TestWithoutKeysNoTokenIsWrong(t *testing.T) {
	s := start(t, nil)
	for _, value := range []string{"token ", "token None", "Bearer x", "Basic eDp5"} {
		servertest.Decode[[]api.JupyterKernel](t, s.call("GET", "/api/kernels?token=x", "", "Authorization", value), 200)
	}
}

func TestKeysSeeTheirOwn(t *testing.T) {
	s := withKeys(t, nil)
	s.token = "key-of-ada"
	k := s.kernel("")
	session := servertest.Decode[api.JupyterSession](t, s.call("POST", "/api/sessions", `{"path":"a.ipynb","type":"notebook"}`), 201)
	token := s.Fleet.AccessToken(sandboxOf(k))

	s.token = "key-of-bob"
	mine := s.kernel("")
	if got := s.kernels(); !slices.Equal(got, []string{mine.ID}) {
		t.Errorf("bob sees %v", got)
	}
	if got := servertest.Decode[[]api.JupyterSession](t, s.call("GET", "/api/sessions", ""), 200); len(got) != 0 {
		t.Errorf("bob sees %v", got)
	}
	for _, path := range []string{"/api/kernels/" + k.ID, "/api/kernels/" + k.ID + "/channels", "/jupyter/" + sandboxOf(k) + "/api", "/api/sessions/" + session.ID} {
		refused(t, s.call("GET", path, ""), 404)
	}
	refused(t, s.call("DELETE", "/api/kernels/"+k.ID, ""), 404)
	refused(t, s.call("DELETE", "/api/sessions/"+session.ID, ""), 404)
	refused(t, s.call("POST", "/api/kernels?sandbox="+sandboxOf(k), ""), 404)
	if other := servertest.Decode[api.JupyterSession](t, s.call("POST", "/api/sessions", `{"path":"a.ipynb","type":"notebook"}`), 201); other.ID == session.ID {
		t.Error("bob gets the session of ada")
	}

	// The token of a sandbox opens that one, and a kernel that it asks for is in it.
	s.token = token
	if got := s.kernels(); !slices.Equal(got, []string{k.ID}) {
		t.Errorf("its token shows %v", got)
	}
	if second := s.kernel(""); sandboxOf(second) != sandboxOf(k) {
		t.Errorf("its token made %+v", second)
	}
	refused(t, s.call("GET", "/api/kernels/"+mine.ID, ""), 404)
	refused(t, s.call("POST", "/api/kernels?sandbox="+sandboxOf(mine), ""), 404)
	servertest.Decode[asked](t, s.call("GET", "/jupyter/"+sandboxOf(k)+"/api/contents", ""), 200)
}

func TestNoSecretReachesAnAgent(t *testing.T) {
	s := withKeys(t, nil)
	s.token = "key-of-ada"
	k := s.kernel("")
	got := servertest.Decode[asked](t, s.call("GET", "/jupyter/"+sandboxOf(k)+"/api/contents/a%2Fb?token=key-of-ada&hash=1&%74oken=key-of-ada&17", "",
		"X-API-Key", "key-of-ada", "Cookie", "a=key-of-ada", "Referer", "http://x/?token=key-of-ada", "X-Other", "kept"), 200)
	if got.URI != "/jupyter/api/contents/a%2Fb?hash=1&17" || got.Head["X-Other"] != "kept" {
		t.Errorf("the agent got %+v", got)
	}
	for name, value := range got.Head {
		if strings.Contains(value, "key-of") {
			t.Errorf("the agent got %s: %s", name, value)
		}
	}
	if strings.Contains(s.Log.String(), "key-of") {
		t.Errorf("a key is in the log: %s", s.Log.String())
	}
}

func TestASandboxAsAServer(t *testing.T) {
	s := start(t, func(o *jupyter.Options, _ *fleet.Options) { o.Base = "/base" })
	info := s.native("")
	resp := s.call("PUT", "/jupyter/"+info.ID+"/api/contents/x?type=file", `{"a":1}`)
	got := servertest.Decode[asked](t, resp, 200)
	if got.Method != "PUT" || got.URI != "/jupyter/api/contents/x?type=file" || got.Body != `{"a":1}` || got.ID != info.ID {
		t.Errorf("the agent got %+v", got)
	}
	if prefix := "/base/jupyter/" + info.ID; got.Head["X-Forwarded-Prefix"] != prefix || resp.Header.Get("Location") != prefix+"/there" {
		t.Errorf("it is told to be at %q, and answers with %q", got.Head["X-Forwarded-Prefix"], resp.Header.Get("Location"))
	}
	for _, path := range []string{"/jupyter/", "/jupyter/sb_nobody/api", "/jupyter/%73b_x/api", "/jupyter/../v1/x", "/jupyter//api"} {
		refused(t, s.call("GET", path, ""), 404)
	}
	if resp := s.call("OPTIONS", "/jupyter/"+info.ID+"/api/contents", ""); resp.StatusCode != 204 {
		t.Errorf("OPTIONS is answered with %d", resp.StatusCode)
	}
}

func TestPathsThatClientsTry(t *testing.T) {
	s := withKeys(t, nil)
	for path, status := range map[string]int{"/tree?": 404, "/login": 404, "/lab": 404, "/hub/api": 404, "/api/": 404, "/api/nothing": 404} {
		refused(t, s.call("GET", path, ""), status)
	}
	if got := servertest.Decode[map[string]string](t, s.call("GET", "/api", ""), 200); got["version"] == "" {
		t.Errorf("got %v", got)
	}
	for _, kind := range []string{"json", "yaml"} {
		if text := servertest.Read(t, s.call("GET", "/api/swagger."+kind, "")); !strings.Contains(text, `"swagger": "2.0"`) {
			t.Errorf("got %.100s", text)
		}
	}
	refused(t, s.call("PUT", "/api/kernels", ""), 405)
}

func TestCORS(t *testing.T) {
	const page = "https://lab.example.org"
	off := start(t, nil)
	refused(t, off.call("GET", "/api/kernels", "", "Origin", page), 403)
	if h := off.call("OPTIONS", "/api/kernels", "", "Origin", page).Header; h.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("it answers with %v", h)
	}

	s := withKeys(t, func(o *jupyter.Options) {
		o.CORS = jupyter.CORS{Origins: []string{page}, Expose: "X-Request-Id", MaxAge: "60"}
	})
	resp := s.call("OPTIONS", "/api/kernels", "", "Origin", page, "Access-Control-Request-Method", "POST", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors")
	for name, want := range map[string]string{"Access-Control-Allow-Origin": page, "Access-Control-Max-Age": "60", "Vary": "Origin"} {
		if got := resp.Header.Get(name); got != want || resp.StatusCode != 204 {
			t.Errorf("%d, %s: %q, want %q", resp.StatusCode, name, got, want)
		}
	}
	if !strings.Contains(resp.Header.Get("Access-Control-Allow-Headers"), "Authorization") || !strings.Contains(resp.Header.Get("Access-Control-Allow-Methods"), "DELETE") {
		t.Errorf("it allows %v", resp.Header)
	}
	s.token = "key-of-ada"
	got := s.call("GET", "/api/kernels", "", "Origin", page, "Sec-Fetch-Site", "cross-site")
	if servertest.Decode[[]api.JupyterKernel](t, got, 200); got.Header.Get("Access-Control-Allow-Origin") != page || got.Header.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("it answers with %v", got.Header)
	}
	refused(t, s.call("GET", "/api/kernels", "", "Origin", "https://evil.example.org"), 403)
	k := s.kernel("")
	if seen := servertest.Decode[asked](t, s.call("GET", "/jupyter/"+sandboxOf(k)+"/x", "", "Origin", page), 200); seen.Head["Origin"] != "" {
		t.Errorf("the agent would look at %v", seen.Head)
	}
	refused(t, s.call("GET", "/jupyter/"+sandboxOf(k)+"/x", "", "Origin", page, "Authorization", "token x"), 401)

	any := withKeys(t, func(o *jupyter.Options) { o.CORS = jupyter.CORS{Origins: []string{"*"}, Credentials: true} })
	if h := any.call("GET", "/api", "", "Origin", page).Header; h.Get("Access-Control-Allow-Origin") != page || h.Get("Access-Control-Allow-Credentials") != "true" {
		t.Errorf("it answers with %v", h)
	}
}
