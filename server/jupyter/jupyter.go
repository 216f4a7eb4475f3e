// Package jupyter lets Jupyter's clients use the sandboxes of a fleet: doc/jupyter.md. At the root of the server it is a
// Kernel Gateway, whose kernels are contexts in sandboxes: all those that the caller may see. Below Path each sandbox is
// a whole Jupyter server. What works in a sandbox is answered there, by package inside; this one believes nothing that
// comes out of it.
package jupyter

import (
	"cmp"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/sandboxes"
)

// Path is where an agent is a Jupyter server and, with the id of a sandbox behind it, where a server has each of them.
const Path = "/jupyter"

// Options of the API. Fleet, Native and Kernel are required.
type Options struct {
	server.Options
	Fleet  *fleet.Fleet   // stays the caller's to close
	Native *sandboxes.API // of the same fleet
	Next   http.Handler   // answers what is not for this API; nil: Native does

	Kernel kernel.Spec          // of the default context of a new sandbox
	Others func() []kernel.Spec // that a new sandbox can have, too; nil: none

	Default string // name of the kernel of who asks for none; "" is that of the default context
	Force   string // name of the kernel that everybody gets, whatever they ask for; "" is none
	Hide    bool   // clients get no lists of kernels and sessions
	Seed    *Seed  // of new kernels; nil is none

	Timeout  time.Duration     // of inactivity, of sandboxes that are made for a kernel; 0 is the fleet's
	Envs     map[string]string // of theirs
	AllowEnv []string          // names of variables that clients may set, besides KERNEL_*; nil: any

	Base string // path of the API, for clients; "" is the root
	CORS CORS
}

// API is Jupyter's REST API in front of the native one.
type API struct {
	o     Options
	keys  *server.Keys
	front http.Handler
	seen  seen
	turns server.Turns // of those who want a session
	young sync.Map     // ids of sandboxes whose kernels begin with the seed now, which nobody is to hear of yet
}

// New returns the API of a fleet.
func New(o Options) *API {
	o.Options = o.WithDefaults()
	if o.Next == nil {
		o.Next = o.Native
	}
	if o.Others == nil {
		o.Others = func() []kernel.Spec { return nil }
	}
	a := &API{o: o, keys: o.Keys}
	o.Keys, o.Fail, o.Observe, o.Origins = nil, Fail, o.Native.Observe, o.CORS.Origins // keys are looked at here, as there are more ways to give them
	a.front = server.New(a.routes(), o.Options)
	return a
}

// ServeHTTP is for http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !concerns(r.URL.Path) {
		a.o.Next.ServeHTTP(w, r)
		return
	}
	a.o.CORS.tell(w, r)
	a.front.ServeHTTP(w, r)
}

// roots are the paths of the API, and of pages that clients look for to find out what this is, which there are not.
var roots = []string{"/api", "/kernelspecs", Path, "/tree", "/lab", "/login", "/hub"}

// concerns reports whether a path is one of the API, or below one.
func concerns(path string) bool {
	for _, root := range roots {
		if rest, ok := strings.CutPrefix(path, root); ok && (rest == "" || rest[0] == '/') {
			return true
		}
	}
	return false
}

const maxBody = 1 << 20 // bytes of a request that is answered here

// anything is the query of Jupyter's operations, whose clients add the time of day.
var anything = []string{"*"}

func (a *API) routes() []server.Route {
	const kernel, session = "/api/kernels/{id}", "/api/sessions/{id}"
	routes := []server.Route{
		{Method: "GET", Path: "/api", Handle: version},
		{Method: "GET", Path: "/api/swagger.json", Handle: swagger},
		{Method: "GET", Path: "/api/swagger.yaml", Handle: swagger},
		{Method: "GET", Path: "/api/kernelspecs", Handle: a.keyed(a.listSpecs)},
		{Method: "GET", Path: "/api/kernelspecs/{name}", Handle: a.keyed(a.getSpec)},
		{Method: "GET", Path: "/kernelspecs/{name}/{file}", Handle: a.keyed(a.specFile)},
		{Method: "GET", Path: "/api/kernels", Handle: a.keyed(a.listKernels)},
		{Method: "POST", Path: "/api/kernels", Handle: a.keyed(a.createKernel)},
		{Method: "GET", Path: kernel, Handle: a.keyed(a.getKernel)},
		{Method: "DELETE", Path: kernel, Handle: a.keyed(a.deleteKernel)},
		{Method: "POST", Path: kernel + "/interrupt", Handle: a.keyed(a.forwardKernel("/interrupt"))},
		{Method: "POST", Path: kernel + "/restart", Handle: a.keyed(a.forwardKernel("/restart"))},
		{Method: "GET", Path: kernel + "/channels", Handle: a.keyed(a.forwardKernel("/channels"))},
		{Method: "GET", Path: "/api/sessions", Handle: a.keyed(a.listSessions)},
		{Method: "POST", Path: "/api/sessions", Handle: a.keyed(a.createSession)},
		{Method: "GET", Path: session, Handle: a.keyed(a.forwardSession)},
		{Method: "PATCH", Path: session, Handle: a.keyed(a.forwardSession)},
		{Method: "DELETE", Path: session, Handle: a.keyed(a.deleteSession)},
	}
	for i := range routes {
		routes[i].Query, routes[i].Body = anything, maxBody
	}
	return append(routes, server.Route{Method: server.AnyMethod, Path: Path + "/{path}", Handle: a.keyed(a.forwardServer), Body: server.Unbounded})
}

// spoken is the version of Jupyter Server whose API this is.
const spoken = "2.21.1"

func version(w http.ResponseWriter, _ *http.Request) error {
	server.WriteJSON(w, http.StatusOK, map[string]string{"version": spoken})
	return nil
}

// url returns the path of something of the API, for clients.
func (a *API) url(path string) string { return strings.TrimSuffix(a.o.Base, "/") + path }

// name returns that of the kernel which a client gets that asks for one.
func (a *API) name(asked string) string {
	return cmp.Or(a.o.Force, asked, a.o.Default, a.o.Kernel.Name)
}
