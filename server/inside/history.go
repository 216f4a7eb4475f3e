package inside

import (
	"net/http"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/server"
)

// historyHandlers answer what is about the runs of a context.
type historyHandlers struct {
	box *agent.Sandbox
}

func (h *historyHandlers) routes() []server.Route {
	return []server.Route{
		{Method: "GET", Path: "/v1/contexts/{cid}/history", Handle: h.list, Query: []string{"limit"}},
		{Method: "GET", Path: "/v1/contexts/{cid}/notebook", Handle: h.export},
	}
}

// list tells what ran in a context, the oldest first.
func (h *historyHandlers) list(w http.ResponseWriter, r *http.Request) error {
	limit, err := server.QueryInt(r, "limit", 100, 1, 1000)
	if err != nil {
		return err
	}
	history, err := h.box.History(server.Param(r, "cid"), int(limit))
	if err != nil {
		return err
	}
	server.WriteJSON(w, http.StatusOK, history)
	return nil
}

// export answers with what ran in a context, as a notebook.
func (h *historyHandlers) export(w http.ResponseWriter, r *http.Request) error {
	id := server.Param(r, "cid")
	nb, err := h.box.Session(r.Context(), id)
	if err != nil {
		return err
	}
	head := w.Header()
	head.Set("Content-Type", "application/x-ipynb+json")
	head.Set("Content-Disposition", `attachment; filename="`+id+`.ipynb"`) // the id is of our making
	head.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	if err := nb.Write(w); err != nil {
		panic(http.ErrAbortHandler) // the client is gone, or must see that it has not all
	}
	return nil
}
