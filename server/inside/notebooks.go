package inside

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
)

// notebookHandlers answer what is about running notebooks.
type notebookHandlers struct {
	box *agent.Sandbox
	o   server.Options
}

func (h *notebookHandlers) routes() []server.Route {
	return []server.Route{
		{Method: "POST", Path: "/v1/notebooks/run", Handle: h.run},
		{Method: "GET", Path: "/v1/notebooks", Handle: h.list, Query: []string{"limit"}},
		{Method: "GET", Path: "/v1/notebooks/{nid}", Handle: h.get},
		{Method: "GET", Path: "/v1/notebooks/{nid}/notebook", Handle: h.executed},
		{Method: "GET", Path: "/v1/notebooks/{nid}/events", Handle: h.follow, Query: []string{"after"}},
		{Method: "POST", Path: "/v1/notebooks/{nid}/interrupt", Handle: h.interrupt},
	}
}

// run runs a notebook and streams what happens, or, detached, says where that is.
func (h *notebookHandlers) run(w http.ResponseWriter, r *http.Request) error {
	var req api.NotebookRequest
	if err := server.Decode(r, &req); err != nil {
		return err
	}
	parameters, err := req.Values()
	if err != nil {
		return err
	}
	n, err := h.box.RunNotebook(r.Context(), agent.NotebookOptions{
		Path: req.Path, Notebook: bytes.NewReader(req.Notebook), Output: req.OutputPath, Parameters: parameters,
		Context: req.Context, Kernel: req.Kernel, Cwd: req.Cwd, Envs: req.Envs, Run: req.Options(),
	})
	switch {
	case errors.Is(err, agent.ErrBadParameter):
		return api.Invalid("parameters", "%v", err)
	case errors.Is(err, agent.ErrBadNotebook) && req.Path == "":
		return api.Invalid("notebook", "%v", err)
	case err != nil:
		return server.Explain(api.Unprocessable, err)
	}
	w.Header().Set("X-Notebook-Id", n.ID())
	w.Header().Set("Location", n.ID()) // relative: a proxy may have put a path before
	if req.Detach {
		server.WriteJSON(w, http.StatusAccepted, n.Summary())
		return nil
	}
	stayed, err := server.Follow(w, r, h.o, 0, n.Lines)
	if !stayed && req.OnDisconnect == api.Interrupt {
		_ = n.Interrupt() // no matter where it has ended
	}
	return err
}

// list lists the runs of notebooks, the newest first.
func (h *notebookHandlers) list(w http.ResponseWriter, r *http.Request) error {
	limit, err := server.QueryInt(r, "limit", 100, 1, 1000)
	if err != nil {
		return err
	}
	list := api.Notebooks{Notebooks: []api.Notebook{}}
	for _, n := range h.box.Notebooks() {
		if len(list.Notebooks) < int(limit) {
			list.Notebooks = append(list.Notebooks, n.Summary())
		}
	}
	server.WriteJSON(w, http.StatusOK, list)
	return nil
}

func (h *notebookHandlers) get(w http.ResponseWriter, r *http.Request) error {
	n, err := h.box.Notebook(server.Param(r, "nid"))
	if err != nil {
		return err
	}
	server.WriteJSON(w, http.StatusOK, n.Summary())
	return nil
}

// executed answers with the executed notebook.
func (h *notebookHandlers) executed(w http.ResponseWriter, r *http.Request) error {
	n, err := h.box.Notebook(server.Param(r, "nid"))
	if err != nil {
		return err
	}
	content, size, err := n.Executed()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ipynb+json")
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = io.Copy(w, content) // fails only where the client is gone
	}
	return nil
}

// follow replays a run's events from a number on, and follows it.
func (h *notebookHandlers) follow(w http.ResponseWriter, r *http.Request) error {
	n, err := h.box.Notebook(server.Param(r, "nid"))
	if err != nil {
		return err
	}
	return follow(w, r, h.o, n, func() int64 { return n.Summary().Events })
}

func (h *notebookHandlers) interrupt(w http.ResponseWriter, r *http.Request) error {
	if err := server.Decode(r, &nothing{}); err != nil {
		return err
	}
	n, err := h.box.Notebook(server.Param(r, "nid"))
	if err != nil {
		return err
	}
	if err := n.Interrupt(); err != nil {
		return err
	}
	server.WriteJSON(w, http.StatusOK, n.Summary())
	return nil
}
