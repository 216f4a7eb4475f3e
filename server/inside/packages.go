package inside

import (
	"math"
	"net/http"
	"time"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
)

// packageHandlers answer what is about the packages of the sandbox's Python.
type packageHandlers struct {
	box  *agent.Sandbox
	o    server.Options
	once once[agent.Install]
}

func (h *packageHandlers) routes() []server.Route {
	return []server.Route{
		{Method: "GET", Path: "/v1/packages", Handle: h.list},
		{Method: "POST", Path: "/v1/packages", Handle: h.install},
		{Method: "GET", Path: "/v1/packages/installs/{iid}", Handle: h.get},
		{Method: "GET", Path: "/v1/packages/installs/{iid}/events", Handle: h.follow, Query: []string{"after"}},
		{Method: "POST", Path: "/v1/packages/installs/{iid}/interrupt", Handle: h.interrupt},
	}
}

func (h *packageHandlers) list(w http.ResponseWriter, _ *http.Request) error {
	list, err := h.box.Packages()
	if err != nil {
		return err
	}
	server.WriteJSON(w, http.StatusOK, api.Packages{Packages: list})
	return nil
}

// install queues an installation and streams what it says, or, detached, says where
// that is. It goes on when its client leaves.
func (h *packageHandlers) install(w http.ResponseWriter, r *http.Request) error {
	var req api.PackagesRequest
	if err := server.Decode(r, &req); err != nil {
		return err
	}
	requirements, err := req.Requirements()
	if err != nil {
		return err
	}
	timeout := time.Duration(math.Ceil(req.Timeout * float64(time.Second)))
	i, err := h.once.do(r, req, func() (*agent.Install, error) { return h.box.InstallPackages(requirements, req.Upgrade, timeout) })
	if err != nil {
		return api.PackageRefused(err)
	}
	w.Header().Set("X-Install-Id", i.ID())
	w.Header().Set("Location", "packages/installs/"+i.ID()) // relative: a proxy may have put a path before
	if req.Detach {
		server.WriteJSON(w, http.StatusAccepted, i.Summary())
		return nil
	}
	_, err = server.Follow(w, r, h.o, 0, i.Lines)
	return err
}

func (h *packageHandlers) get(w http.ResponseWriter, r *http.Request) error {
	i, err := h.box.Install(server.Param(r, "iid"))
	if err != nil {
		return err
	}
	server.WriteJSON(w, http.StatusOK, i.Summary())
	return nil
}

// follow replays an installation's lines from a number on, and follows it.
func (h *packageHandlers) follow(w http.ResponseWriter, r *http.Request) error {
	i, err := h.box.Install(server.Param(r, "iid"))
	if err != nil {
		return err
	}
	return follow(w, r, h.o, i, func() int64 { return i.Summary().Events })
}

func (h *packageHandlers) interrupt(w http.ResponseWriter, r *http.Request) error {
	if err := server.Decode(r, &nothing{}); err != nil {
		return err
	}
	i, err := h.box.Install(server.Param(r, "iid"))
	if err != nil {
		return err
	}
	if err := i.Interrupt(); err != nil {
		return err
	}
	server.WriteJSON(w, http.StatusOK, i.Summary())
	return nil
}
