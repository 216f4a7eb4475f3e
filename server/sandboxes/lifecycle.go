package sandboxes

import (
	"errors"
	"net/http"
	"strings"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/server"
)

func (h *handlers) create(w http.ResponseWriter, r *http.Request) error {
	var req api.SandboxRequest
	if err := server.Decode(r, &req); err != nil {
		return err
	}
	id, err := h.once.Do(r, req, func() (string, error) {
		info, _, err := h.fleet.Create(r.Context(), options(req, server.CallerOf(r).Key))
		if err == nil {
			h.o.Audit(w, r, "create", info.ID)
		}
		return info.ID, err
	})
	if err != nil {
		return whyNotCreated(err, req)
	}
	info, err := h.fleet.Get(id)
	if err != nil {
		return err
	}
	box := payload(info)
	box.AccessToken = h.fleet.AccessToken(id)
	w.Header().Set("Location", "sandboxes/"+info.ID) // relative: a proxy may have put a path before
	w.Header().Set("Cache-Control", "no-store")
	server.WriteJSON(w, http.StatusCreated, box)
	return nil
}

// whyNotCreated names the field that is to blame, if one is.
func whyNotCreated(err error, req api.SandboxRequest) error {
	var told *api.Error
	switch {
	case errors.Is(err, fleet.ErrCwd):
		told = api.Invalid("cwd", "%.200q cannot be entered: code needs a directory that exists and that it may enter", req.Cwd)
	case errors.Is(err, fleet.ErrEnvs):
		told = api.Invalid("envs", "no kernel starts with these variables: some, such as PYTHONHOME, change how Python itself starts")
	case errors.Is(err, fleet.ErrUnknownTemplate):
		told = api.Invalid("template", "%.200q is unknown: see /v1/templates", req.Template)
	default:
		return err
	}
	told.Code = api.Unprocessable
	return told
}

func options(req api.SandboxRequest, owner string) fleet.CreateOptions {
	o := fleet.CreateOptions{
		Template: req.Template, Cwd: req.Cwd, Envs: req.Envs, Timeout: req.Duration(), Metadata: req.Metadata, Owner: owner,
	}
	if l := req.Limits; l != nil {
		o.Limits = fleet.Limits{Memory: int64(l.MemoryMB) << 20, CPUs: l.CPUs, Pids: int64(l.Pids), Disk: int64(l.DiskMB) << 20}
	}
	if req.Network != nil {
		o.Network = fleet.Network{Mode: string(req.Network.Chosen()), Allow: req.Network.Allow}
	}
	return o
}

func (h *handlers) get(w http.ResponseWriter, r *http.Request) error {
	info, err := h.find(r, server.Param(r, "id"))
	if err != nil {
		return err
	}
	box := payload(info)
	if server.CallerOf(r).Sandbox == "" { // its creator
		box.AccessToken = h.fleet.AccessToken(info.ID)
		w.Header().Set("Cache-Control", "no-store")
	}
	server.WriteJSON(w, http.StatusOK, box)
	return nil
}

func (h *handlers) setTimeout(w http.ResponseWriter, r *http.Request) error {
	var req api.TimeoutRequest
	if err := server.Decode(r, &req); err != nil {
		return err
	}
	return h.change(w, r, "timeout", func(id string) (fleet.Info, error) { return h.fleet.SetTimeout(id, req.Duration()) })
}

func (h *handlers) setNetwork(w http.ResponseWriter, r *http.Request) error {
	var req api.NetworkRequest
	if err := server.Decode(r, &req); err != nil {
		return err
	}
	if server.CallerOf(r).Sandbox != "" { // it may be in the hands of those that are to reach no more
		return api.Errorf(api.Forbidden, "a sandbox's own token does not change its network")
	}
	return h.change(w, r, "network", func(id string) (fleet.Info, error) {
		return h.fleet.SetNetwork(r.Context(), id, fleet.Network{Mode: string(req.Mode), Allow: req.Allow})
	})
}

func (h *handlers) pause(w http.ResponseWriter, r *http.Request) error {
	if err := server.Decode(r, &nothing{}); err != nil {
		return err
	}
	return h.change(w, r, "pause", func(id string) (fleet.Info, error) { return h.fleet.Pause(r.Context(), id) })
}

func (h *handlers) resume(w http.ResponseWriter, r *http.Request) error {
	if err := server.Decode(r, &nothing{}); err != nil {
		return err
	}
	return h.change(w, r, "resume", func(id string) (fleet.Info, error) { return h.fleet.Resume(r.Context(), id) })
}

// change answers with what became of the sandbox.
func (h *handlers) change(w http.ResponseWriter, r *http.Request, what string, do func(id string) (fleet.Info, error)) error {
	found, err := h.find(r, server.Param(r, "id"))
	if err != nil {
		return err
	}
	info, err := do(found.ID)
	if err != nil {
		return err
	}
	h.o.Audit(w, r, what, info.ID)
	server.WriteJSON(w, http.StatusOK, payload(info))
	return nil
}

func (h *handlers) close(w http.ResponseWriter, r *http.Request) error {
	if err := server.Decode(r, &nothing{}); err != nil {
		return err
	}
	return h.end(w, r, "close", func(id string) error { return h.fleet.CloseSandbox(r.Context(), id) })
}

func (h *handlers) kill(w http.ResponseWriter, r *http.Request) error {
	return h.end(w, r, "kill", func(id string) error { return h.fleet.Kill(r.Context(), id) })
}

// end answers once nothing is left of the sandbox.
func (h *handlers) end(w http.ResponseWriter, r *http.Request, how string, do func(id string) error) error {
	found, err := h.find(r, server.Param(r, "id"))
	if err != nil {
		return err
	}
	h.o.Audit(w, r, how, found.ID)
	if err := do(found.ID); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// defaultLimit is how many sandboxes a page has unless another number is asked for.
const defaultLimit = 100

func (h *handlers) list(w http.ResponseWriter, r *http.Request) error {
	limit, err := server.QueryInt(r, "limit", defaultLimit, 1, fleet.MaxPage)
	if err != nil {
		return err
	}
	metadata, err := metadataFilter(r)
	if err != nil {
		return err
	}
	used, err := server.QueryBool(r, "usage")
	if err != nil {
		return err
	}
	query := r.URL.Query()
	page, err := h.fleet.List(fleet.ListOptions{
		State: fleet.State(query.Get("state")), Cursor: query.Get("cursor"), Limit: int(limit),
		Metadata: metadata, Owner: server.CallerOf(r).Key,
	})
	if err != nil {
		return err
	}
	told := api.Sandboxes{Sandboxes: make([]api.Sandbox, 0, len(page.Sandboxes)), NextCursor: page.Next}
	for _, info := range page.Sandboxes {
		box := payload(info)
		if used {
			box.Usage = h.usageOf(info.ID)
		}
		told.Sandboxes = append(told.Sandboxes, box)
	}
	server.WriteJSON(w, http.StatusOK, told)
	return nil
}

// metadataFilter reads parameters such as metadata.user=ada.
func metadataFilter(r *http.Request) (map[string]string, error) {
	filter := map[string]string{}
	for name, values := range r.URL.Query() {
		if key, ok := strings.CutPrefix(name, "metadata."); ok {
			if err := api.ValidMetadata(key, values[0]); err != nil {
				return nil, err
			}
			filter[key] = values[0]
		}
	}
	return filter, nil
}
