package server_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/k2sandbox/k2sandbox/server"
)

func TestSessionCookieIsOneOfTheServerAlone(t *testing.T) {
	for host, want := range map[string]string{
		"localhost:8900": "k2-console-8900", "127.0.0.1:80": "k2-console-80", "[::1]:8900": "k2-console-8900", "sandboxes.example.org": "k2-console",
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = host
		if got := server.SessionCookie(r); got != want {
			t.Errorf("at %s it is %q, want %q", host, got, want)
		}
		r.TLS = &tls.ConnectionState{}
		if got := server.SessionCookie(r); got != "__Host-k2-console" {
			t.Errorf("at https://%s it is %q", host, got)
		}
	}
}

func TestDropSessionLeavesOtherCookies(t *testing.T) {
	for given, want := range map[string]string{
		"k2-console-8900=secret":                            "",
		"a=1; k2-console-8900=secret; b=2":                  "a=1; b=2",
		"__Host-k2-console=secret; a=1":                     "a=1",
		"a=1; k2-other=3":                                   "a=1; k2-other=3",
		"k2-console=x; k2-console-1=y; k2-console-2=z":      "",
		"k2-preview=x; a=\"1, 2\";b=2; __Host-k2-preview=y": "a=\"1, 2\";b=2",
		"k2-preview=x;":                                     "",
		"a=1;":                                              "a=1;",
		"=k2-preview; a":                                    "=k2-preview; a",
	} {
		h := http.Header{"Cookie": {given}}
		if server.DropSession(h); h.Get("Cookie") != want {
			t.Errorf("of %q is left %q, want %q", given, h.Get("Cookie"), want)
		}
	}
}
