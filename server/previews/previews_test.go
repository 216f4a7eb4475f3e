package previews_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/internal/servertest"
)

func TestALinkBecomesACookie(t *testing.T) {
	s := start(t, keys, domain)
	box, port := s.create(), inner(t, echo)
	host, token := s.link(box.SandboxID, port)
	if want := fmt.Sprintf("%d-%s.%s:", port, box.SandboxID, domain); !strings.HasPrefix(host, want) || !strings.HasSuffix(s.URL, host[len(want)-1:]) {
		t.Fatalf("the host is %q, at %s", host, s.URL)
	}
	resp := s.call("GET", "/a//b%2F?x=1&k2-preview="+token+"&y=%20&&z", "", "Host", host)
	if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/a//b%2F?x=1&y=%20&&z" {
		t.Fatalf("status %d to %q", resp.StatusCode, resp.Header.Get("Location"))
	}
	if h := resp.Header; h.Get("Referrer-Policy") != "no-referrer" || h.Get("Cache-Control") != "no-store" {
		t.Errorf("got %v", h)
	}
	set := resp.Header["Set-Cookie"]
	if len(set) != 1 || !strings.HasPrefix(set[0], "k2-preview="+token+"; Path=/; Max-Age=") || !strings.HasSuffix(set[0], "; HttpOnly; SameSite=Lax") {
		t.Fatalf("got %q", set)
	}
	cookie := "k2-preview=" + token
	got := servertest.Decode[asked](t, s.call("POST", "/a?b", "body", "Host", host, "Cookie", "own=\"1, 2\"; "+cookie+"; k2-console-8900=secret", "Authorization", "Bearer its-own"), 200)
	if got.Method != "POST" || got.URI != "/a?b" || got.Host != host || got.Body != "body" {
		t.Errorf("got %+v", got)
	}
	if cookies := got.Head["Cookie"]; len(cookies) != 1 || cookies[0] != `own="1, 2"` || got.Head.Get("Authorization") != "Bearer its-own" {
		t.Errorf("got %v", got.Head)
	}
	if strings.Contains(s.Log.String(), token) {
		t.Error("the token is in the log")
	}
}

// What opens a preview, and what does not, on a server with keys.
func TestWhoGetsIn(t *testing.T) {
	s := start(t, keys, domain)
	box, port := s.create(), inner(t, echo)
	other, otherPort := s.create(), inner(t, echo)
	host, token := s.link(box.SandboxID, port)
	_, ofOtherPort := s.link(box.SandboxID, otherPort)
	_, ofOther := s.link(other.SandboxID, port)
	sign := func(d time.Duration) string { return s.Fleet.PreviewToken(box.SandboxID, port, time.Now().Add(d)) }
	later := strings.Split(token, "_")
	later[1] = strconv.FormatInt(time.Now().Add(48*time.Hour).Unix(), 36)
	cookie := func(value string) []string { return []string{"Cookie", "k2-preview=" + value} }
	for name, test := range map[string]struct {
		query   string
		headers []string
		status  int
	}{
		"the link":                            {"?k2-preview=" + token, nil, 303},
		"the link, encoded":                   {"?k2%2Dpreview=" + strings.ReplaceAll(token, "_", "%5f"), nil, 303},
		"the cookie":                          {"", cookie(token), 200},
		"the cookie among those of a page":    {"", []string{"Cookie", "k2-preview=evil; k2-preview=" + token + "; k2-preview="}, 200},
		"the owner's key":                     {"", []string{"X-API-Key", "key-of-ada"}, 200},
		"the owner's key as a bearer":         {"", []string{"Authorization", "Bearer key-of-ada"}, 200},
		"the sandbox's token":                 {"", []string{"X-API-Key", box.AccessToken}, 200},
		"the sandbox's token, of E2B":         {"", []string{"X-Access-Token", box.AccessToken}, 200},
		"the traffic token, of E2B":           {"", []string{"E2b-Traffic-Access-Token", s.Fleet.TrafficToken(box.SandboxID)}, 200},
		"a link that expired, and the cookie": {"?k2-preview=" + sign(-time.Second), cookie(token), 303},

		"nothing":                         {"", nil, 401},
		"another's key":                   {"", []string{"X-API-Key", "key-of-bob"}, 401},
		"another sandbox's token":         {"", []string{"X-API-Key", other.AccessToken}, 401},
		"the traffic token as a link":     {"?k2-preview=" + s.Fleet.TrafficToken(box.SandboxID), nil, 401},
		"the access token as a link":      {"?k2-preview=" + box.AccessToken, nil, 401},
		"the access token as a cookie":    {"", cookie(box.AccessToken), 401},
		"a key as a link":                 {"?k2-preview=key-of-ada", nil, 401},
		"a link to another port":          {"?k2-preview=" + ofOtherPort, nil, 401},
		"a link to another sandbox":       {"?k2-preview=" + ofOther, nil, 401},
		"a cookie of another port":        {"", cookie(ofOtherPort), 401},
		"a cookie of another sandbox":     {"", cookie(ofOther), 401},
		"the cookie under TLS's name":     {"", []string{"Cookie", "__Host-k2-preview=" + token}, 401},
		"a link that expired":             {"?k2-preview=" + sign(-time.Second), nil, 401},
		"a cookie that expired":           {"", cookie(sign(-time.Second)), 401},
		"a link that was given more time": {"?k2-preview=" + strings.Join(later, "_"), nil, 401},
		"half a link":                     {"?k2-preview=" + token[:len(token)/2], nil, 401},
		"a longer link":                   {"?k2-preview=" + token + "0", nil, 401},
		"a link in capitals":              {"?k2-preview=" + strings.ToUpper(token), nil, 401},
		"an empty link":                   {"?k2-preview=", nil, 401},
		"a link behind a broken one":      {"?k2-preview=x&k2-preview=" + token, nil, 401},
		"a link in the headers of a key":  {"", []string{"X-API-Key", token}, 401},
		"a broken escape":                 {"?k2-preview=%zz", nil, 401},
	} {
		resp := s.call("GET", "/"+test.query, "", append([]string{"Host", host}, test.headers...)...)
		if resp.StatusCode != test.status {
			t.Errorf("%s: status %d, want %d: %s", name, resp.StatusCode, test.status, servertest.Read(t, resp))
			continue
		}
		if test.status == 401 && len(resp.Header["Set-Cookie"]) > 0 {
			t.Errorf("%s: got a cookie", name)
		}
		if test.status == 200 {
			got := servertest.Decode[asked](t, resp, 200)
			for _, secret := range []string{"key-of", token, "sbt_", "sbp_", "k2-preview"} {
				if strings.Contains(fmt.Sprint(got), secret) {
					t.Errorf("%s: %s goes along: %v", name, secret, got)
				}
			}
		}
	}
	if err := s.Fleet.Kill(t.Context(), box.SandboxID); err != nil {
		t.Fatal(err)
	}
	if e := refused(t, s.call("GET", "/", "", append([]string{"Host", host}, cookie(token)...)...), 410, api.Gone); !strings.Contains(e.Message, "killed") {
		t.Errorf("got %q", e.Message)
	}
	refused(t, s.call("GET", "/", "", "Host", host), 404, api.NotFound)
	refused(t, s.call("GET", "/", "", "Host", host, "X-API-Key", "key-of-bob"), 404, api.NotFound)
	refused(t, s.call("GET", "/", "", "Host", host, "X-API-Key", "key-of-ada"), 410, api.Gone)
	refused(t, s.call("POST", "/v1/sandboxes/"+box.SandboxID+"/previews", `{"port":8000}`, "X-API-Key", "key-of-ada"), 410, api.Gone)
}

// At the host of a preview there is the server inside and nothing else, and pages of other origins are kept out.
func TestHosts(t *testing.T) {
	s := start(t, keys, domain)
	box, port := s.create(), inner(t, echo)
	host, token := s.link(box.SandboxID, port)
	name, _, _ := strings.Cut(host, ":")
	label, _, _ := strings.Cut(name, ".")
	for what, test := range map[string]struct {
		method, path, host string
		headers            []string
		status             int
	}{
		"the API":                     {"GET", "/v1/sandboxes", host, nil, 200},
		"the console":                 {"GET", "/console/", host, nil, 200},
		"the console's login":         {"POST", "/v1/console/session", host, nil, 200},
		"E2B's control plane":         {"GET", "/sandboxes", host, []string{"E2b-Sandbox-Id", "sb_x", "E2b-Sandbox-Port", "49983"}, 200},
		"health":                      {"GET", "/healthz", host, nil, 200},
		"metrics":                     {"GET", "/metrics", host, nil, 200},
		"another port of the address": {"GET", "/", name, nil, 200},
		"capitals":                    {"GET", "/", strings.ToUpper(host), nil, 200},
		"a domain of --allow-host":    {"GET", "/", label + ".e2b.test", nil, 200},
		"below localhost":             {"GET", "/", label + ".localhost", nil, 200},
		"its own origin":              {"POST", "/", host, []string{"Origin", "http://" + host, "Sec-Fetch-Site", "same-origin"}, 200},
		"its own origin, untold":      {"POST", "/", host, []string{"Origin", "null", "Sec-Fetch-Site", "same-origin"}, 200},
		"a service worker of its own": {"GET", "/sw.js", host, []string{"Service-Worker", "script", "Sec-Fetch-Site", "same-origin"}, 200},
		"a link from elsewhere":       {"GET", "/", host, []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, 200},

		"a domain that is not served":   {"GET", "/", label + ".evil.test", nil, 403},
		"the domain and more":           {"GET", "/", label + "." + domain + ".evil.test", nil, 403},
		"a dot behind":                  {"GET", "/", name + ".", nil, 403},
		"no domain":                     {"GET", "/", label, nil, 403},
		"a service worker elsewhere":    {"GET", "/", label + ".e2b.test", []string{"Service-Worker", "script", "Sec-Fetch-Site", "same-origin"}, 403},
		"another sandbox":               {"GET", "/", strconv.Itoa(port) + "-sb_x." + domain, nil, 404},
		"zeros before the port":         {"GET", "/", "08-" + box.SandboxID + "." + domain, nil, 404},
		"port 0":                        {"GET", "/", "0-" + box.SandboxID + "." + domain, nil, 404},
		"port 65536":                    {"GET", "/", "65536-" + box.SandboxID + "." + domain, nil, 404},
		"another origin":                {"GET", "/", host, []string{"Origin", "http://evil.test"}, 403},
		"the API's origin":              {"POST", "/", host, []string{"Origin", s.URL}, 403},
		"an origin that the API allows": {"POST", "/", host, []string{"Origin", "https://lab.test"}, 403},
		"a sibling's origin":            {"POST", "/", host, []string{"Origin", "http://3000-" + box.SandboxID + "." + domain}, 403},
		"no origin":                     {"POST", "/", host, []string{"Origin", "null"}, 403},
		"no origin of another site":     {"POST", "/", host, []string{"Origin", "null", "Sec-Fetch-Site", "same-site"}, 403},
		"a sibling's script":            {"GET", "/", host, []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "no-cors"}, 403},
		"a form of another site":        {"POST", "/", host, []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, 403},
		"a socket of another origin":    {"GET", "/", host, []string{"Origin", "http://evil.test", "Connection", "Upgrade", "Upgrade", "websocket"}, 403},
		"a preflight of another origin": {"OPTIONS", "/", host, []string{"Origin", "http://evil.test", "Access-Control-Request-Method", "PUT"}, 403},
	} {
		resp := s.call(test.method, test.path, "", append([]string{"Host", test.host, "Cookie", "k2-preview=" + token}, test.headers...)...)
		if resp.StatusCode != test.status {
			t.Errorf("%s: status %d, want %d: %s", what, resp.StatusCode, test.status, servertest.Read(t, resp))
			continue
		}
		if test.status == 200 {
			if got := servertest.Decode[asked](t, resp, 200); got.URI != test.path || got.Method != test.method {
				t.Errorf("%s: got %+v", what, got)
			}
		}
	}
	// Where E2B's API answers there is no server inside.
	if resp := s.call("GET", "/health", "", "Host", "49983-"+box.SandboxID+".e2b.test"); resp.StatusCode != 200 {
		t.Errorf("envd: status %d", resp.StatusCode)
	}
	if resp := s.call("GET", "/health", "", "Host", "49983-"+box.SandboxID+"."+domain); resp.StatusCode != 403 {
		t.Errorf("envd below the domain of previews: status %d", resp.StatusCode)
	}
}

// What a hostile server inside says does not get beyond its own origin.
func TestAnswersOfHostileServers(t *testing.T) {
	s := start(t, keys, domain)
	box := s.create()
	var h atomic.Pointer[http.Header]
	port := inner(t, func(w http.ResponseWriter, r *http.Request) {
		for name, values := range *h.Load() {
			w.Header()[name] = values
		}
		w.WriteHeader(http.StatusFound)
	})
	host, token := s.link(box.SandboxID, port)
	ask := func(given http.Header, headers ...string) http.Header {
		h.Store(&given)
		return s.call("GET", "/x", "", append([]string{"Host", host, "Sec-Fetch-Site", "same-origin"}, headers...)...).Header
	}
	cookie := []string{"Cookie", "k2-preview=" + token}
	got := ask(http.Header{
		"Set-Cookie": {
			"a=1; Domain=" + domain, "b=2; domain=." + domain + "; Path=/; Secure", "c=3;DOMAIN = test ;HttpOnly", "d=4; Domain; Max-Age=1", "e=5; SameSite=None",
			"k2-preview=evil", " __Host-k2-preview =evil; Path=/; Secure", "k2-console-8900=evil; Domain=" + domain, "k2-console=",
		},
		"Clear-Site-Data": {`"cookies"`}, "Strict-Transport-Security": {"max-age=1; includeSubDomains"}, "Alt-Svc": {`h3="evil.test:443"`}, "X-Accel-Redirect": {"/etc/passwd"},
		"Content-Security-Policy": {"default-src 'self'"}, "Location": {"https://login.test/?next=1"}, "Access-Control-Allow-Origin": {"*"},
	}, cookie...)
	want := []string{"a=1", "b=2; Path=/; Secure", "c=3;HttpOnly", "d=4; Max-Age=1", "e=5; SameSite=None"}
	if set := got["Set-Cookie"]; strings.Join(set, "|") != strings.Join(want, "|") {
		t.Errorf("cookies %q, want %q", set, want)
	}
	for _, name := range []string{"Clear-Site-Data", "Strict-Transport-Security", "Alt-Svc", "X-Accel-Redirect"} {
		if got.Get(name) != "" {
			t.Errorf("%s came through", name)
		}
	}
	policies := got["Content-Security-Policy"]
	if len(policies) != 2 || strings.Contains(strings.Join(policies, ""), "sandbox") || !strings.Contains(strings.Join(policies, ""), "frame-ancestors 'self'") {
		t.Errorf("policies %q", policies)
	}
	if to := got.Get("Location"); to != "https://login.test/?next=1" {
		t.Errorf("a login elsewhere: %q", to)
	}
	for _, to := range []string{"https://evil.test/", "//evil.test/", `/\evil.test`, "http://127.0.0.1:1/", "http://" + host + "//evil.test/", "https://" + host + "//evil.test/"} {
		if got := ask(http.Header{"Location": {to}}, "X-API-Key", "key-of-ada").Get("Location"); got != "" {
			t.Errorf("who has a key is led to %q", got)
		}
	}
	if got := ask(http.Header{"Location": {fmt.Sprintf("http://127.0.0.1:%d/y", port)}}, cookie...).Get("Location"); got != "/y" {
		t.Errorf("to itself: %q", got)
	}
}

// A link leads to its own host alone, whatever path is put to it.
func TestALinkLeadsNowhereElse(t *testing.T) {
	s := start(t, keys, domain)
	box, port := s.create(), inner(t, echo)
	host, token := s.link(box.SandboxID, port)
	for path, want := range map[string]string{
		"//evil.test/": "/.//evil.test/", "///evil.test": "/.///evil.test", `/\evil.test`: "/%5Cevil.test", `/\/evil.test`: "/%5C/evil.test", "/%2F/evil.test": "/%2F/evil.test",
		"/http://evil.test/": "/http://evil.test/", "/@evil.test": "/@evil.test", "/": "/",
	} {
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET %s?k2-preview=%s HTTP/1.1\r\nHost: %s\r\n\r\n", path, token, host)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.Header.Get("Location"); resp.StatusCode != 303 || got != want {
			t.Errorf("%s: status %d to %q, want %q", path, resp.StatusCode, got, want)
		}
	}
	// What is no page goes through, without the token.
	got := servertest.Decode[asked](t, s.call("POST", "/?k2-preview="+token+"&a=b", "x", "Host", host, "Referer", "http://"+host+"/?k2-preview="+token), 200)
	if got.URI != "/?a=b" || got.Head.Get("Referer") != "" {
		t.Errorf("got %+v", got)
	}
	if got := servertest.Decode[asked](t, s.call("PUT", "/p?k2-preview="+token, "x", "Host", host), 200); got.URI != "/p" {
		t.Errorf("got %+v", got)
	}
}

func TestWebSockets(t *testing.T) {
	s := start(t, keys, domain)
	box := s.create()
	port := inner(t, func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil) // which compares Origin and Host, too
		if err != nil {
			return
		}
		defer conn.CloseNow()
		kind, data, err := conn.Read(r.Context())
		if err == nil {
			_ = conn.Write(r.Context(), kind, append(data, r.RequestURI+r.Header.Get("Cookie")...))
		}
	})
	host, token := s.link(box.SandboxID, port)
	dial := func(query string, head http.Header) (string, error) {
		conn, resp, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(s.URL, "http")+"/ws"+query, &websocket.DialOptions{Host: host, HTTPHeader: head})
		if err != nil {
			return strconv.Itoa(resp.StatusCode), err
		}
		defer conn.CloseNow()
		if err := conn.Write(t.Context(), websocket.MessageText, []byte("hello ")); err != nil {
			return "", err
		}
		_, data, err := conn.Read(t.Context())
		return string(data), err
	}
	own := "http://" + host
	for name, test := range map[string]struct {
		query string
		head  http.Header
		want  string
	}{
		"by the cookie":            {"", http.Header{"Cookie": {"k2-preview=" + token + "; a=1"}, "Origin": {own}}, "hello /wsa=1"},
		"by the link":              {"?k2-preview=" + token, http.Header{}, "hello /ws"},
		"by a key":                 {"", http.Header{"X-Api-Key": {"key-of-ada"}}, "hello /ws"},
		"by nothing":               {"", http.Header{"Origin": {own}}, "401"},
		"of a page elsewhere":      {"", http.Header{"Cookie": {"k2-preview=" + token}, "Origin": {"http://evil.test"}}, "403"},
		"of a page of a sibling":   {"", http.Header{"Cookie": {"k2-preview=" + token}, "Origin": {"http://1-" + box.SandboxID + "." + domain}}, "403"},
		"of a page of no origin":   {"", http.Header{"Cookie": {"k2-preview=" + token}, "Origin": {"null"}}, "403"},
		"of a page of the console": {"", http.Header{"Cookie": {"k2-preview=" + token}, "Origin": {s.URL}}, "403"},
	} {
		if got, err := dial(test.query, test.head); got != test.want {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

// Without keys whoever reaches the server sees what is inside, as by the API; links are good there, too.
func TestWithoutKeys(t *testing.T) {
	s := start(t, "", "https://"+domain)
	box, port := s.create(), inner(t, echo)
	host, token := s.link(box.SandboxID, port)
	if host != fmt.Sprintf("%d-%s.%s", port, box.SandboxID, domain) {
		t.Errorf("behind a proxy the host is %q", host)
	}
	servertest.Decode[asked](t, s.call("GET", "/", "", "Host", host), 200)
	resp := s.call("GET", "/?k2-preview="+token, "", "Host", host)
	if set := resp.Header.Get("Set-Cookie"); resp.StatusCode != 303 || !strings.HasPrefix(set, "__Host-k2-preview="+token+"; Path=/; ") || !strings.Contains(set, "; Secure") || strings.Contains(set, "Domain") {
		t.Errorf("status %d, %q", resp.StatusCode, set)
	}
	if got := servertest.Decode[asked](t, s.call("GET", "/", "", "Host", host, "Cookie", "__Host-k2-preview="+token), 200); got.Head.Get("Cookie") != "" {
		t.Errorf("got %v", got.Head)
	}
	resp = s.call("GET", "/?k2-preview=x", "", "Host", host)
	if resp.StatusCode != 303 || resp.Header.Get("Set-Cookie") != "" {
		t.Errorf("a link that is none: status %d, %v", resp.StatusCode, resp.Header)
	}
}

// A browser that goes somewhere gets a page, which loads nothing.
func TestErrorsForBrowsers(t *testing.T) {
	s := start(t, keys, domain)
	box := s.create()
	resp := s.call("GET", "/", "", "Host", "8000-"+box.SandboxID+"."+domain, "Accept", "text/html,*/*;q=0.8")
	text := servertest.Read(t, resp)
	if resp.StatusCode != 401 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") || !strings.HasPrefix(resp.Header.Get("Content-Security-Policy"), "default-src 'none'") ||
		!strings.Contains(text, "<p>what listens on port 8000") || resp.Header.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("status %d, %v: %s", resp.StatusCode, resp.Header, text)
	}
}

func TestLinks(t *testing.T) {
	s := start(t, keys, "")
	box := s.create()
	ask := func(body string, headers ...string) *http.Response {
		return s.call("POST", "/v1/sandboxes/"+box.SandboxID+"/previews", body, headers...)
	}
	ada := []string{"X-API-Key", "key-of-ada"}
	refused(t, ask(`{"port":8000}`, ada...), 422, api.Unprocessable)
	s = start(t, keys, "localhost")
	box = s.create()
	for body, field := range map[string]string{
		`{}`: "port", `{"port":0}`: "port", `{"port":65536}`: "port", `{"port":-1}`: "port", `{"port":"80"}`: "port", `{"port":1.5}`: "port",
		`{"port":1,"expires_in":0.5}`: "expires_in", `{"port":1,"expires_in":86401}`: "expires_in", `{"port":1,"expires_in":-1}`: "expires_in", `{"port":1,"x":1}`: "x",
	} {
		if e := refused(t, ask(body, ada...), 400, api.InvalidRequest); !strings.Contains(fmt.Sprint(e.Details, e.Message), field) {
			t.Errorf("%s: got %+v", body, e)
		}
	}
	if e := refused(t, ask(`{"port":49983}`, ada...), 422, api.Unprocessable); e.Details["field"] != "port" {
		t.Errorf("a port of E2B's API: got %+v", e)
	}
	refused(t, ask(`{"port":8000}`, "X-API-Key", "key-of-bob"), 404, api.NotFound)
	refused(t, ask(`{"port":8000}`), 401, api.Unauthenticated)
	refused(t, ask(`{"port":8000}`, "Host", "box.e2b.test", "X-API-Key", "key-of-ada"), 422, api.Unprocessable) // whose browser is elsewhere
	for body, lasts := range map[string]time.Duration{`{"port":8000}`: time.Hour, `{"port":8000,"expires_in":60}`: time.Minute, `{"port":8000,"expires_in":86400}`: 24 * time.Hour} {
		before := time.Now()
		link := servertest.Decode[api.Preview](t, ask(body, "X-API-Key", box.AccessToken), 201)
		if link.ExpiresAt.Before(before.Add(lasts-time.Second)) || link.ExpiresAt.After(time.Now().Add(lasts)) || link.Port != 8000 {
			t.Errorf("%s: got %+v", body, link)
		}
		if want := "http://8000-" + box.SandboxID + ".localhost" + s.URL[strings.LastIndexByte(s.URL, ':'):] + "/?k2-preview=sbl_"; !strings.HasPrefix(link.URL, want) {
			t.Errorf("the URL is %q, want %q", link.URL, want)
		}
	}
	if got := servertest.Decode[api.ServerCapabilities](t, s.call("GET", "/v1/capabilities", "", ada...), 200); !got.Previews.Available {
		t.Errorf("got %+v", got.Previews)
	}
}

// No trace has the paths of what is inside, also of requests that are refused.
func TestPathsAreNotTraced(t *testing.T) {
	s := start(t, keys, domain)
	box := s.create()
	host, token := s.link(box.SandboxID, inner(t, echo))
	for _, headers := range [][]string{
		{"Host", host}, {"Host", host, "Cookie", "k2-preview=" + token}, {"Host", "8000-sb_none." + domain},
		{"Host", "api.e2b.test", "E2b-Sandbox-Id", box.SandboxID, "E2b-Sandbox-Port", "8000"}, {"Host", "49983-" + box.SandboxID + ".e2b.test"},
	} {
		servertest.Read(t, s.call("GET", "/secret", "", headers...))
	}
	servertest.Read(t, s.call("GET", "/v1/sandboxes/"+box.SandboxID+"/ports/8000/secret", ""))
	if len(s.paths.all) < 7 || strings.Contains(fmt.Sprint(s.paths.all), "secret") {
		t.Errorf("got %v", s.paths.all)
	}
}
