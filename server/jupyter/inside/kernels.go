package inside

import (
	"context"
	"errors"
	"net/http"
	"path"
	"path/filepath"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/files"
	"github.com/k2sandbox/k2sandbox/server"
)

// kernels are the contexts, the oldest first.
func (h *handlers) kernels() []api.JupyterKernel {
	kernels := []api.JupyterKernel{}
	for _, c := range h.box.Contexts() {
		kernels = append(kernels, h.kernel(c))
	}
	return kernels
}

func (h *handlers) kernel(c agent.ContextInfo) api.JupyterKernel {
	return api.JupyterKernel{
		ID: api.KernelID(h.id, c.ContextID), Name: c.Kernel,
		LastActivity: api.JupyterTime{Time: c.LastActiveAt}, ExecutionState: c.State,
		Connections: h.channels.Connections(c.ContextID),
	}
}

// find returns the context that is the kernel with the id.
func (h *handlers) find(id string) (agent.ContextInfo, error) {
	if sandbox, context, ok := api.ParseKernelID(id); ok && sandbox == h.id {
		c, err := h.box.ContextInfo(context)
		if !errors.Is(err, agent.ErrNotFound) {
			return c, err
		}
	}
	return agent.ContextInfo{}, refuse(http.StatusNotFound, "Kernel does not exist: %.300s", id)
}

func (h *handlers) listKernels(w http.ResponseWriter, _ *http.Request) error {
	server.WriteJSON(w, http.StatusOK, h.kernels())
	return nil
}

func (h *handlers) startKernel(w http.ResponseWriter, r *http.Request) error {
	var req api.JupyterKernelRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	c, err := h.start(r.Context(), req)
	if err != nil {
		return err
	}
	h.created(w, r, "/api/kernels/"+api.KernelID(h.id, c.ContextID), h.kernel(c))
	return nil
}

// start starts a kernel in the folder of a notebook, or of the deepest folder above it that is there.
func (h *handlers) start(ctx context.Context, req api.JupyterKernelRequest) (agent.ContextInfo, error) {
	asked := api.ContextRequest{Kernel: req.Name, Envs: req.Env}
	var err error
	if asked.Cwd, err = h.folder(req.Path); err != nil {
		return agent.ContextInfo{}, err
	}
	if err := asked.Validate(); err != nil {
		return agent.ContextInfo{}, err
	}
	c, err := h.box.CreateContext(ctx, agent.ContextOptions{Kernel: asked.Kernel, Cwd: asked.Cwd, Envs: asked.Envs})
	if err != nil {
		return c, server.Explain(api.Internal, err)
	}
	return c, nil
}

// folder returns the path that processes know of the deepest folder of the contents on the way to one of their files.
func (h *handlers) folder(given string) (string, error) {
	at, err := clean(given)
	if err != nil {
		return "", err
	}
	for ; at != "."; at = path.Dir(at) {
		if entry, err := h.box.Files().StatTarget(at); err == nil && entry.Type == files.Dir {
			break
		}
	}
	return filepath.Join(h.root(), at), nil
}

// root is where the contents are, as processes know it: the sandbox's working directory.
func (h *handlers) root() string {
	c, err := h.box.ContextInfo("")
	if err != nil {
		return h.box.Home() // the sandbox has ended
	}
	return c.Cwd
}

func (h *handlers) getKernel(w http.ResponseWriter, r *http.Request) error {
	c, err := h.find(server.Param(r, "id"))
	if err != nil {
		return err
	}
	server.WriteJSON(w, http.StatusOK, h.kernel(c))
	return nil
}

func (h *handlers) endKernel(w http.ResponseWriter, r *http.Request) error {
	c, err := h.find(server.Param(r, "id"))
	if err != nil {
		return err
	}
	if err := h.end(r.Context(), c.ContextID); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// end ends a kernel and the sessions that it has. The default context, which a sandbox always has, gets a new one.
func (h *handlers) end(ctx context.Context, contextID string) error {
	h.sessions.forget(contextID)
	err := h.box.DeleteContext(contextID)
	if !errors.Is(err, agent.ErrDefaultContext) {
		return err
	}
	c, err := h.box.Context(contextID)
	if err != nil {
		return err
	}
	return c.Restart(context.WithoutCancel(ctx))
}

func (h *handlers) interruptKernel(w http.ResponseWriter, r *http.Request) error {
	c, err := h.find(server.Param(r, "id"))
	if err != nil {
		return err
	}
	running, err := h.box.Context(c.ContextID)
	if err != nil {
		return err
	}
	if err := running.Signal(context.WithoutCancel(r.Context())); err != nil {
		return server.Explain(api.Internal, err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h *handlers) restartKernel(w http.ResponseWriter, r *http.Request) error {
	c, err := h.find(server.Param(r, "id"))
	if err != nil {
		return err
	}
	running, err := h.box.Context(c.ContextID)
	if err != nil {
		return err
	}
	if err := running.Restart(context.WithoutCancel(r.Context())); err != nil { // not half a restart where the client leaves
		return server.Explain(api.Internal, err)
	}
	return h.getKernel(w, r)
}

func (h *handlers) joinKernel(w http.ResponseWriter, r *http.Request) error {
	c, err := h.find(server.Param(r, "id"))
	if err != nil {
		return err
	}
	return h.channels.Serve(w, r, c.ContextID)
}
