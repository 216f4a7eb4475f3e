package console_test

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/console"
)

const origin = "http://localhost:8900"

// house is a server with a key, the console and one route that tells who calls.
type house struct {
	http.Handler
	file string
}

func open(t *testing.T, file, keys string, readOnly bool) house {
	t.Helper()
	known, err := server.ReadKeys(strings.NewReader(keys))
	if err != nil {
		t.Fatal(err)
	}
	sessions, err := console.OpenSessions(file, known, readOnly)
	if err != nil {
		t.Fatal(err)
	}
	o := server.Options{Keys: known, Session: sessions.Caller, Version: "test"}
	who := func(w http.ResponseWriter, r *http.Request) error {
		server.WriteJSON(w, http.StatusOK, server.CallerOf(r))
		return nil
	}
	native := server.New([]server.Route{
		{Method: "GET", Path: "/v1/who", Handle: who},
		{Method: "POST", Path: "/v1/who", Handle: who},
		{Method: server.AnyMethod, Path: "/v1/sandboxes/{path}", Handle: who},
	}, o)
	return house{console.New(console.Options{Options: o, Sessions: sessions, Next: native}), file}
}

func fresh(t *testing.T, readOnly bool) house {
	return open(t, filepath.Join(t.TempDir(), "console.json"), "ada:secret-of-ada", readOnly)
}

// call sends a request with headers given as pairs.
func (h house) call(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, origin+path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func (h house) link(t *testing.T) api.ConsoleLink {
	t.Helper()
	w := h.call("POST", "/v1/console/links", "", "X-Api-Key", "secret-of-ada")
	var link api.ConsoleLink
	if err := json.Unmarshal(w.Body.Bytes(), &link); err != nil || w.Code != http.StatusCreated {
		t.Fatalf("a link: %d %s, %v", w.Code, w.Body, err)
	}
	return link
}

func (h house) begin(token string, headers ...string) *httptest.ResponseRecorder {
	return h.call("POST", "/v1/console/session", `{"token":"`+token+`"}`, headers...)
}

// login returns what a browser sends from then on.
func (h house) login(t *testing.T) string {
	t.Helper()
	w := h.begin(h.link(t).Token, "Origin", origin)
	if w.Code != http.StatusOK {
		t.Fatalf("login: %d %s", w.Code, w.Body)
	}
	c := w.Result().Cookies()[0]
	return c.Name + "=" + c.Value
}

func status(t *testing.T, what string, w *httptest.ResponseRecorder, want int) {
	t.Helper()
	if w.Code != want {
		t.Errorf("%s: %d, want %d: %s", what, w.Code, want, w.Body)
	}
}

func TestLoginGivesACookieThatNoScriptReads(t *testing.T) {
	h := fresh(t, false)
	link := h.link(t)
	if link.Path != "/console/#t="+link.Token {
		t.Errorf("the link is %q: its token has to be in the fragment", link.Path)
	}
	w := h.begin(link.Token, "Origin", origin, "Sec-Fetch-Site", "same-origin")
	status(t, "login", w, http.StatusOK)
	cookies := w.Result().Cookies()
	if len(cookies) != 1 {
		t.Fatalf("cookies %v, want one", cookies)
	}
	if c := cookies[0]; !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Name != "k2-console-8900" || c.Domain != "" {
		t.Errorf("cookie %v", c)
	}
	status(t, "the link once more", h.begin(link.Token), http.StatusUnauthorized)
}

func TestLinksNeedTheKey(t *testing.T) {
	h := fresh(t, false)
	status(t, "no key", h.call("POST", "/v1/console/links", ""), http.StatusUnauthorized)
	status(t, "a wrong key", h.call("POST", "/v1/console/links", "", "Authorization", "Bearer secret"), http.StatusUnauthorized)
	status(t, "a session is no key", h.call("POST", "/v1/console/links", "", "Cookie", h.login(t)), http.StatusUnauthorized)
}

func TestLinkAndSessionExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := fresh(t, false)
		link := h.link(t)
		time.Sleep(61 * time.Second)
		status(t, "an old link", h.begin(link.Token), http.StatusUnauthorized)
		cookie := h.login(t)
		time.Sleep(12*time.Hour - time.Minute)
		status(t, "a session of today", h.call("GET", "/v1/who", "", "Cookie", cookie), http.StatusOK)
		time.Sleep(2 * time.Minute)
		status(t, "a session that has expired", h.call("GET", "/v1/who", "", "Cookie", cookie), http.StatusUnauthorized)
		status(t, "and what the page asks", h.call("GET", "/v1/console/session", "", "Cookie", cookie), http.StatusUnauthorized)
	})
}

func TestCookieCountsForTheOwnPageOnly(t *testing.T) {
	h := fresh(t, false)
	cookie := h.login(t)
	for _, c := range []struct {
		what   string
		want   int
		method string
		header []string
	}{
		{"the page", 200, "POST", []string{"Origin", origin, "Sec-Fetch-Site", "same-origin"}},
		{"a WebSocket of the page", 200, "GET", []string{"Origin", origin, "Upgrade", "websocket"}},
		{"another port of the host", 403, "POST", []string{"Origin", "http://localhost:3000", "Sec-Fetch-Site", "same-site"}},
		{"a page without an origin", 403, "POST", []string{"Origin", "null", "Sec-Fetch-Site", "cross-site"}},
		{"an image of another port", 403, "GET", []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "no-cors"}},
		{"a link of another port", 401, "GET", []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "navigate"}},
		{"a WebSocket of another site", 403, "GET", []string{"Origin", "https://evil.example", "Upgrade", "websocket"}},
	} {
		w := h.call(c.method, "/v1/who", "", append(c.header, "Cookie", cookie)...)
		status(t, c.what, w, c.want)
		if w.Code == 200 && !strings.Contains(w.Body.String(), `"Key":"ada"`) {
			t.Errorf("%s: is known as %s", c.what, w.Body)
		}
	}
	r := httptest.NewRequest("GET", "http://evil.example/v1/who", nil)
	r.Header.Set("Cookie", cookie)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	status(t, "another name of the host", w, http.StatusForbidden)
	status(t, "login from another site", h.begin(h.link(t).Token, "Origin", "https://evil.example"), http.StatusForbidden)
}

func TestSessionOutlivesTheServerAndNotItsKey(t *testing.T) {
	h := fresh(t, false)
	cookie := h.login(t)
	again := open(t, h.file, "ada:secret-of-ada", false)
	status(t, "after a restart", again.call("GET", "/v1/who", "", "Cookie", cookie), http.StatusOK)
	without := open(t, h.file, "bob:secret-of-bob", false)
	status(t, "after its key has gone", without.call("GET", "/v1/who", "", "Cookie", cookie), http.StatusUnauthorized)
	status(t, "sign out", again.call("DELETE", "/v1/console/session", "", "Cookie", cookie, "Origin", origin), http.StatusNoContent)
	status(t, "after that", again.call("GET", "/v1/who", "", "Cookie", cookie), http.StatusUnauthorized)
	status(t, "and after a restart", open(t, h.file, "ada:secret-of-ada", false).call("GET", "/v1/who", "", "Cookie", cookie), http.StatusUnauthorized)
}

func TestBrowsersOfAKeyAreListedAndSignedOut(t *testing.T) {
	h := fresh(t, false)
	one, other := h.login(t), h.login(t)
	w := h.call("GET", "/v1/console/sessions", "", "Cookie", one)
	status(t, "the list", w, http.StatusOK)
	var found api.ConsoleBrowsers
	if err := json.Unmarshal(w.Body.Bytes(), &found); err != nil || len(found.Sessions) != 2 {
		t.Fatalf("the list is %s, %v", w.Body, err)
	}
	if _, value, _ := strings.Cut(other, "="); strings.Contains(w.Body.String(), value) {
		t.Error("the list has the secret of a session")
	}
	for _, browser := range found.Sessions {
		if !browser.Current {
			status(t, "sign out another", h.call("DELETE", "/v1/console/sessions/"+browser.ID, "", "Cookie", one, "Origin", origin), http.StatusNoContent)
			status(t, "and once more", h.call("DELETE", "/v1/console/sessions/"+browser.ID, "", "Cookie", one, "Origin", origin), http.StatusNotFound)
		}
	}
	status(t, "the other", h.call("GET", "/v1/who", "", "Cookie", other), http.StatusUnauthorized)
	status(t, "the one", h.call("GET", "/v1/who", "", "Cookie", one), http.StatusOK)
	status(t, "an id that is none", h.call("DELETE", "/v1/console/sessions/x", "", "Cookie", one, "Origin", origin), http.StatusNotFound)
	for _, method := range []string{"GET /v1/console/sessions", "DELETE /v1/console/sessions/x"} {
		verb, path, _ := strings.Cut(method, " ")
		status(t, method+" of nobody", h.call(verb, path, "", "Origin", origin), http.StatusUnauthorized)
	}
}

func TestReadOnlySessionChangesNothing(t *testing.T) {
	h := fresh(t, true)
	cookie := h.login(t)
	own := []string{"Cookie", cookie, "Origin", origin}
	status(t, "look", h.call("GET", "/v1/who", "", own...), http.StatusOK)
	status(t, "change", h.call("POST", "/v1/who", "", own...), http.StatusForbidden)
	status(t, "a WebSocket, which writes", h.call("GET", "/v1/who", "", append(own, "Upgrade", "websocket")...), http.StatusForbidden)
	status(t, "a port", h.call("GET", "/v1/sandboxes/sb_1/ports/80/", "", own...), http.StatusForbidden)
	if w := h.call("GET", "/v1/console/session", "", own...); !strings.Contains(w.Body.String(), `"read_only":true`) {
		t.Errorf("the page is told %s", w.Body)
	}
	status(t, "the key itself", h.call("POST", "/v1/who", "", "X-Api-Key", "secret-of-ada"), http.StatusOK)
}

func TestWithoutKeysNobodyLogsIn(t *testing.T) {
	h := open(t, filepath.Join(t.TempDir(), "console.json"), "", false)
	status(t, "the session", h.call("GET", "/v1/console/session", ""), http.StatusOK)
	status(t, "a link", h.call("POST", "/v1/console/links", ""), http.StatusCreated)
}

func TestPageAndItsFilesAreServedWithTheirPolicy(t *testing.T) {
	h := fresh(t, false)
	page := h.call("GET", "/console/", "")
	status(t, "the page", page, http.StatusOK)
	if got := page.Header().Get("Cache-Control"); got != "no-store" {
		t.Errorf("the page's Cache-Control is %q", got)
	}
	policy := page.Header().Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self';", "frame-ancestors 'none'", "require-trusted-types-for 'script'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the page's policy lacks %q: %s", want, policy)
		}
	}
	if regexp.MustCompile(`<script(>|[^>]*>[^<])`).MatchString(page.Body.String()) {
		t.Error("the page has an inline script, which its policy refuses")
	}
	names := regexp.MustCompile(`(?:src|href)="\./([^"]+)"`).FindAllStringSubmatch(page.Body.String(), -1)
	if len(names) < 3 {
		t.Fatalf("the page loads %v: want a script, a style and the theme", names)
	}
	for _, name := range names {
		w := h.call("GET", "/console/"+name[1], "", "Accept-Encoding", "gzip")
		status(t, name[1], w, http.StatusOK)
		z, err := gzip.NewReader(w.Body)
		if err != nil {
			t.Fatalf("%s: %v", name[1], err)
		}
		packed, err := io.ReadAll(z)
		plain := h.call("GET", "/console/"+name[1], "", "Accept-Encoding", "gzip;q=0").Body.Bytes()
		if err != nil || string(packed) != string(plain) {
			t.Errorf("%s is another file when it is packed (%v)", name[1], err)
		}
		if immutable := strings.Contains(w.Header().Get("Cache-Control"), "immutable"); immutable != strings.HasPrefix(name[1], "assets/") {
			t.Errorf("%s: immutable is %v", name[1], immutable)
		}
	}
	status(t, "a file that there is not", h.call("GET", "/console/assets/x.js", ""), http.StatusNotFound)
	status(t, "the folder above", h.call("GET", "/console/assets/../index.html", ""), http.StatusNotFound)
	if w := h.call("GET", "/", ""); w.Code != http.StatusFound || w.Header().Get("Location") != "console/" {
		t.Errorf("the root leads to %d %q", w.Code, w.Header().Get("Location"))
	}
}

func TestFrameReachesNobody(t *testing.T) {
	w := fresh(t, false).call("GET", "/console/frame", "")
	status(t, "the frame", w, http.StatusOK)
	policy := w.Header().Get("Content-Security-Policy")
	for _, want := range []string{"sandbox allow-scripts;", "default-src 'none'", "form-action 'none'", "frame-ancestors 'self'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the frame's policy lacks %q: %s", want, policy)
		}
	}
	for _, never := range []string{"allow-same-origin", "connect-src", "http:", "https:", "'self' "} {
		if strings.Contains(policy, never) {
			t.Errorf("the frame's policy has %q: %s", never, policy)
		}
	}
}
