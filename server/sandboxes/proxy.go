package sandboxes

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/trace"
)

// errSlow is why a request that gets no answer ends.
var errSlow = api.Errorf(api.DeadlineExceeded, "the sandbox does not answer")

// forward sends a request on to the sandbox's agent, as it is, and the answer back as
// it comes, of which it reads nothing but the head. All that comes from the agent is hostile.
func (h *handlers) forward(w http.ResponseWriter, r *http.Request) error {
	release, box, err := h.use(r)
	if err != nil {
		return err
	}
	defer release()
	to, err := destination(r)
	if err != nil {
		return err
	}
	return h.pass(w, r, box, to)
}

// Target is where a request goes in a sandbox.
type Target struct {
	Path string // that the agent gets, as the client wrote it
	Port bool   // it goes to a server inside
	Own  bool   // a browser knows that server as an origin of its own, which nothing else has
	Slow bool   // the client may take its time to send the body

	// Prefix is that of the client's path, in place of what Path begins with, for an API below a path of its
	// own: the agent is told, and where its answers point to has to be below it. "": they point to nothing.
	Prefix string
}

// Forward sends a request of another API on to a sandbox in use, guarded as those of the native one are. An answer is
// cut where the sandbox ends or is paused meanwhile, and never looks whole. Where there is an error nothing has been written.
func (a *API) Forward(w http.ResponseWriter, r *http.Request, box *fleet.Sandbox, to Target) error {
	return a.h.pass(w, r, box, target{Target: to, prefix: to.Prefix, foreign: true})
}

// Observe counts an answer of another API: see server.Options.
func (a *API) Observe(r *http.Request, status int, took time.Duration) {
	a.h.metrics.observe(r, status, took)
}

// pass sends a request to a sandbox.
func (h *handlers) pass(w http.ResponseWriter, r *http.Request, box *fleet.Sandbox, to target) error {
	if r.Header.Get("Service-Worker") != "" && !to.Own {
		return api.Errorf(api.Forbidden, "service workers are not allowed: they would serve this API's own pages")
	}
	if err := h.enter(box.ID()); err != nil {
		return err
	}
	defer h.leave(box.ID())
	defer server.Inside(r.Context())()
	_ = http.NewResponseController(w).EnableFullDuplex() // where the connection can
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	p := passage{target: to, w: w, in: r, o: h.o, box: box, metrics: h.metrics, log: h.log, ctx: ctx, cancel: cancel}
	if to.foreign {
		p.away = box.Away()
		go p.endWithSandbox(p.away)
	}
	if h.o.Tracer != nil {
		p.beginSpan()
		defer p.endSpan()
	}
	failed := p.run() // panics where the answer is cut
	p.whole = true
	if failed != nil {
		return h.explain(r, box, failed)
	}
	return nil
}

// endTime is how long the end of a sandbox may take to be seen after a request to it has failed, and longEnd where its agent has
// certainly ended.
const endTime, longEnd = 500 * time.Millisecond, 10 * time.Second

// errAway is why a request fails that is cut because its sandbox ends, or is paused.
var errAway = errors.New("the sandbox has ended, or was paused")

// ends are how a request fails when its agent dies.
var ends = []error{errAway, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNREFUSED, fs.ErrNotExist}

// explain tells why there is no answer.
func (h *handlers) explain(r *http.Request, box *fleet.Sandbox, failed error) error {
	var told *api.Error
	switch {
	case failed == errAway && box.Info().State == fleet.Paused:
		return fleet.ErrPaused
	case failed == errAway: // the client's body was not read to its end, which looks as if it had left
	case r.Context().Err() != nil && failed != errSlow:
		return r.Context().Err()
	case errors.As(failed, &told):
		return told
	}
	if slices.ContainsFunc(ends, func(end error) bool { return errors.Is(failed, end) }) {
		wait := endTime
		if errors.Is(failed, syscall.ECONNREFUSED) {
			wait = longEnd
		}
		brief, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), wait)
		defer cancel()
		if err := box.Gone(brief); err != nil {
			return err
		}
	}
	return api.Errorf(api.SandboxUnreachable, "sandbox %s does not answer as it should: %.200q", box.ID(), failed.Error())
}

// slowest is how long a client that may take its time can send nothing.
const slowest = 24 * time.Hour

// passage is one request on its way through.
type passage struct {
	target
	w       http.ResponseWriter
	in      *http.Request
	o       server.Options
	box     *fleet.Sandbox
	metrics *metrics
	log     *log.Logger
	ctx     context.Context
	cancel  context.CancelCauseFunc

	away     <-chan struct{} // closed when an answer to another API is cut; nil: it waits for the sandbox
	patience *patience       // for the head of the answer; nil: as long as the client has
	failed   error

	span  trace.Span // nil: there is none
	began time.Time  // of the span
	whole bool       // the answer was passed on to its end, or was none
}

func (p *passage) run() error {
	in := p.in.WithContext(p.ctx)
	if !p.Port && !p.Slow {
		p.patience = newPatience(p.o.AnswerTimeout, func() { p.cancel(errSlow) })
		defer p.patience.end()
	}
	if in.ContentLength != 0 {
		o := p.o
		if p.Slow {
			o.WriteTimeout = slowest
		}
		sent := server.Body(p.w, p.in, o)
		defer sent.Close()                                        // the transport may not have read to the end
		defer context.AfterFunc(p.ctx, func() { sent.Close() })() // it waits for its reads, of a client that may send nothing
		in.Body = &body{sent, p}
		go p.endStalled()
	}
	proxy := httputil.ReverseProxy{
		Transport: p, BufferPool: buffers, Rewrite: p.rewrite, ModifyResponse: p.answer,
		ErrorLog:     p.log,
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) { p.failed = err },
	}
	w := p.w
	if in.Header.Get("Upgrade") != "" {
		w = upgraded{w, stuck * p.o.WriteTimeout}
	}
	proxy.ServeHTTP(w, in)
	if p.failed != nil && p.ctx.Err() != nil {
		return context.Cause(p.ctx)
	}
	return p.failed
}

// endStalled ends the passage when the sandbox has ended, whose client may send nothing for long. One that does is seen to
// fail without that, which it hears better.
func (p *passage) endStalled() {
	select {
	case <-p.box.Done():
	case <-p.ctx.Done():
		return
	}
	select {
	case <-time.After(endTime):
		p.cancel(errAway)
	case <-p.ctx.Done():
	}
}

// RoundTrip passes on what is final: an informational answer (RFC 9110 section 15.2)
// would bring headers that nobody has looked at. So it goes without the proxy's trace.
func (p *passage) RoundTrip(r *http.Request) (*http.Response, error) {
	return p.box.Transport().RoundTrip(r.WithContext(p.ctx))
}

// rewrite makes the request that the agent gets.
func (p *passage) rewrite(pr *httputil.ProxyRequest) {
	out := pr.Out
	out.Host = pr.In.Host
	out.URL = &url.URL{Scheme: "http", Host: "sandbox", Opaque: p.Path, RawQuery: pr.In.URL.RawQuery, ForceQuery: pr.In.URL.ForceQuery}
	pr.SetXForwarded()
	out.Header.Set("X-Forwarded-Prefix", p.prefix)
	for _, name := range secrets {
		out.Header.Del(name)
	}
	out.Header.Set("X-Request-Id", p.w.Header().Get("X-Request-Id"))
	p.ask(out.Header)
	if !p.Port && !p.foreign || p.ours() {
		out.Header.Del("Authorization")
	}
	if !p.Port {
		out.Header.Del("Cookie")
		if !p.foreign {
			out.Header.Del("Accept-Encoding") // an agent packs nothing
		}
	} else if p.browser() && !p.o.TrustPorts && !p.Own {
		out.Header.Del("Cookie")
	} else {
		server.DropSession(out.Header)
	}
}

// secrets are the headers that say who the client is, which is none of the sandbox's business.
var secrets = []string{"X-Api-Key", "X-Access-Token", "E2b-Traffic-Access-Token"}

// ours reports whether the request's Authorization is for us and not for a server inside.
func (p *passage) ours() bool {
	token := server.Bearer(p.in.Header)
	if token == "" || p.o.Keys.Len() == 0 {
		return false
	}
	if p.in.Header.Get("X-Api-Key") == "" && !p.foreign {
		return true // it was what let the request in
	}
	_, known := p.o.Keys.Find(token)
	return known || p.o.Token(p.box.ID(), token)
}

func (p *passage) browser() bool { return p.in.Header.Get("Sec-Fetch-Site") != "" }

// target is a Target, and how the client came there.
type target struct {
	Target
	prefix  string // of the client's path, in place of the agent's "/v1"
	foreign bool   // by another API, whose paths are not below /v1
}

// destination finds the agent's path in the request's. Clients of an agent work
// unchanged whether it is its /v1 or all of its address that they replace.
func destination(r *http.Request) (target, error) {
	prefix := "/v1/sandboxes/" + server.SandboxOf(r)
	rest, ok := strings.CutPrefix(server.RawPath(r), prefix+"/")
	if !ok {
		return target{}, api.Invalid("id", "must be spelled plainly")
	}
	if whole, ok := strings.CutPrefix(rest, "v1/"); ok {
		prefix, rest = prefix+"/v1", whole
	}
	return within(prefix, rest, r)
}

// within returns where the rest of a path leads in a sandbox.
func within(prefix, rest string, r *http.Request) (target, error) {
	t := target{prefix: prefix, Target: Target{Path: "/v1/" + rest, Port: strings.HasPrefix(rest, "ports/")}}
	switch rest {
	case "healthz", "readyz", "openapi.yaml":
		t.Path = "/" + rest
	}
	if plain, err := url.PathUnescape(rest); err != nil || plain == "close" || plain == "lease" || plain == "refusals" { // which only the fleet says
		return target{}, api.Errorf(api.NotFound, "cannot find %s", r.URL.Path)
	}
	return t, nil
}

// body is that of a request. As long as it moves nobody is impatient.
type body struct {
	io.ReadCloser
	p *passage
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.p.metrics.toSandboxes.Add(int64(n))
	if b.p.patience != nil {
		b.p.patience.renew()
	}
	return n, err
}

// buffers are for what passes through.
var buffers = &bufferPool{sync.Pool{New: func() any { return new([size]byte) }}}

const size = 128 << 10 // of which one that waits has touched little

type bufferPool struct{ pool sync.Pool }

func (b *bufferPool) Get() []byte    { return b.pool.Get().(*[size]byte)[:] }
func (b *bufferPool) Put(buf []byte) { b.pool.Put((*[size]byte)(buf)) }
