package e2b

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/sandboxes"
)

// forward sends a request to the port of a sandbox that it names.
func (f *front) forward(w http.ResponseWriter, r *http.Request) error {
	id, port, err := named(r)
	if err != nil {
		return err
	}
	release, box, err := f.o.Fleet.Use(id)
	if err != nil {
		return absent(err)
	}
	defer release()
	return absent(f.o.Native.Forward(w, r, box, target(r, port)))
}

// named returns the sandbox and the port that the headers name.
func named(r *http.Request) (id string, port int, err error) {
	id = r.Header.Get(idHeader)
	port, err = strconv.Atoi(r.Header.Get(portHeader))
	if id == "" || err != nil || port < 1 || port > 65535 {
		return "", 0, api.Errorf(api.InvalidRequest, "a request to a sandbox needs both headers, %s and %s, the latter a number from 1 to 65535", idHeader, portHeader)
	}
	return id, port, nil
}

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

// absent tells as E2B does, and in addition why, that a sandbox does not take requests.
func absent(err error) error {
	if errors.Is(err, fleet.ErrGone) || errors.Is(err, fleet.ErrNotFound) || errors.Is(err, fleet.ErrState) {
		return api.Errorf(api.SandboxUnreachable, "The sandbox was not found: %v", err)
	}
	return err
}
