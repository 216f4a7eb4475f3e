package server

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/internal/lazy"
	"github.com/k2sandbox/k2sandbox/trace"
)

const requestIDHeader = "X-Request-Id"

const longestRequestID = 128 // bytes

// validRequestID reports whether a client's id of a request can be ours, too: it comes into logs.
func validRequestID(id string) bool {
	for i := range len(id) {
		c := id[i]
		plain := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !plain && (i == 0 || strings.IndexByte("._:/+=-", c) < 0) {
			return false
		}
	}
	return id != "" && len(id) <= longestRequestID
}

// Guard returns a handler that does for every request what holds for all, and answers with the
// error that handle returns. It is for APIs that find by something else than paths what answers.
func Guard(handle func(w http.ResponseWriter, r *http.Request) error, o Options) http.Handler {
	s := &server{o.WithDefaults()}
	return s.guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := handle(w, r); err != nil {
			s.fail(w, r, err)
		}
	}))
}

// guard does what holds for every request, before and after next does its work.
func (s *server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w := &response{ResponseWriter: rw, control: http.NewResponseController(rw), patience: s.WriteTimeout}
		if v := visitOf(r.Context()); v != nil && (v.r.Method == http.MethodGet || v.r.Method == http.MethodHead) { // others can have begun to answer, and have something to do yet
			w.visit = v
		}
		if r.ContentLength != 0 && r.ProtoMajor == 1 {
			w.asked = &payload{ReadCloser: r.Body}
			r.Body = w.asked
		}
		id := r.Header.Get(requestIDHeader)
		if !validRequestID(id) {
			id = fmt.Sprintf("req_%016x", rand.Uint64())
		}
		w.Header().Set(requestIDHeader, id)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if s.Log.Enabled(r.Context(), slog.LevelDebug) {
			defer s.logRequest(w, r, id, time.Now())
		}
		if s.Observe != nil {
			start := time.Now()
			defer func() { s.Observe(r, w.status, time.Since(start)) }()
		}
		if s.Tracer != nil {
			r = s.traced(w, r, id)
			defer w.endSpan(r)
		}
		defer s.drain(w, r)
		defer s.recover(w, r, id)
		err := s.checkCaller(r)
		if err == nil {
			w.caller, err = s.authenticate(r)
		}
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		if w.caller != (Caller{}) {
			if w.span != nil && w.caller.Key != "" {
				w.span.Set(trace.String(traceKey, w.caller.Key))
			}
			r = WithCaller(r, w.caller)
		}
		next.ServeHTTP(w, r)
		if w.status == 0 && r.Context().Err() == nil {
			w.begin(http.StatusOK) // which net/http says where nobody has said anything
		}
	})
}

// drain bounds how long what is left of a request's body is waited for, which net/http reads before it sends an answer
// that nobody has read it for, and once it has been sent.
func (s *server) drain(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.WriteTimeout / 4)) // where the connection can; the answer is still to be written
	}
}

// recover turns a panic into an answer without detail, or, where the answer has
// begun, into a connection that is cut, which no client takes for a whole answer.
func (s *server) recover(w *response, r *http.Request, id string) {
	p := recover()
	if p == nil {
		return
	}
	if p != http.ErrAbortHandler {
		s.Log.Error("request panicked", "request", id, "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
	}
	if p == http.ErrAbortHandler || w.status != 0 {
		w.cut = true
		panic(http.ErrAbortHandler)
	}
	told := api.Errorf(api.Internal, "internal error: the log has it under %s", id)
	s.tell(w, r, told, told)
}

func (s *server) logRequest(w *response, r *http.Request, id string, start time.Time) {
	s.Log.Debug("request", "request", id, "method", r.Method, "path", r.URL.Path, "status", w.status,
		"seconds", time.Since(start).Seconds(), "remote", r.RemoteAddr, "key", w.caller.Key, "sandbox", SandboxOf(r))
}

// refuse answers a request that is not let in.
func (s *server) refuse(w *response, r *http.Request, err error) {
	told := describe(err, w.Header().Get(requestIDHeader))
	if told.Code == api.Unauthenticated {
		w.Header().Set("WWW-Authenticate", `Bearer realm="k2sandbox"`) // RFC 6750
	}
	s.Log.Warn("request refused", "request", w.Header().Get(requestIDHeader), "method", r.Method, "path", r.URL.Path,
		"remote", r.RemoteAddr, "reason", told.Message)
	s.fail(w, r, told)
}

// checkCaller keeps out web pages that the user's browser shows: by the Host that
// they think to talk to (DNS rebinding) and by the origin that they come from.
func (s *server) checkCaller(r *http.Request) error {
	if !s.hostAllowed(r) {
		return api.Errorf(api.Forbidden, "host %q is not served here: add it to the server's hosts", r.Host)
	}
	if fromPort(r) || s.AllowsOrigin(r.Header.Get("Origin")) {
		return nil
	}
	origin, site, mode := r.Header.Get("Origin"), r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Sec-Fetch-Mode")
	quiet := origin == "null" && site == "same-origin" // a page that tells nobody where it is, itself included
	if origin != "" && !sameHost(origin, r.Host) && !quiet {
		return api.Errorf(api.Forbidden, "requests from the origin %q are not allowed", origin)
	}
	if (site == "cross-site" || site == "same-site") && (mode != "navigate" || r.Method != http.MethodGet) {
		return api.Errorf(api.Forbidden, "%s requests are not allowed", site)
	}
	return nil
}

// AllowsOrigin reports whether pages of an origin that is not the server's may use it; those of none are not meant.
func (o Options) AllowsOrigin(origin string) bool {
	return origin != "" && slices.ContainsFunc(o.Origins, func(known string) bool { return known == "*" || strings.EqualFold(known, origin) })
}

// portPath is where servers inside are reached, on an agent or through a server.
var portPath = lazy.Regexp(`^/v1/(sandboxes/[^/]+/(v1/)?)?ports/`)

// fromPort reports whether a page that came through a port loads what belongs to it,
// through a port, too. It has an origin of its own, "null", and is told from pages of
// other sites, which can have that too, by the Referer: a page cannot choose that one.
func fromPort(r *http.Request) bool {
	origin, referer := r.Header.Get("Origin"), r.Header.Get("Referer")
	return referer != "" && (origin == "" || origin == "null") && portPath().MatchString(r.URL.Path) && sameHost(referer, r.Host)
}

// hostAllowed reports whether clients may call the server by the name that they do. Those below localhost are loopback whatever a
// resolver says (RFC 6761, 6.3), so that no other site can take one over: servers inside have such names, and so origins of their own.
func (s *server) hostAllowed(r *http.Request) bool {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if local != nil && local.Network() == "unix" {
		return true // no browser opens a unix socket
	}
	host := strings.ToLower(hostname(r.Host))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") || slices.Contains(s.Hosts, "*") {
		return true
	}
	if ip := net.ParseIP(host); ip != nil {
		tcp, ok := local.(*net.TCPAddr)
		if ip.IsLoopback() || ok && ip.Equal(tcp.IP) {
			return true
		}
	}
	return slices.ContainsFunc(s.Hosts, func(known string) bool {
		parent, wild := strings.CutPrefix(strings.ToLower(known), "*.")
		return strings.EqualFold(known, host) || wild && strings.HasSuffix(strings.ToLower(host), "."+parent)
	})
}

// hostname returns a Host header without its port and brackets.
func hostname(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return strings.Trim(hostport, "[]")
}

func sameHost(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, host)
}
