package server_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
)

func keys(t *testing.T, text string) *server.Keys {
	t.Helper()
	k, err := server.ReadKeys(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestReadKeys(t *testing.T) {
	k := keys(t, "# a comment\n\nada:first-key\nada:second-key\r\n  alone  \n")
	if k.Len() != 3 {
		t.Errorf("%d keys", k.Len())
	}
	for secret, name := range map[string]string{"first-key": "ada", "second-key": "ada", "": "", "first-ke": "", "first-key ": "", "ada": "", "ada:first-key": "", "# a comment": ""} {
		if got, ok := k.Find(secret); got != name || ok != (name != "") {
			t.Errorf("%q: got %q, %v", secret, got, ok)
		}
	}
	if got, ok := k.Find("alone"); !ok || !strings.HasPrefix(got, "key-") || strings.Contains(got, "alone") {
		t.Errorf("got %q, %v", got, ok)
	}
	for text, line := range map[string]string{
		"a:b\n:x": "line 2", "ada:": "line 1", "a b:secret": "line 1", "ada:sec ret": "line 1", "ada:sec:ret": "line 1", "ada:sécret": "line 1",
		"a:secret\nb:secret": "line 2", "a:" + strings.Repeat("x", 513): "line 1", strings.Repeat("x", 65) + ":y": "line 1", "a:\x01": "line 1",
	} {
		_, err := server.ReadKeys(strings.NewReader(text))
		if err == nil || !strings.Contains(err.Error(), line) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%.30q: got %v", text, err)
		}
	}
	if _, err := server.ReadKeys(strings.NewReader(strings.Repeat("x", 1<<20))); err == nil {
		t.Error("a line of a MiB was read")
	}
	var none *server.Keys
	if _, ok := none.Find("x"); ok || none.Len() != 0 {
		t.Error("no keys have one")
	}
}

// secured is a server with keys, whose routes tell who called.
func secured(t *testing.T, log *bytes.Buffer) http.Handler {
	t.Helper()
	who := func(w http.ResponseWriter, r *http.Request) error {
		c := server.CallerOf(r)
		_, err := fmt.Fprintf(w, "{Key:%s Sandbox:%s}", c.Key, c.Sandbox)
		return err
	}
	var all []server.Route
	for _, path := range []string{"/healthz", "/readyz", "/openapi.yaml", "/metrics", "/v1/sandboxes", "/v1/sandboxes/{id}", "/v1/sandboxes/{id}/code"} {
		all = append(all, server.Route{Method: "GET", Path: path, Handle: who})
	}
	return server.New(all, server.Options{
		Keys: keys(t, "ada:key-of-ada\nbob:key-of-bob"), Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Token: func(id, token string) bool { return id == "sb_1" && token == "token-of-1" },
	})
}

func TestKeysAndTokens(t *testing.T) {
	var log bytes.Buffer
	h := secured(t, &log)
	const ada, bob, one, nobody = "{Key:ada Sandbox:}", "{Key:bob Sandbox:}", "{Key: Sandbox:sb_1}", "{Key: Sandbox:}"
	for _, test := range []struct {
		path    string
		headers []string
		who     string // "": refused
	}{
		{"/healthz", nil, nobody},
		{"/readyz", []string{"X-Api-Key", "wrong"}, nobody},
		{"/openapi.yaml", nil, nobody},
		{"/metrics", nil, ""},
		{"/v1/sandboxes", nil, ""},
		{"/v1/nowhere", nil, ""},
		{"/v1/sandboxes", []string{"X-API-Key", "key-of-ada"}, ada},
		{"/v1/sandboxes", []string{"Authorization", "Bearer key-of-bob"}, bob},
		{"/v1/sandboxes", []string{"Authorization", "bearer  key-of-bob "}, bob},
		{"/v1/sandboxes", []string{"X-Api-Key", "key-of-ada", "Authorization", "Bearer key-of-bob"}, ada},
		{"/v1/sandboxes", []string{"X-Api-Key", "wrong", "Authorization", "Bearer key-of-bob"}, ""},
		{"/v1/sandboxes", []string{"Authorization", "Basic key-of-bob"}, ""},
		{"/v1/sandboxes", []string{"Authorization", "key-of-bob"}, ""},
		{"/v1/sandboxes", []string{"Authorization", "Bearer"}, ""},
		{"/v1/sandboxes", []string{"X-Api-Key", "token-of-1"}, ""},
		{"/v1/sandboxes?api_key=key-of-ada", nil, ""},
		{"/v1/sandboxes/sb_1", []string{"X-Api-Key", "token-of-1"}, one},
		{"/v1/sandboxes/sb_1/code", []string{"Authorization", "Bearer token-of-1"}, one},
		{"/v1/sandboxes/sb_2", []string{"X-Api-Key", "token-of-1"}, ""},
		{"/v1/sandboxes/sb_2/code", []string{"Authorization", "Bearer token-of-1"}, ""},
		{"/metrics", []string{"X-Api-Key", "token-of-1"}, ""},
		{"/v1/sandboxes/sb_2", []string{"X-Api-Key", "key-of-ada"}, ada},
		{"/v1/sandboxes/", []string{"X-Api-Key", "token-of-1"}, ""},
		{"/v1/sandboxes//code", []string{"X-Api-Key", "token-of-1"}, ""},
	} {
		resp := ask(h, "GET", test.path, test.headers...)
		if test.who == "" {
			if e := fault(t, resp); resp.StatusCode != 401 || e.Code != api.Unauthenticated || !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("%s %q: status %d %+v", test.path, test.headers, resp.StatusCode, e)
			}
			continue
		}
		var body bytes.Buffer
		_, _ = body.ReadFrom(resp.Body)
		if resp.StatusCode != 200 || body.String() != test.who {
			t.Errorf("%s %q: status %d %s", test.path, test.headers, resp.StatusCode, &body)
		}
	}
	for _, secret := range []string{"key-of-ada", "key-of-bob", "token-of-1", "wrong"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log has %s", secret)
		}
	}
	if !strings.Contains(log.String(), "request refused") || !strings.Contains(log.String(), "key=ada") || !strings.Contains(log.String(), "sandbox=sb_2") {
		t.Errorf("the log has not who did what: %s", &log)
	}
}

// A key does not open the door to foreign web pages.
func TestKeysAndOrigins(t *testing.T) {
	h := secured(t, &bytes.Buffer{})
	for _, headers := range [][]string{{"Host", "evil.example"}, {"Origin", "http://evil.example"}, {"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors"}} {
		if resp := ask(h, "GET", "/v1/sandboxes", append(headers, "X-Api-Key", "key-of-ada")...); resp.StatusCode != 403 {
			t.Errorf("%q: status %d", headers, resp.StatusCode)
		}
	}
	for path, status := range map[string]int{"/v1/sandboxes/sb_1/ports/80/x.js": 404, "/v1/sandboxes/sb_1/v1/ports/80/x.js": 404, "/v1/ports/80/x": 404, "/v1/sandboxes/sb_1/code": 403, "/v1/sandboxes/sb_1/x/ports/80": 403} {
		if resp := ask(h, "GET", path, "Origin", "null", "Referer", "http://localhost/x", "X-Api-Key", "key-of-ada"); resp.StatusCode != status {
			t.Errorf("%s: status %d, want %d", path, resp.StatusCode, status)
		}
	}
}
