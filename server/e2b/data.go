package e2b

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/sandboxes"
)

// forward sends a request on to the port of the sandbox that it is for.
func (a *API) forward(w http.ResponseWriter, r *http.Request) error {
	info, port, err := a.find(r)
	if err != nil {
		return absent(a.discreet(r, err))
	}
	if err := a.Admit(r, info, port); err != nil {
		return err
	}
	release, box, err := a.Use(r, info, port)
	if err != nil {
		return absent(err)
	}
	defer release()
	if r.Header.Get(tokenHeader) != "" || r.Header.Get(trafficHeader) != "" || r.Header.Get(keyHeader) != "" {
		r = server.WithCaller(r, server.Caller{Sandbox: info.ID}) // no answer is to lead it elsewhere with that
	}
	if a.o.Tracer != nil {
		server.TraceRoute(r, route(r, port))
	}
	return absent(a.o.Native.Forward(w, r, box, target(r, port)))
}

// discreet tells that a sandbox is gone as if there had never been one, where there are API keys and the request has
// no token of it: an id is no secret, and what became of a sandbox is its owner's business.
func (a *API) discreet(r *http.Request, err error) error {
	var gone *fleet.GoneError
	if !errors.As(err, &gone) || a.keys.Len() == 0 || a.o.Fleet.Token(gone.ID, r.Header.Get(tokenHeader)) || a.hasTrafficToken(r, gone.ID) {
		return err
	}
	return fmt.Errorf("%w %.64q", fleet.ErrNotFound, gone.ID)
}

// Use is fleet.Use, and wakes a sandbox up that is to be woken by requests, but not by the question whether it runs.
func (a *API) Use(r *http.Request, info fleet.Info, port int) (func(), *fleet.Sandbox, error) {
	release, box, err := a.o.Fleet.Use(info.ID)
	if !errors.Is(err, fleet.ErrPaused) || info.Labels[labelResume] == "" || port == envdPort && asksHealth(r) {
		return release, box, err
	}
	if _, err := a.o.Fleet.Resume(r.Context(), info.ID); err != nil {
		return nil, nil, err
	}
	return a.o.Fleet.Use(info.ID)
}

// route returns what a path begins with that the agent answers by itself, for traces: of others there are as many as clients like.
func route(r *http.Request, port int) string {
	if port == envdPort || port == interpreterPort {
		for _, known := range dataPaths {
			if under(r.URL.Path, []string{known}) {
				return known
			}
		}
	}
	return "/{path}"
}

// target returns where the agent answers for a port.
func target(r *http.Request, port int) sandboxes.Target {
	path := server.RawPath(r)
	switch port {
	case envdPort:
		return sandboxes.Target{Path: EnvdPath + path, Slow: path == "/process.Process/StreamInput"}
	case interpreterPort:
		return sandboxes.Target{Path: InterpreterPath + path}
	}
	return sandboxes.Target{Path: PortPath + "/ports/" + strconv.Itoa(port) + path, Port: true}
}
