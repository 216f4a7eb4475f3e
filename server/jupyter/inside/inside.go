// Package inside answers what Jupyter's clients ask of a Jupyter Server, for one sandbox: its contexts are the
// kernels, its files the contents, its processes with a terminal the terminals. It works in the sandbox's agent.
//
// What clients send and expect is what Jupyter Server 2 does, so that they need no change. Where we do better a
// comment says so.
// https://jupyter-server.readthedocs.io/en/latest/developers/rest-api.html
package inside

import (
	"net/http"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/jupyter/channels"
)

// Path is where the API is on an agent: below it is what New returns.
const Path = "/jupyter"

// New returns the API of the sandbox with the id, which stays the caller's to close, with its paths from "/api" on.
// Where Options.Behind is set, X-Forwarded-Prefix is the base URL of it all, without a slash at the end; else that
// is Path.
func New(box *agent.Sandbox, id string, o server.Options) http.Handler {
	o = o.WithDefaults()
	o.Fail = fail
	h := &handlers{
		box: box, id: id, o: o, began: time.Now(),
		channels:  channels.New(box, o),
		sessions:  sessions{open: map[string]*session{}},
		terminals: terminals{named: map[string]*terminal{}},
		events:    newEvents(),
		large:     make(turns, 1),
	}
	return server.New(h.routes(), o)
}

// handlers answer for one sandbox.
type handlers struct {
	box   *agent.Sandbox
	id    string
	o     server.Options
	began time.Time

	channels  *channels.Channels
	sessions  sessions
	terminals terminals
	events    *events
	large     turns
}

// anything is the query of every route: clients add the time to it, against caches.
var anything = []string{"*"}

func (h *handlers) routes() []server.Route {
	routes := []server.Route{
		{Method: "GET", Path: "/api", Handle: h.version},
		{Method: "GET", Path: "/api/", Handle: h.version},
		{Method: "GET", Path: "/api/status", Handle: h.status},
		{Method: "GET", Path: "/api/me", Handle: h.me},
		{Method: "GET", Path: "/api/nbconvert", Handle: h.exporters},
		{Method: "GET", Path: "/api/events/subscribe", Handle: h.subscribe},

		{Method: "GET", Path: "/api/kernelspecs", Handle: h.listSpecs},
		{Method: "GET", Path: "/api/kernelspecs/{name}", Handle: h.getSpec},
		{Method: "GET", Path: "/kernelspecs/{name}/{file}", Handle: h.resource},

		{Method: "GET", Path: "/api/kernels", Handle: h.listKernels},
		{Method: "POST", Path: "/api/kernels", Handle: h.startKernel},
		{Method: "GET", Path: "/api/kernels/{id}", Handle: h.getKernel},
		{Method: "DELETE", Path: "/api/kernels/{id}", Handle: h.endKernel},
		{Method: "POST", Path: "/api/kernels/{id}/interrupt", Handle: h.interruptKernel},
		{Method: "POST", Path: "/api/kernels/{id}/restart", Handle: h.restartKernel},
		{Method: "GET", Path: "/api/kernels/{id}/channels", Handle: h.joinKernel},

		{Method: "GET", Path: "/api/sessions", Handle: h.listSessions},
		{Method: "POST", Path: "/api/sessions", Handle: h.startSession},
		{Method: "GET", Path: "/api/sessions/{id}", Handle: h.getSession},
		{Method: "PATCH", Path: "/api/sessions/{id}", Handle: h.changeSession},
		{Method: "DELETE", Path: "/api/sessions/{id}", Handle: h.endSession},

		{Method: "GET", Path: "/api/terminals", Handle: h.listTerminals},
		{Method: "POST", Path: "/api/terminals", Handle: h.startTerminal},
		{Method: "GET", Path: "/api/terminals/{name}", Handle: h.getTerminal},
		{Method: "DELETE", Path: "/api/terminals/{name}", Handle: h.endTerminal},
		{Method: "GET", Path: "/terminals/websocket/{name}", Handle: h.joinTerminal},

		{Method: "GET", Path: "/files/{path:.+}", Handle: h.download},
	}
	contents := func(path string) {
		routes = append(routes,
			server.Route{Method: "GET", Path: path + "/checkpoints", Handle: h.listCheckpoints},
			server.Route{Method: "POST", Path: path + "/checkpoints", Handle: h.createCheckpoint},
			server.Route{Method: "POST", Path: path + `/checkpoints/{checkpoint:[\w-]+}`, Handle: h.restoreCheckpoint},
			server.Route{Method: "DELETE", Path: path + `/checkpoints/{checkpoint:[\w-]+}`, Handle: h.deleteCheckpoint},
			server.Route{Method: "GET", Path: path, Handle: h.getContents},
			server.Route{Method: "PUT", Path: path, Handle: h.saveContents, Body: server.Unbounded},
			server.Route{Method: "POST", Path: path, Handle: h.createContents},
			server.Route{Method: "PATCH", Path: path, Handle: h.renameContents},
			server.Route{Method: "DELETE", Path: path, Handle: h.deleteContents},
		)
	}
	contents("/api/contents")
	contents("/api/contents/{path:.*}")
	for i := range routes {
		routes[i].Query = anything
	}
	return routes
}

// base returns the base URL, without a slash at the end.
func (h *handlers) base(r *http.Request) string {
	if h.o.Behind {
		return strings.TrimSuffix(r.Header.Get("X-Forwarded-Prefix"), "/")
	}
	return Path
}

// decode reads the body of a request. Clients say of it what they like, or nothing.
func decode(r *http.Request, v any) error {
	r.Header.Del("Content-Type")
	return server.DecodeKnown(r, v)
}

// created answers with what was made, and where it is.
func (h *handlers) created(w http.ResponseWriter, r *http.Request, where string, model any) {
	w.Header().Set("Location", h.base(r)+where)
	server.WriteJSON(w, http.StatusCreated, model)
}
