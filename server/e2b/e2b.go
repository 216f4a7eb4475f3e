// Package e2b lets unmodified clients of E2B work with the sandboxes of a fleet: doc/e2b.md. It answers
// E2B's control plane, finds the sandbox of every other request and forwards it. What works in
// a sandbox is answered there, by packages envd and interpreter; this one believes nothing that comes out of it.
package e2b

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/sandboxes"
)

// Where the agent of a sandbox answers what the clients ask of its ports.
const (
	EnvdPath        = "/e2b/envd"
	InterpreterPath = "/e2b/interpreter"
	PortPath        = "/e2b/port" // and /ports/{port} behind it
)

// Options of the API. Fleet and Native are required.
type Options struct {
	server.Options
	Fleet     *fleet.Fleet          // stays the caller's to close
	Native    *sandboxes.API        // of the same fleet
	Next      http.Handler          // answers what is not for this API; nil: Native does
	Templates func() []api.Template // that the fleet's runtime has
	Pause     api.Capability        // whether sandboxes can be paused here
}

// API is E2B's API in front of the native one.
type API struct {
	o     Options
	keys  *server.Keys
	debug int // the port whose part a debug listener has; 0: none, or it has all

	control, data http.Handler
	implicit      *implicit
	once          server.Once[string] // creates: ids
}

// New returns the API of a fleet.
func New(o Options) *API {
	if o.Next == nil {
		o.Next = o.Native
	}
	return newAPI(o, 0, new(implicit))
}

func newAPI(o Options, debug int, i *implicit) *API {
	o.Options = o.WithDefaults()
	a := &API{o: o, keys: o.Keys, debug: debug, implicit: i}
	o.Keys, o.Fail, o.Observe = nil, Fail, o.Native.Observe // keys are looked at here: what needs one depends on the plane
	a.control = server.New(a.routes(), o.Options)
	o.TracePath = a.tracePath
	a.data = server.Guard(a.forward, o.Options)
	return a
}

// tracePath returns what of a path of the data plane a span may have: of a program's inside nothing, which may be secret.
func (a *API) tracePath(r *http.Request) string {
	if toServer(r) || !under(r.URL.Path, dataPaths) && !asksHealth(r) {
		return "/"
	}
	return r.URL.Path
}

// ServeHTTP is for http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch a.plane(r) {
	case controlPlane:
		a.control.ServeHTTP(w, r)
	case dataPlane:
		a.data.ServeHTTP(w, r)
	default:
		a.o.Next.ServeHTTP(w, r)
	}
}

// plane is what a request is for.
type plane int

const (
	native plane = iota
	controlPlane
	dataPlane
)

// plane tells what a request is for. A host that is a sandbox's comes first: pages that it serves are in a browser
// of an origin of their own, which is not to reach more than that. Control paths come before the headers that name a
// sandbox's envd, which some clients send with them, too.
func (a *API) plane(r *http.Request) plane {
	_, _, hosted := Hosted(r.Host)
	named := r.Header.Get(idHeader) != "" || r.Header.Get(portHeader) != ""
	switch {
	case hosted:
		return dataPlane
	case a.debug == controlPort:
		return controlPlane
	case a.debug != 0:
		return dataPlane
	case under(r.URL.Path, controlPaths) && (!named || r.Header.Get(keyHeader) != "" && !toServer(r)):
		return controlPlane
	case named:
		return dataPlane
	case r.URL.Path == "/health":
		return controlPlane
	case under(r.URL.Path, []string{"/v1"}):
		return native
	case r.Header.Get(tokenHeader) != "" || under(r.URL.Path, dataPaths):
		return dataPlane
	}
	return native
}

// toServer reports whether a request's headers name a port of a server inside, whose redirects are not to lead a client
// with a key to the control plane.
func toServer(r *http.Request) bool {
	switch r.Header.Get(portHeader) {
	case "", strconv.Itoa(envdPort), strconv.Itoa(interpreterPort):
		return false
	}
	return true
}

// controlPaths are those of the control plane, also of what there is not here, and dataPaths those that only
// requests to a sandbox have.
var (
	controlPaths = []string{"/sandboxes", "/v2/sandboxes", "/snapshots", "/templates", "/v2/templates", "/v3/templates", "/volumes", "/secrets", "/teams"}
	dataPaths    = []string{"/files", "/execute", "/contexts", "/process.Process", "/filesystem.Filesystem"}
)

// under reports whether a path is one of those, or below one.
func under(path string, those []string) bool {
	for _, one := range those {
		if rest, ok := strings.CutPrefix(path, one); ok && (rest == "" || rest[0] == '/') {
			return true
		}
	}
	return false
}

// Memory returns what the API has to remember in a process that follows: see server.Once.
func (a *API) Memory() []server.Begun[string] { return a.once.Memory() }

// Recall is Memory's other side, before the first request.
func (a *API) Recall(all []server.Begun[string]) { a.once.Recall(all) }
