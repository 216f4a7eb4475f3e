package sandboxes

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/trace"
)

// beginSpan begins the span of what happens in the sandbox, if the client's request has one.
func (p *passage) beginSpan() {
	parent := trace.From(p.in.Context())
	if parent == nil {
		return
	}
	box := trace.String(server.TraceSandbox, p.box.ID())
	parent.Set(box)
	if route := routeOf(p.Path); route != "" && !p.foreign {
		if p.prefix != "/v1" { // the shared sandbox's
			route = strings.Replace(route, "/v1/", "/v1/sandboxes/{id}/", 1)
		}
		server.TraceRoute(p.in, route)
	}
	p.began = time.Now()
	p.span = parent.Start("forward", trace.Client, p.began, box, trace.String("http.request.method", p.in.Method))
}

// ask has the agent continue the trace, and tell of the run.
func (p *passage) ask(h http.Header) {
	h.Del(api.RunTraceHeader)
	if p.span == nil {
		return
	}
	p.span.Inject(h)
	if !p.Port {
		h.Set(api.RunTraceHeader, "true")
	}
}

// hear takes what an agent tells of a run.
func (p *passage) hear(trailer http.Header) {
	text := trailer.Get(api.RunTraceHeader)
	if p.span == nil || p.Port || text == "" {
		return
	}
	if told, ok := api.ParseRunTrace(text); ok {
		server.SpanOfRun(p.span, p.began, time.Now(), told)
	}
}

// endSpan ends the span once the answer has been passed on, or nothing more of it can be.
func (p *passage) endSpan() {
	if p.span == nil {
		return
	}
	switch {
	case p.whole && p.failed == nil:
	case errors.Is(context.Cause(p.ctx), errSlow):
		p.span.Fail(string(api.DeadlineExceeded))
	case p.in.Context().Err() != nil: // the client has left
		p.span.Fail("cancelled")
	case !p.whole:
		p.span.Fail("cut")
	default:
		p.span.Fail(string(api.SandboxUnreachable))
	}
	p.span.End(time.Time{})
}

// routes are the templates of an agent's paths, as its document has them.
var routes = sync.OnceValue(func() (all [][]string) {
	for line := range strings.Lines(string(api.OpenAPI)) {
		if path, ok := strings.CutSuffix(strings.TrimRight(line, "\n"), ":"); ok && strings.HasPrefix(path, "  /") {
			all = append(all, strings.Split(strings.TrimSpace(path), "/"))
		}
	}
	return all
})

// routeOf returns the template of an agent's path; "" where there is none.
func routeOf(path string) string {
	parts := strings.Split(path, "/")
	for _, route := range routes() {
		if matches(route, parts) {
			return strings.Join(route, "/")
		}
	}
	return ""
}

func matches(route, parts []string) bool {
	if len(parts) > len(route) && route[len(route)-1] == "{path}" {
		parts = parts[:len(route)]
	}
	if len(parts) != len(route) {
		return false
	}
	for i, part := range route {
		if part != parts[i] && !strings.HasPrefix(part, "{") {
			return false
		}
	}
	return true
}
