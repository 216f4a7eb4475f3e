// Package sandboxes answers the part of the HTTP API that is about many sandboxes, and
// forwards to them what works in one.
package sandboxes

import (
	"cmp"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/server"
)

// Options of the API. Fleet is required.
type Options struct {
	server.Options
	Fleet *fleet.Fleet // stays the caller's to close

	Templates    func() []api.Template  // that there are now; nil: none
	Capabilities api.ServerCapabilities // what this package does not know by itself
	Preview      server.PreviewDomain   // of the links to servers inside; the zero value: there are none
	Reserved     func(port int) bool    // ports that are no server's inside, as another API has them; nil: none

	// Shared sends requests for paths of one sandbox that name none, such as /v1/code, to one
	// that is made for them, which everybody shares: not for a server with keys.
	Shared bool
	// SharedTimeout is that sandbox's; 0 is the fleet's own.
	SharedTimeout time.Duration

	MaxRequests int // to one sandbox at once; 0 is 1024
}

// API is the HTTP API of a fleet. Other APIs of the same fleet forward by it what works in a sandbox.
type API struct {
	http.Handler
	h *handlers
}

// New returns the HTTP API of the fleet.
func New(o Options) *API {
	h := newHandlers(o)
	return &API{server.New(h.routes(), h.o), h}
}

func newHandlers(o Options) *handlers {
	o.Options = o.WithDefaults()
	if o.MaxRequests == 0 {
		o.MaxRequests = 1024
	}
	if o.Fleet != nil {
		o.Token = o.Fleet.Token
	}
	m := newMetrics()
	o.Observe = m.observe
	return &handlers{o: o.Options, fleet: o.Fleet, all: o, open: map[string]int{}, metrics: m,
		log: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug)}
}

// handlers answer the requests.
type handlers struct {
	o       server.Options
	all     Options
	fleet   *fleet.Fleet
	metrics *metrics
	log     *log.Logger // of the proxy
	shared  shared
	once    server.Once[string] // ids

	mu   sync.Mutex
	open map[string]int // requests in each sandbox
}

// routes are the operations. What none of them takes goes to the sandbox.
func (h *handlers) routes() []server.Route {
	const one = "/v1/sandboxes/{id}"
	routes := []server.Route{
		{Method: "POST", Path: "/v1/sandboxes", Handle: h.create},
		{Method: "GET", Path: "/v1/sandboxes", Handle: h.list, Query: []string{"metadata.*", "state", "limit", "cursor", "usage"}},
		{Method: "GET", Path: one, Handle: h.get},
		{Method: "DELETE", Path: one, Handle: h.kill},
		{Method: "GET", Path: one + "/metrics", Handle: h.history, Query: []string{"since"}},
		{Method: "POST", Path: one + "/timeout", Handle: h.setTimeout},
		{Method: "PUT", Path: one + "/network", Handle: h.setNetwork},
		{Method: "POST", Path: one + "/previews", Handle: h.preview},
		{Method: "POST", Path: one + "/close", Handle: h.close},
		{Method: "POST", Path: one + "/pause", Handle: h.pause},
		{Method: "POST", Path: one + "/resume", Handle: h.resume},
		{Method: server.AnyMethod, Path: one + "/{path}", Handle: h.forward, Body: server.Unbounded},
		{Method: "GET", Path: "/v1/templates", Handle: h.listTemplates},
		{Method: "GET", Path: "/v1/capabilities", Handle: h.capabilities},
		{Method: "GET", Path: "/healthz", Handle: h.health},
		{Method: "GET", Path: "/readyz", Handle: h.ready},
		{Method: "GET", Path: "/metrics", Handle: h.writeMetrics},
		{Method: "GET", Path: "/openapi.yaml", Handle: h.openAPI},
	}
	if h.all.Shared {
		routes = append(routes, server.Route{Method: server.AnyMethod, Path: "/v1/{path}", Handle: h.forwardShared, Body: server.Unbounded})
	}
	return routes
}

// nothing is the body of a request that has nothing to say.
type nothing struct{}

// Find returns a sandbox of the caller's. To others it does not exist.
func (a *API) Find(r *http.Request, id string) (fleet.Info, error) { return a.h.find(r, id) }

func (h *handlers) find(r *http.Request, id string) (fleet.Info, error) {
	info, err := h.fleet.Get(id)
	if err != nil {
		return fleet.Info{}, hide(r, err)
	}
	return info, visible(r, info.ID, info.Owner)
}

// passive is the header of a request that is no activity: who looks on keeps no sandbox alive.
const passive = "X-Passive"

// use is fleet.Use for a sandbox of the caller's, or fleet.Look where the request says so.
func (h *handlers) use(r *http.Request) (func(), *fleet.Sandbox, error) {
	id, release := server.Param(r, "id"), func() {}
	var box *fleet.Sandbox
	var err error
	if r.Header.Get(passive) == "true" {
		box, err = h.fleet.Look(id)
	} else {
		release, box, err = h.fleet.Use(id)
	}
	if err != nil {
		return nil, nil, hide(r, err)
	}
	if err := visible(r, box.ID(), box.Info().Owner); err != nil {
		release()
		return nil, nil, err
	}
	return release, box, nil
}

// visible keeps apart what the owners of different keys have made.
func visible(r *http.Request, id, owner string) error {
	if c := server.CallerOf(r); c.Key != "" && owner != c.Key {
		return fmt.Errorf("%w %.64q", fleet.ErrNotFound, id)
	}
	return nil
}

// hide tells nobody what has become of another's sandbox.
func hide(r *http.Request, err error) error {
	var gone *fleet.GoneError
	if errors.As(err, &gone) {
		return cmp.Or(visible(r, gone.ID, gone.Owner), err)
	}
	return err
}

// payload returns what the API tells of a sandbox.
func payload(info fleet.Info) api.Sandbox {
	box := api.Sandbox{
		SandboxID: info.ID, Template: info.Template, State: info.State, Cwd: info.Cwd,
		Metadata: filled(info.Metadata), CreatedAt: info.CreatedAt, LastActiveAt: info.LastActiveAt,
		Timeout: info.Timeout.Seconds(),
		Limits: api.SandboxLimits{
			MemoryMB: int(info.Limits.Memory >> 20), CPUs: info.Limits.CPUs, Pids: int(info.Limits.Pids),
			DiskMB: int(info.Limits.Disk >> 20), OpenFiles: int(info.Limits.Files),
		},
		Network:   api.SandboxNetwork{Mode: api.NetworkMode(info.Network.Mode), Allow: info.Network.Allow},
		Isolation: isolation(info.Isolation),
	}
	if !info.ExpiresAt.IsZero() {
		box.ExpiresAt = &info.ExpiresAt
	}
	if info.State == fleet.Ended || info.State == fleet.Ending {
		box.Reason, box.EndedAt = info.Reason, &info.EndedAt
	}
	return box
}

// filled is {} in JSON where there is nothing, and not null.
func filled(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func isolation(i fleet.Isolation) api.SandboxIsolation {
	told := api.SandboxIsolation{Level: i.Level, Missing: filled(i.Missing), Enforced: filled(i.Enforced)}
	if i.Level == fleet.LevelNone {
		told.Warning = "nothing keeps the code in this sandbox from the host: it can do all that the server can"
	}
	return told
}

// Memory returns what the API has to remember in a process that follows: see server.Once.
func (a *API) Memory() []server.Begun[string] { return a.h.once.Memory() }

// Recall is Memory's other side, before the first request.
func (a *API) Recall(all []server.Begun[string]) { a.h.once.Recall(all) }
