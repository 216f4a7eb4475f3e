package inside

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"syscall"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
)

// portHandlers forward requests to servers inside the sandbox.
//
// What such a server answers is made by code that nobody trusts, and a browser would
// show it under this API's own origin. Unless Options.TrustPorts says otherwise, a page gets an
// origin of its own that it shares with nobody (CSP sandbox), no service worker, and
// no cookie: those of other servers on the same host are not for it.
type portHandlers struct {
	o    server.Options
	root bool // a server is at the root of an address of its own, for the client
}

// Ports returns what forwards /ports/{port}/… as the native API does below /v1, for an API whose clients
// see each server inside at the root of an address.
func Ports(o server.Options) http.Handler {
	h := &portHandlers{o.WithDefaults(), true}
	return server.New([]server.Route{{Method: server.AnyMethod, Path: "/ports/{port}/{path}", Handle: h.forward, Body: server.Unbounded}}, h.o)
}

func (h *portHandlers) routes() []server.Route {
	return []server.Route{
		{Method: server.AnyMethod, Path: "/v1/ports/{port}/{path}", Handle: h.forward, Body: server.Unbounded},
		{Method: "GET", Path: "/v1/ports/{port}", Handle: h.enter},
	}
}

// transport reaches servers inside. A connection carries one request: nothing is left
// of it when the answer ends, and none is stale.
var transport = &http.Transport{
	DialContext:        dialInside,
	DisableKeepAlives:  true,
	DisableCompression: true,
}

// finalOnly passes on what is final: an informational answer (RFC 9110 section 15.2) would
// bring headers that nobody has looked at, and take away those that are this server's own.
type finalOnly struct{ ctx context.Context } // without the proxy's trace

func (f finalOnly) RoundTrip(r *http.Request) (*http.Response, error) {
	return transport.RoundTrip(r.WithContext(f.ctx))
}

// dialInside connects to a port of the loopback address, of IPv6 where nothing is on the other.
func dialInside(ctx context.Context, _, addr string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if errors.Is(err, syscall.ECONNREFUSED) {
		_, port, _ := net.SplitHostPort(addr)
		if conn, err6 := d.DialContext(ctx, "tcp", net.JoinHostPort("::1", port)); err6 == nil {
			return conn, nil
		}
	}
	return conn, err
}

// enter leads to the place from which a page's relative links work.
func (h *portHandlers) enter(w http.ResponseWriter, r *http.Request) error {
	port, err := portOf(r)
	if err != nil {
		return err
	}
	w.Header().Set("Location", port+"/")
	w.WriteHeader(http.StatusPermanentRedirect)
	return nil
}

// forward sends the request on as it is, and the answer back as it comes: also
// one that has no end, and a connection that becomes another protocol's.
func (h *portHandlers) forward(w http.ResponseWriter, r *http.Request) error {
	port, err := portOf(r)
	if err != nil {
		return err
	}
	if r.Header.Get("Service-Worker") != "" && !h.o.Behind {
		return api.Errorf(api.Forbidden, "service workers are not allowed: they would serve this API's own pages")
	}
	before, path, found := strings.Cut(server.RawPath(r), "/ports/"+port+"/")
	if !found {
		return api.Invalid("port", "must be spelled as digits")
	}
	if h.o.Behind {
		before = r.Header.Get("X-Forwarded-Prefix")
	}
	_ = http.NewResponseController(w).EnableFullDuplex() // where the connection can
	prefix := before + "/ports/" + port
	if h.root {
		prefix = ""
	}
	f := forwarding{
		prefix: prefix, path: "/" + path, target: net.JoinHostPort("127.0.0.1", port),
		host: r.Host, trusted: h.o.TrustPorts || h.o.Behind, behind: h.o.Behind, browser: r.Header.Get("Sec-Fetch-Site") != "",
	}
	if r.ContentLength != 0 {
		sent := server.Body(w, r, h.o)
		defer sent.Close() // the transport may not have read to the end
		r = r.WithContext(r.Context())
		r.Body = sent
	}
	var failed error
	proxy := httputil.ReverseProxy{
		Transport: finalOnly{r.Context()}, FlushInterval: -1, Rewrite: f.rewrite, ModifyResponse: f.answer, ErrorLog: slog.NewLogLogger(h.o.Log.Handler(), slog.LevelDebug),
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) { failed = err },
	}
	proxy.ServeHTTP(w, r)
	if failed == nil {
		return nil
	}
	if errors.Is(failed, syscall.ECONNREFUSED) {
		return api.Errorf(api.SandboxUnreachable, "port is not open: nothing listens on port %s", port)
	}
	if r.Context().Err() != nil {
		return r.Context().Err()
	}
	return api.Errorf(api.SandboxUnreachable, "the server on port %s does not answer: %v", port, failed)
}

// portOf returns the port of the path, which is not that of this server itself.
func portOf(r *http.Request) (string, error) {
	given := server.Param(r, "port")
	n, err := strconv.Atoi(given)
	if err != nil || n < 1 || n > 65535 || strconv.Itoa(n) != given {
		return "", api.Invalid("port", "expected a number from 1 to 65535, got %q", given)
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if ok && local.Port == n {
		return "", api.Invalid("port", "%d is this server's own", n)
	}
	return given, nil
}

// forwarding is one request on its way.
type forwarding struct {
	prefix, path string // of its URL, as the client wrote it
	target       string // host and port inside
	host         string // that the client knows
	trusted      bool   // nobody has to be guarded from the answer, or who is before us does
	behind       bool   // another server of ours, whose word counts
	browser      bool   // the client is one
}

func (f *forwarding) rewrite(p *httputil.ProxyRequest) {
	p.Out.Host = f.host
	p.Out.URL = &url.URL{Scheme: "http", Host: f.target, Opaque: f.path, RawQuery: p.In.URL.RawQuery, ForceQuery: p.In.URL.ForceQuery}
	if strings.HasPrefix(f.path, "//") { // as Opaque it would be a host
		p.Out.URL.Opaque, p.Out.URL.RawPath = "", f.path
		p.Out.URL.Path, _ = url.PathUnescape(f.path)
	}
	p.SetXForwarded()
	if f.behind {
		for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
			p.Out.Header[name] = p.In.Header[name]
		}
	}
	p.Out.Header.Set("X-Forwarded-Prefix", f.prefix)
	p.Out.Header.Del("X-Api-Key")
	if _, ok := p.In.Header["User-Agent"]; !ok {
		p.Out.Header.Set("User-Agent", "") // and not Go's
	}
	if !f.trusted && f.browser {
		p.Out.Header.Del("Cookie")
	}
}

// answer changes what an answer from inside says to a browser about this origin.
func (f *forwarding) answer(resp *http.Response) error {
	h := resp.Header
	server.GuardPage(h, f.trusted, f.browser)
	if where, err := url.Parse(h.Get("Location")); err == nil && h.Get("Location") != "" {
		own := where.Scheme == "http" && (where.Host == f.host || where.Host == f.target)
		if own {
			where.Scheme, where.Host = "", ""
		}
		if where.Scheme == "" && where.Host == "" && strings.HasPrefix(where.EscapedPath(), "/") && (own && f.prefix == "" || !strings.HasPrefix(where.EscapedPath(), f.prefix+"/")) {
			h.Set("Location", f.prefix+where.String())
		}
	}
	return nil
}
