package inside

import (
	"net/http"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
)

// getVariables tells of the variables of a context.
func (h *handlers) getVariables(w http.ResponseWriter, r *http.Request) error {
	c, err := h.box.Context(server.Param(r, "cid"))
	if err != nil {
		return err
	}
	ctx, cancel := h.ask(r)
	defer cancel()
	variables, err := c.Variables(ctx)
	if err != nil {
		return server.Explain(api.Unprocessable, err)
	}
	server.WriteJSON(w, http.StatusOK, variables)
	return nil
}
