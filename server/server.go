// Package server is the plumbing of the HTTP API: routes and what holds for all
// of them, strict payloads, the table of errors, keys, and streams. Package inside
// has the handlers of one sandbox, package sandboxes those of many, package e2b
// another API in front of these.
package server

import (
	"cmp"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/mux"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/trace"
)

// Options of a server. The zero value is ready to use.
type Options struct {
	Log *slog.Logger // nil discards. Requests are logged at the level debug, failures of ours at error

	// Hosts are the names, without ports, under which browsers and other clients
	// reach the server, besides localhost, loopback addresses and the address that
	// the connection came to. "*.NAME" is any name below NAME, and "*" any at all: then a web page whose own name leads
	// to this server can use it.
	Hosts []string

	// Origins are the origins, such as "https://lab.example.org", of web pages elsewhere that may use the server
	// from a browser, as a page of its own may. "*" is any: only for a server with keys.
	Origins []string

	// TrustPorts lets pages of servers inside the sandbox act in a browser as pages of
	// this API, with cookies, scripts that call it and all: only for code that is trusted.
	TrustPorts bool

	// Keys are the API keys, of which each request needs one, but for those that ask for
	// health and the document. Without any all requests are let in.
	Keys *Keys

	// Token reports whether a token is that of a sandbox, whose requests it lets in.
	Token func(sandboxID, token string) bool

	// Session returns who has the session of the console whose cookie a request has, where it has no key. nil: there are none.
	Session func(r *http.Request) (Caller, bool)

	// Behind is for a server that only another one of ours reaches: that one has checked
	// the caller, tells by X-Forwarded-Prefix where we are, and is trusted with the
	// other X-Forwarded headers, and with what browsers do with pages of ports.
	Behind bool

	// Fail writes what a request is answered with that failed with err, of which told is what the client may
	// know; nil writes it as the native API does. It is for other APIs, whose errors look different.
	Fail func(w http.ResponseWriter, r *http.Request, err error, told *api.Error)

	// Observe is told of each request once it is answered, for metrics; nil: nobody is.
	Observe func(r *http.Request, status int, took time.Duration)

	// Tracer makes a span of each request, and of the run behind one; nil: nobody does.
	Tracer trace.Tracer

	// TracePath returns what of a request's path its span may have; nil: all of it, but below a port of a sandbox no more than that.
	TracePath func(r *http.Request) string

	Version string // of the program, which capabilities tell

	// Epoch is what every stream has as X-Epoch: it names what its numbers belong to, so
	// that a client that comes back sees a restart. "" is none.
	Epoch string

	MaxBody int64 // bytes of a request's body; 0 is 32 MiB
	MaxCode int   // bytes of a cell's code; 0 is 10 MiB

	Ping         time.Duration // silence in a stream before a ping; 0 is 15 s
	PingLine     string        // what a ping is in a protocol other than ours
	WriteTimeout time.Duration // how long a write may make no progress; 0 is 60 s
	AskTimeout   time.Duration // how long a kernel may take for an answer that is not a run; 0 is 30 s

	// AnswerTimeout is how long a sandbox may take for the head of an answer, once it has
	// the request; servers inside may take as long as their clients wait. 0 is 2 min.
	AnswerTimeout time.Duration
}

// WithDefaults returns the options with a value in each field.
func (o Options) WithDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.MaxBody = cmp.Or(o.MaxBody, 32<<20)
	o.MaxCode = cmp.Or(o.MaxCode, 10<<20)
	o.Ping = cmp.Or(o.Ping, 15*time.Second)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, time.Minute)
	o.AskTimeout = cmp.Or(o.AskTimeout, 30*time.Second)
	o.AnswerTimeout = cmp.Or(o.AnswerTimeout, 2*time.Minute)
	return o
}

// Route is an operation: what answers a method on a path.
type Route struct {
	Method string   // or AnyMethod
	Path   string   // with {names} of path parameters; see Param
	Query  []string // the query parameters it knows
	Body   int64    // most bytes of the body; 0: Options.MaxBody, Unbounded: any number
	// Handle answers. An error that it returns is the answer instead: it must not
	// have written anything then.
	Handle func(w http.ResponseWriter, r *http.Request) error
}

// Unbounded is for a body that is a stream, of a file or of input, which the
// handler does not keep in memory.
const Unbounded = -1

// AnyMethod is the method of a route that takes any method, also HEAD and OPTIONS, and
// any query. The last parameter of its path stands for the rest, slashes included.
const AnyMethod = "*"

// Param returns a path parameter.
func Param(r *http.Request, name string) string { return mux.Vars(r)[name] }

// New returns the handler of the routes. HEAD goes where GET does.
func New(routes []Route, o Options) http.Handler {
	s := &server{o.WithDefaults()}
	return s.guard(s.sections(routes))
}

type server struct{ Options }

// methods are the routes of one path.
type methods map[string]Route

// handler answers the requests to one path, whose routes m may still be growing;
// without any the path does not exist.
func (s *server) handler(m methods) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := m.serve(w, r, s.Options); err != nil {
			s.fail(w, r, err)
		}
	})
}

func (m methods) serve(w http.ResponseWriter, r *http.Request, o Options) error {
	if m == nil {
		return api.Errorf(api.NotFound, "cannot find %s", r.URL.Path)
	}
	if route, ok := m[AnyMethod]; ok {
		return route.serve(w, r, o)
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	route, ok := m[method]
	if !ok {
		return m.serveOther(w, r)
	}
	if err := checkQuery(r, route.Query); err != nil {
		return err
	}
	return route.serve(w, r, o)
}

func (route *Route) serve(w http.ResponseWriter, r *http.Request, o Options) error {
	if o.Tracer != nil {
		TraceRoute(r, route.Path)
	}
	if limit := cmp.Or(route.Body, o.MaxBody); limit != Unbounded && r.ContentLength != 0 {
		// Its time begins with our first read, and ends with the last: what nobody reads has none.
		whole := *r
		r.Body = http.MaxBytesReader(w, io.NopCloser(newBody(w, &whole, o)), limit) // the server closes its own
	}
	return route.Handle(w, r)
}

func (m methods) serveOther(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Allow", m.allow())
	if r.Method != http.MethodOptions {
		return api.Errorf(api.MethodNotAllowed, "%s is not allowed on %s: only %s", r.Method, r.URL.Path, m.allow())
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (m methods) allow() string {
	allow := []string{http.MethodOptions}
	for method := range m {
		allow = append(allow, method)
		if method == http.MethodGet {
			allow = append(allow, http.MethodHead)
		}
	}
	slices.Sort(allow)
	return strings.Join(allow, ", ")
}

// WriteJSON answers with a status and a JSON value.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // fails only where the client is gone
}
