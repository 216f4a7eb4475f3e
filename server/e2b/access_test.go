package e2b_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/internal/servertest"
)

// sign returns a signed path of /files.
func sign(m made, method, path, user, expires string) string {
	op := map[string]string{"GET": "read", "POST": "write"}[method]
	text := path + ":" + op + ":" + user + ":" + m.EnvdAccessToken
	query := url.Values{"path": {path}}
	if user != "" {
		query.Set("username", user)
	}
	if expires != "" {
		text += ":" + expires
		query.Set("signature_expiration", expires)
	}
	sum := sha256.Sum256([]byte(text))
	query.Set("signature", "v1_"+base64.RawStdEncoding.EncodeToString(sum[:]))
	return "/files?" + query.Encode()
}

func TestSignatures(t *testing.T) {
	s := start(t, echo, nil)
	m, other := s.create(`{"templateID":"base"}`), s.create(`{"templateID":"base"}`)
	unix := func(d time.Duration) string { return fmt.Sprint(time.Now().Add(d).Unix()) }
	for name, path := range map[string]string{
		"plain":        sign(m, "GET", "a/../b c", "", ""),
		"with a user":  sign(m, "GET", "/x", "root", ""),
		"that expires": sign(m, "GET", "/x", "", unix(time.Hour)),
	} {
		if got := servertest.Decode[asked](t, s.call("GET", path, "", m.to("49983")...), 200); got.URI != "/e2b/envd"+path {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	servertest.Decode[asked](t, s.call("POST", sign(m, "POST", "/x", "", ""), "data", m.to("49983")...), 200)
	for name, test := range map[string]struct {
		method, path string
		status       int
		message      string
		headers      []string
	}{
		"none":                {"GET", "/files?path=x", 401, "missing signature query parameter", nil},
		"wrong":               {"GET", "/files?path=x&signature=v1_x", 401, "invalid signature", nil},
		"of another path":     {"GET", strings.Replace(sign(m, "GET", "/x", "", ""), "path=%2Fx", "path=%2Fy", 1), 401, "invalid signature", nil},
		"of another sandbox":  {"GET", sign(other, "GET", "/x", "", ""), 401, "invalid signature", nil},
		"to read":             {"POST", sign(m, "GET", "/x", "", ""), 401, "invalid signature", nil},
		"to write":            {"GET", sign(m, "POST", "/x", "", ""), 401, "invalid signature", nil},
		"of another user":     {"GET", sign(m, "GET", "/x", "root", "") + "&username=user", 401, "", nil},
		"expired":             {"GET", sign(m, "GET", "/x", "", unix(-time.Hour)), 401, "signature is already expired", nil},
		"made to last longer": {"GET", sign(m, "GET", "/x", "", "") + "&signature_expiration=" + unix(time.Hour), 401, "invalid signature", nil},
		"expires never":       {"GET", sign(m, "GET", "/x", "", "never"), 400, "", nil},
		"for another path":    {"GET", strings.Replace(sign(m, "GET", "/x", "", ""), "/files", "/filesystem.Filesystem/Stat", 1), 401, "", nil},
		"with a wrong token":  {"GET", sign(m, "GET", "/x", "", ""), 401, "", []string{"X-Access-Token", other.EnvdAccessToken}},
	} {
		if name == "of another user" {
			test.path = strings.Replace(test.path, "username=root&", "", 1)
			test.path = strings.Replace(test.path, "&username=root", "", 1)
		}
		got := refused(t, s.call(test.method, test.path, "", m.to("49983", test.headers...)...), test.status)
		if test.message != "" && got.Message != test.message {
			t.Errorf("%s: got %q", name, got.Message)
		}
	}
	// A test of the clients compares the whole answer.
	if got := servertest.Read(t, s.call("GET", sign(m, "GET", "/x", "", unix(-time.Hour)), "")); got != `{"code":401,"message":"signature is already expired"}`+"\n" {
		t.Errorf("got %s", got)
	}
}

func TestTokens(t *testing.T) {
	s := start(t, echo, nil)
	m, other := s.create(`{"templateID":"base"}`), s.create(`{"templateID":"base"}`)
	private := s.create(`{"templateID":"base","network":{"allowPublicTraffic":false}}`)
	for name, test := range map[string]struct {
		path   string
		header []string
		status int
	}{
		"health":                        {"/health", m.to("49983"), 200},
		"envd, no token":                {"/envs", m.to("49983"), 401},
		"envd, a wrong token":           {"/envs", m.to("49983", "X-Access-Token", "x"), 401},
		"envd, another's token":         {"/envs", m.to("49983", "X-Access-Token", other.EnvdAccessToken), 401},
		"envd":                          {"/envs", m.to("49983", "X-Access-Token", m.EnvdAccessToken), 200},
		"envd, a token for its traffic": {"/envs", private.to("49983", "X-Access-Token", *private.TrafficAccessToken), 401},
		"contexts":                      {"/contexts", m.to("49999"), 200},
		"a port":                        {"/", m.to("8000"), 200},
		"private contexts":              {"/contexts", private.to("49999"), 403},
		"private contexts, wrong token": {"/contexts", private.to("49999", "E2B-Traffic-Access-Token", "x"), 403},
		"private contexts, token":       {"/contexts", private.to("49999", "E2B-Traffic-Access-Token", *private.TrafficAccessToken), 200},
		"private contexts, old client":  {"/contexts", private.to("49999", "X-Access-Token", private.EnvdAccessToken), 200},
		"a private port":                {"/", private.to("8000"), 403},
	} {
		resp := s.call("GET", test.path, "", test.header...)
		if text := servertest.Read(t, resp); resp.StatusCode != test.status {
			t.Errorf("%s: status %d: %s", name, resp.StatusCode, text)
		}
	}

	refused(t, s.call("GET", "/health", "what may never end", m.to("49983")...), 401)

	s = keyed(t)
	m = servertest.Decode[made](t, s.control("POST", "/sandboxes", `{"templateID":"base","secure":false}`), 201)
	if m.EnvdAccessToken == "" || m.TrafficAccessToken == nil {
		t.Fatalf("where there are keys a sandbox is open: %+v", m)
	}
	refused(t, s.call("GET", "/envs", "", m.to("49983")...), 401)
	refused(t, s.call("GET", "/contexts", "", m.to("49999")...), 403)
	refused(t, s.call("GET", "/", "", m.to("8000")...), 403)
	refused(t, s.call("GET", "/", "", m.to("8000", "X-API-KEY", bobKey)...), 403)
	servertest.Decode[asked](t, s.call("GET", "/contexts", "", m.to("49999", "E2B-Traffic-Access-Token", *m.TrafficAccessToken)...), 200)
	got := servertest.Decode[asked](t, s.call("GET", "/x", "", m.to("8000", "E2B-Traffic-Access-Token", *m.TrafficAccessToken, "Authorization", "Bearer "+adaKey)...), 200)
	if got.Head["Authorization"] != "" {
		t.Error("an API key goes to a server inside")
	}
	got = servertest.Decode[asked](t, s.call("GET", "/x", "", m.to("8000", "E2B-Traffic-Access-Token", *m.TrafficAccessToken, "Authorization", "Bearer its-own")...), 200)
	if got.Head["Authorization"] != "Bearer its-own" {
		t.Error("what is for a server inside does not go there")
	}
}

// Pages that a browser shows do not reach this API either.
func TestBrowsers(t *testing.T) {
	s := start(t, echo, nil)
	m := s.create(`{"templateID":"base"}`)
	for _, headers := range [][]string{
		{"Origin", "https://evil.test"}, {"Origin", "null"}, {"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors"}, {"Host", "evil.test"},
	} {
		refused(t, s.control("POST", "/v2/sandboxes", `{"templateID":"base"}`, headers...), 403)
		resp := s.call("POST", "/execute", `{}`, m.to("49999", headers...)...)
		refused(t, resp, 403)
		if resp.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Error("CORS is on")
		}
		refused(t, s.call("OPTIONS", "/execute", "", append(headers, "Access-Control-Request-Method", "POST")...), 403)
	}
}
