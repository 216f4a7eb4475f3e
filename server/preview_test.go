package server_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/server"
)

func TestPreviewDomain(t *testing.T) {
	for _, test := range []struct {
		given, host string
		tls         bool
		want        string
	}{
		{"previews.example.org", "box.example.org", false, "http://8000-sb_a.previews.example.org/"},
		{"previews.example.org", "box.example.org:8900", false, "http://8000-sb_a.previews.example.org:8900/"},
		{"Previews.example.org", "[::1]:8900", true, "https://8000-sb_a.previews.example.org:8900/"},
		{"previews.example.org:81", "127.0.0.1:8900", false, "http://8000-sb_a.previews.example.org:81/"},
		{"https://previews.example.org", "127.0.0.1:8900", false, "https://8000-sb_a.previews.example.org/"},
		{"http://p.example:8443", "127.0.0.1", true, "http://8000-sb_a.p.example:8443/"},
		{"localhost", "127.0.0.1:8900", false, "http://8000-sb_a.localhost:8900/"},
	} {
		d, err := server.ParsePreviewDomain(test.given)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("POST", "/", nil)
		r.Host = test.host
		if test.tls {
			r.TLS = &tls.ConnectionState{}
		}
		if got := d.URL(r, "sb_a", 8000).String(); got != test.want {
			t.Errorf("%s for %s: %s, want %s", test.given, test.host, got, test.want)
		}
		at := httptest.NewRequest("GET", test.want, nil)
		at.TLS = r.TLS
		if got, want := d.Secure(at), test.tls || strings.HasPrefix(test.want, "https:"); got != want {
			t.Errorf("%s: secure is %t", test.want, got)
		}
	}
	for _, given := range []string{
		"https://", "ftp://example.org", "example.org/", "example.org:", "example.org:0", "example.org:65536", "example.org:x", "*.example.org", ".example.org", "example.org.",
		"127.0.0.1", "[::1]", "a b", "ex_ample.org", "-a.org", "a..org", strings.Repeat("a.", 100) + "org", "user@example.org", "https://example.org:443/x",
	} {
		if d, err := server.ParsePreviewDomain(given); err == nil {
			t.Errorf("%q is taken: %v", given, d)
		}
	}
	if d, err := server.ParsePreviewDomain(""); err != nil || d != (server.PreviewDomain{}) || d.Hosts() != nil {
		t.Errorf("nothing is %v, %v", d, err)
	}
}

func TestPreviewsOfLocalhostAreForThisMachine(t *testing.T) {
	d, err := server.ParsePreviewDomain("localhost")
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{"127.0.0.1:8900": true, "LOCALHOST:8900": true, "[::1]:8900": true, "x.localhost": true, "box.example.org": false, "10.0.0.1": false, "": false} {
		if got := d.Reaches(&http.Request{Host: host}); got != want {
			t.Errorf("from %q: %t", host, got)
		}
	}
}
