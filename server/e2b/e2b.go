// Package e2b lets unmodified clients of E2B work with the sandboxes of a fleet: doc/e2b.md. It answers
// E2B's control plane, finds the sandbox of every other request and forwards it. What works in
// a sandbox is answered there, by packages envd and interpreter; this one believes nothing that comes out of it.
package e2b

import (
	"net/http"

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

// Ports of a sandbox, as the clients know them, that no server of the sandbox's own has.
const (
	envdPort        = 49983
	interpreterPort = 49999
)

// Options of the API. Fleet and Native are required.
type Options struct {
	server.Options
	Fleet  *fleet.Fleet   // stays the caller's to close
	Native *sandboxes.API // of the same fleet: it answers what is not for this API
}

// New returns the API in front of the native one.
func New(o Options) http.Handler {
	keys := o.Keys
	o.Keys, o.Fail, o.Observe = nil, Fail, o.Native.Observe // keys are looked at here: what needs one depends on the plane
	f := &front{o: o, keys: keys}
	f.data = server.Guard(f.forward, o.Options)
	return f
}

// front finds out what a request is for.
type front struct {
	o    Options
	keys *server.Keys
	data http.Handler
}

// ServeHTTP is for http.Handler.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get(idHeader) != "" || r.Header.Get(portHeader) != "" {
		f.data.ServeHTTP(w, r)
		return
	}
	f.o.Native.ServeHTTP(w, r)
}

// The headers that name a sandbox and a port of it.
const (
	idHeader   = "E2b-Sandbox-Id"
	portHeader = "E2b-Sandbox-Port"
)

// failure is the body of an answer that tells of an error.
type failure struct {
	Code      int    `json:"code"` // the status
	Message   string `json:"message"`
	SandboxID string `json:"sandboxId,omitempty"`
}

// Fail answers with an error as E2B's APIs write them: see server.Options.
func Fail(w http.ResponseWriter, r *http.Request, _ error, told *api.Error) {
	status := server.Statuses[told.Code]
	server.WriteJSON(w, status, failure{status, told.Message, r.Header.Get(idHeader)})
}
