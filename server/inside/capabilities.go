package inside

import (
	"net/http"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
)

// capabilityHandlers tell what can be done here.
type capabilityHandlers struct {
	box *agent.Sandbox
	o   server.Options
}

func (h *capabilityHandlers) routes() []server.Route {
	return []server.Route{{Method: "GET", Path: "/v1/capabilities", Handle: h.get}}
}

func (h *capabilityHandlers) get(w http.ResponseWriter, _ *http.Request) error {
	can := h.box.Capabilities()
	can.Version = h.o.Version
	can.Ports = api.PortCapability{Available: true, Trusted: h.o.TrustPorts}
	can.Limits.MaxBodyBytes, can.Limits.MaxCodeBytes = h.o.MaxBody, h.o.MaxCode
	server.WriteJSON(w, http.StatusOK, can)
	return nil
}
