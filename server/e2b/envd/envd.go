// Package envd answers what E2B's clients ask of port 49983 of a sandbox: files, processes and
// terminals, as plain HTTP and as Connect-JSON. It works in the sandbox's agent, straight on that.
//
// What is written here of requests and answers is what E2B's own envd does, so that its clients
// need no change. Where we do better, a header or a comment says so: see Connect of processes,
// SendSignal and the uploads.
package envd

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/server"
)

// New returns the API of the sandbox, which stays the caller's to close. The server in front
// has checked the access token, or the signature of a URL.
//
// Streams of a sandbox that is closed are cut, and have no end.
func New(box *agent.Sandbox, o server.Options) http.Handler {
	o = o.WithDefaults()
	h := &handler{box: box, o: o, home: box.Home(), began: time.Now()}
	h.user = sync.OnceValue(h.lookUpUser)
	h.methods = h.services()
	return server.New([]server.Route{{Method: server.AnyMethod, Path: "/{path}", Body: server.Unbounded, Handle: h.serve}}, o)
}

// handler answers for one sandbox.
type handler struct {
	box     *agent.Sandbox
	o       server.Options
	home    string
	user    func() identity
	began   time.Time
	methods map[string]method // of the services, by path

	commands commands
	watchers watchers

	measuring sync.Mutex
	measured  sample
}

// services are all methods of the two services.
func (h *handler) services() map[string]method {
	return map[string]method{
		"/filesystem.Filesystem/Stat":             asCaller(h, h.stat),
		"/filesystem.Filesystem/MakeDir":          asCaller(h, h.makeDir),
		"/filesystem.Filesystem/Move":             asCaller(h, h.move),
		"/filesystem.Filesystem/ListDir":          asCaller(h, h.listDir),
		"/filesystem.Filesystem/Remove":           asCaller(h, h.remove),
		"/filesystem.Filesystem/WatchDir":         serverStream(h.watchDir),
		"/filesystem.Filesystem/CreateWatcher":    unary(h.createWatcher),
		"/filesystem.Filesystem/GetWatcherEvents": unary(h.getWatcherEvents),
		"/filesystem.Filesystem/RemoveWatcher":    unary(h.removeWatcher),

		"/process.Process/List":        unary(h.list),
		"/process.Process/Start":       serverStream(h.start),
		"/process.Process/Connect":     serverStream(h.connect),
		"/process.Process/Update":      unary(h.update),
		"/process.Process/SendInput":   unary(h.sendInput),
		"/process.Process/StreamInput": clientStream(h.streamInput),
		"/process.Process/SendSignal":  unary(h.sendSignal),
		"/process.Process/CloseStdin":  unary(h.closeStdin),
	}
}

// serve answers a request, always itself: errors have another form here than in our own API.
func (h *handler) serve(w http.ResponseWriter, r *http.Request) error {
	if m, ok := h.methods[r.URL.Path]; ok {
		m.serve(h, w, r)
		return nil
	}
	if strings.HasPrefix(r.URL.Path, "/filesystem.Filesystem/") || strings.HasPrefix(r.URL.Path, "/process.Process/") {
		refuse(w, r, errorf(unimplemented, "there is no method %s", r.URL.Path))
		return nil
	}
	routes := map[string]map[string]func(http.ResponseWriter, *http.Request) error{
		"/health":        {"GET": h.health},
		"/metrics":       {"GET": h.metrics},
		"/envs":          {"GET": h.envs},
		"/files":         {"GET": h.download, "POST": h.upload},
		"/files/compose": {"POST": h.compose},
	}
	byMethod, ok := routes[r.URL.Path]
	if !ok {
		h.fail(w, r, errorf(notFound, "there is no %s", r.URL.Path))
		return nil
	}
	name := r.Method
	if name == http.MethodHead {
		name = http.MethodGet
	}
	handle, ok := byMethod[name]
	if !ok {
		writeError(w, http.StatusMethodNotAllowed, r.Method+" is not allowed on "+r.URL.Path)
		return nil
	}
	if err := handle(w, r); err != nil {
		h.fail(w, r, err)
	}
	return nil
}

// health tells that the agent answers. That it does not, the server in front tells.
func (h *handler) health(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// envs tells the variables that the sandbox was given.
func (h *handler) envs(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Cache-Control", "no-store")
	server.WriteJSON(w, http.StatusOK, h.box.Envs())
	return nil
}
