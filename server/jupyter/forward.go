package jupyter

import (
	"net/http"
	"strings"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/sandboxes"
)

// forward sends a request on to the agent of a sandbox, to a path of its Jupyter server. prefix is what clients have
// before that path.
func (a *API) forward(w http.ResponseWriter, r *http.Request, id, prefix, path string) error {
	info, err := a.find(r, id)
	if err != nil {
		return err
	}
	release, box, err := a.o.Fleet.Use(info.ID)
	if err != nil {
		return err
	}
	defer release()
	return a.o.Native.Forward(w, r, box, sandboxes.Target{Path: Path + path, Prefix: prefix})
}

// forwardServer sends a request on that names a sandbox, to all of its Jupyter server.
func (a *API) forwardServer(w http.ResponseWriter, r *http.Request) error {
	rest, ok := strings.CutPrefix(server.RawPath(r), Path+"/")
	id, path, _ := strings.Cut(rest, "/")
	if !ok || strings.ContainsAny(id, "%.") {
		return api.Errorf(api.NotFound, "cannot find %s", r.URL.Path)
	}
	return missing("Sandbox", id, a.forward(w, r, id, a.url(Path+"/"+id), "/"+path))
}

// forwardKernel returns what sends a request on to the agent that has the kernel, to what is behind its path.
func (a *API) forwardKernel(behind string) func(w http.ResponseWriter, r *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		id := server.Param(r, "id")
		box, _, ok := api.ParseKernelID(id)
		if !ok {
			return refuse(http.StatusNotFound, "Kernel does not exist: %.100q", id)
		}
		return missing("Kernel", id, a.forward(w, r, box, a.url(""), "/api/kernels/"+id+behind))
	}
}

func (a *API) forwardSession(w http.ResponseWriter, r *http.Request) error {
	id := server.Param(r, "id")
	box, _, ok := api.ParseSessionID(id)
	if !ok {
		return refuse(http.StatusNotFound, "Session does not exist: %.100q", id)
	}
	return missing("Session", id, a.forward(w, r, box, a.url(""), "/api/sessions/"+id))
}
