package main

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/client"
)

// echo answers with its name, where it was asked, and what it was given of keys.
func echo(t *testing.T, name string) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, strings.Join([]string{name, r.Method, r.RequestURI, r.Header.Get("X-Api-Key"), r.Header.Get("Authorization"), r.Header.Get("Cookie"), r.Header.Get("Origin")}, " "))
	}))
	t.Cleanup(s.Close)
	return s
}

func front(t *testing.T, sandbox string) *httptest.Server {
	t.Helper()
	c, err := client.New(echo(t, "boxes").URL, client.Options{Key: "key"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	to, err := url.Parse(echo(t, "pages").URL)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(newLabFront(c, httputil.NewSingleHostReverseProxy(to), "secret", sandbox, "127.0.0.1:8888", slog.New(slog.DiscardHandler)))
	t.Cleanup(s.Close)
	return s
}

func TestLabSendsEachRequestWhereItBelongs(t *testing.T) {
	pages, refused := "pages", "404"
	for _, c := range []struct{ method, path, alone, inBox string }{
		{"GET", "/lab/tree/a.ipynb", pages, pages},
		{"GET", "/api/contents/a%20b", pages, "boxes GET /jupyter/sb_1/api/contents/a%20b "},
		{"POST", "/api/sessions", pages, "boxes POST /jupyter/sb_1/api/sessions "},
		{"GET", "/api/kernels/x/channels?session_id=1&token=secret", "boxes GET /api/kernels/x/channels?session_id=1 ", "boxes GET /jupyter/sb_1/api/kernels/x/channels?session_id=1 "},
		{"POST", "/api/terminals", refused, "boxes POST /jupyter/sb_1/api/terminals "},
		{"GET", "/jupyter/sb_1/kernelspecs/p/logo.svg", refused, "boxes GET /jupyter/sb_1/kernelspecs/p/logo.svg "},
		{"GET", "/jupyter/sb_2/api/contents", refused, refused},
		{"GET", "/jupyter/sb_1/../sb_2/api", refused, refused},
		{"GET", "/jupyter/sb_1/%2e%2e/sb_2/api", refused, refused},
		{"GET", "/v1/sandboxes", refused, refused},
		{"GET", "/api/config/x", refused, refused},
		{"GET", "//api/kernels", refused, refused},
		{"GET", "/lab/../api/shutdown", refused, refused},
		{"POST", "/api/shutdown", refused, refused},
		{"GET", "/lab/api/extensions", pages, pages},
		{"POST", "/lab/api/extensions", refused, refused},
		{"POST", "/lab/api/build", refused, refused},
		{"GET", "/lsp/ws/x", refused, refused},
	} {
		for sandbox, want := range map[string]string{"": c.alone, "sb_1": c.inBox} {
			status, got := labAsk(t, front(t, sandbox), c.method, c.path, "Authorization", "token secret", "Cookie", "other=1")
			switch {
			case want == refused && status == http.StatusNotFound:
			case want != refused && status == http.StatusOK && strings.HasPrefix(got, want):
			default:
				t.Errorf("%s %s with sandbox %q: %d %s, want %s", c.method, c.path, sandbox, status, got, want)
			}
			if strings.HasPrefix(got, "boxes") && (!strings.Contains(got, " key ") || strings.Contains(got, "secret") || strings.Contains(got, "other")) {
				t.Errorf("%s %s: the server was sent %s", c.method, c.path, got)
			}
		}
	}
}

func TestLabLetsInNobodyWithoutItsToken(t *testing.T) {
	s := front(t, "")
	for _, c := range []struct {
		path   string
		header []string
		status int
	}{
		{"/lab", nil, 401},
		{"/lab?token=wrong", nil, 401},
		{"/lab?token=secret", nil, 200},
		{"/lab", []string{"Authorization", "token secret"}, 200},
		{"/lab", []string{"Authorization", "Bearer secret"}, 200},
		{"/lab", []string{"Authorization", "Basic secret"}, 401},
		{"/lab", []string{"Cookie", "k2-lab-8888=secret"}, 200},
		{"/lab", []string{"Cookie", "k2-lab-8889=secret"}, 401},
		{"/lab", []string{"Cookie", "k2-lab-8888=secret", "Origin", "http://evil.example"}, 403},
		{"/lab?token=secret", []string{"Host", "evil.example"}, 403},
		{"/lab", []string{"Cookie", "k2-lab-8888=secret", "Service-Worker", "script"}, 403},
	} {
		if status, got := labAsk(t, s, "GET", c.path, c.header...); status != c.status {
			t.Errorf("%s %q: %d %s, want %d", c.path, c.header, status, got, c.status)
		}
	}
}

func labAsk(t *testing.T, s *httptest.Server, method, path string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, query, _ := strings.Cut(path, "?")
	req.URL.Opaque, req.URL.RawQuery = "//"+req.URL.Host+raw, query
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host, req.URL.Opaque = header[i+1], raw // not the whole URL, which has a host
		}
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}
