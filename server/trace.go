package server

import (
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/trace"
)

// Attributes of spans that the semantic conventions have no name for.
const (
	TraceSandbox = "k2sandbox.sandbox.id"
	traceKey     = "k2sandbox.key"
	traceRequest = "k2sandbox.request.id"
)

// traced begins the span of a request, if it is sampled, and returns the request with it.
func (s *server) traced(w *response, r *http.Request, id string) *http.Request {
	if w.span = s.Tracer.Request(r.Header, methodOf(r), s.requestAttrs(r, id)...); w.span == nil {
		return r
	}
	return r.WithContext(trace.With(r.Context(), w.span))
}

// endSpan ends the span of a request once all of its answer is sent, or nothing more can be.
func (w *response) endSpan(r *http.Request) {
	if w.span == nil {
		return
	}
	status := w.status
	if status != 0 { // else there was no answer
		w.span.Set(trace.Int("http.response.status_code", status))
	}
	switch {
	case w.cut && r.Context().Err() == nil: // and not by the client
		w.span.Fail("cut")
	case status >= http.StatusInternalServerError && w.failed != "":
		w.span.Fail(string(w.failed))
	case status >= http.StatusInternalServerError:
		w.span.Fail(strconv.Itoa(status))
	}
	w.span.End(time.Time{})
}

// TraceRoute tells the span of a request, if it has one, which route answers it: a template of paths, of which there are few.
func TraceRoute(r *http.Request, route string) {
	if span := trace.From(r.Context()); span != nil {
		span.Rename(methodOf(r) + " " + route)
		span.Set(trace.String("http.route", route))
	}
}

// methods of HTTP that the semantic conventions know.
var knownMethods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"}

// methodOf returns the method of a request, in place of an unknown one, of which a client can make up any number, "HTTP".
func methodOf(r *http.Request) string {
	if slices.Contains(knownMethods, r.Method) {
		return r.Method
	}
	return "HTTP"
}

// requestAttrs are those of the semantic conventions for HTTP servers. The query, which has signatures of links, is not among them.
func (s *server) requestAttrs(r *http.Request, id string) []trace.Attr {
	path := r.URL.Path
	if s.TracePath != nil {
		path = s.TracePath(r)
	} else if ports := portPath().FindString(path); ports != "" { // what is behind is a program's inside, and may be secret
		port, _, _ := strings.Cut(path[len(ports):], "/")
		path = ports + port
	}
	attrs := []trace.Attr{
		trace.String("http.request.method", r.Method), trace.String("url.path", path), trace.String("url.scheme", "http"),
		trace.String("network.protocol.version", strings.TrimPrefix(r.Proto, "HTTP/")), trace.String(traceRequest, id),
	}
	if r.TLS != nil {
		attrs[2].Value = "https"
	}
	if methodOf(r) != r.Method {
		attrs[0].Value = "_OTHER"
		attrs = append(attrs, trace.String("http.request.method_original", r.Method))
	}
	if agent := r.UserAgent(); agent != "" {
		attrs = append(attrs, trace.String("user_agent.original", agent))
	}
	if host, port, err := net.SplitHostPort(r.Host); err == nil {
		attrs = append(attrs, trace.String("server.address", host))
		if n, err := strconv.Atoi(port); err == nil {
			attrs = append(attrs, trace.Int("server.port", n))
		}
	} else if r.Host != "" {
		attrs = append(attrs, trace.String("server.address", r.Host))
	}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		attrs = append(attrs, trace.String("client.address", host))
	}
	return attrs
}
