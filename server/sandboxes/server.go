package sandboxes

import (
	"net/http"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/server"
)

func (h *handlers) listTemplates(w http.ResponseWriter, _ *http.Request) error {
	all := []api.Template{}
	if h.all.Templates != nil {
		all = append(all, h.all.Templates()...)
	}
	server.WriteJSON(w, http.StatusOK, api.Templates{Templates: all})
	return nil
}

func (h *handlers) capabilities(w http.ResponseWriter, r *http.Request) error {
	can := h.all.Capabilities
	can.Version, can.Limits.MaxBodyBytes, can.Previews = h.o.Version, h.o.MaxBody, h.previews(r)
	can.Isolation = isolation(fleet.Isolation{Level: can.Isolation.Level, Missing: can.Isolation.Missing, Enforced: can.Isolation.Enforced})
	can.Levels = filled(can.Levels)
	can.Networks, can.Fronts = append([]string{}, can.Networks...), append([]string{}, can.Fronts...)
	server.WriteJSON(w, http.StatusOK, can)
	return nil
}

func (h *handlers) health(w http.ResponseWriter, _ *http.Request) error {
	server.WriteJSON(w, http.StatusOK, api.Health{Status: "ok"})
	return nil
}

// ready tells whether sandboxes can be had now: not while the server shuts down.
func (h *handlers) ready(w http.ResponseWriter, _ *http.Request) error {
	if _, err := h.fleet.List(fleet.ListOptions{Limit: 1}); err != nil {
		return err
	}
	server.WriteJSON(w, http.StatusOK, api.Health{Status: "ready"})
	return nil
}

func (h *handlers) openAPI(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/yaml")
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(api.ServerOpenAPI) // fails only where the client is gone
	return nil
}

// enter counts a request to a sandbox, where it may have one more: a sandbox that answers
// none holds no more of the server than that.
func (h *handlers) enter(id string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open[id] >= h.all.MaxRequests {
		return api.Errorf(api.LimitReached, "%d requests to sandbox %s are open", h.all.MaxRequests, id)
	}
	h.open[id]++
	return nil
}

func (h *handlers) leave(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open[id]--; h.open[id] == 0 {
		delete(h.open, id)
	}
}
