// Package inside answers the part of the HTTP API that works in one sandbox:
// each file has the handlers of one part of it.
package inside

import (
	"context"
	"net/http"
	"slices"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/server"
)

// New returns the HTTP API of the sandbox, which stays the caller's to close.
//
// To shut down without cutting a stream: close the sandbox, which ends its runs,
// and with them their streams; then shut down the http.Server, which waits for
// the last of their lines to be sent.
func New(box *agent.Sandbox, o server.Options) http.Handler {
	o = o.WithDefaults()
	o.Epoch = box.Epoch()
	all := &answers{}
	return all.count(server.New(routes(box, o, all), o))
}

// routes are all operations, of each part in turn.
func routes(box *agent.Sandbox, o server.Options, all *answers) []server.Route {
	return slices.Concat(
		(&handlers{box: box, o: o}).routes(),
		(&historyHandlers{box}).routes(),
		(&timelineHandlers{box, o}).routes(),
		(&fileHandlers{box, o}).routes(),
		(&processHandlers{box: box, o: o}).routes(),
		(&packageHandlers{box: box, o: o}).routes(),
		(&portHandlers{o: o}).routes(),
		(&capabilityHandlers{box, o}).routes(),
		(&notebookHandlers{box, o}).routes(),
		(&lifecycleHandlers{box, o, all}).routes(),
	)
}

// handlers answer what is about runs and contexts.
type handlers struct {
	box  sandbox
	o    server.Options
	once once[executor.Execution]
}

// sandbox is an *agent.Sandbox or, in tests, one context on a recorded conversation.
type sandbox interface {
	Submit(contextID string, cell executor.Cell) (*executor.Execution, error)
	Execution(id string) (*executor.Execution, error)
	Executions() []*executor.Execution
	Context(id string) (*executor.Context, error)
	Contexts() []agent.ContextInfo
	ContextInfo(id string) (agent.ContextInfo, error)
	CreateContext(ctx context.Context, o agent.ContextOptions) (agent.ContextInfo, error)
	DeleteContext(id string) error
}

// routes are the operations, those that are used most first.
func (h *handlers) routes() []server.Route {
	after := []string{"after"}
	return []server.Route{
		{Method: "POST", Path: "/v1/code", Handle: h.runCode},
		{Method: "GET", Path: "/v1/executions", Handle: h.listExecutions, Query: []string{"state", "limit"}},
		{Method: "GET", Path: "/v1/executions/{eid}", Handle: h.getExecution},
		{Method: "GET", Path: "/v1/executions/{eid}/output", Handle: h.getOutput, Query: []string{"range"}},
		{Method: "GET", Path: "/v1/executions/{eid}/events", Handle: h.followExecution, Query: after},
		{Method: "POST", Path: "/v1/executions/{eid}/interrupt", Handle: h.interruptExecution},
		{Method: "POST", Path: "/v1/executions/{eid}/input", Handle: h.answerInput},
		{Method: "GET", Path: "/v1/contexts", Handle: h.listContexts},
		{Method: "POST", Path: "/v1/contexts", Handle: h.createContext},
		{Method: "GET", Path: "/v1/contexts/{cid}", Handle: h.getContext},
		{Method: "DELETE", Path: "/v1/contexts/{cid}", Handle: h.deleteContext},
		{Method: "POST", Path: "/v1/contexts/{cid}/restart", Handle: h.restartContext},
		{Method: "POST", Path: "/v1/contexts/{cid}/interrupt", Handle: h.interruptContext},
		{Method: "POST", Path: "/v1/contexts/{cid}/complete", Handle: h.complete},
		{Method: "POST", Path: "/v1/contexts/{cid}/inspect", Handle: h.inspect},
		{Method: "GET", Path: "/v1/contexts/{cid}/variables", Handle: h.getVariables},
		{Method: "GET", Path: "/v1/contexts/{cid}/events", Handle: h.followContext, Query: after},
		{Method: "POST", Path: "/v1/reset", Handle: h.reset},
		{Method: "GET", Path: "/healthz", Handle: h.health},
		{Method: "GET", Path: "/readyz", Handle: h.ready},
		{Method: "GET", Path: "/openapi.yaml", Handle: h.openAPI},
	}
}

// nothing is the body of a request that has nothing to say.
type nothing struct{}

// ask returns the context of a question to a kernel, which may be slow.
func (h *handlers) ask(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), h.o.AskTimeout)
}

func (h *handlers) health(w http.ResponseWriter, _ *http.Request) error {
	server.WriteJSON(w, http.StatusOK, api.Health{Status: "ok"})
	return nil
}

// ready tells whether a run would start now or soon: the default context's kernel lives.
func (h *handlers) ready(w http.ResponseWriter, _ *http.Request) error {
	c, err := h.box.Context("")
	if err != nil {
		return api.Errorf(api.Unavailable, "the sandbox is closed")
	}
	if state := c.Status().State; state == "dead" {
		return api.Errorf(api.Unavailable, "the default context's kernel is %s", state)
	}
	server.WriteJSON(w, http.StatusOK, api.Health{Status: "ready"})
	return nil
}

func (h *handlers) openAPI(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/yaml")
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(api.OpenAPI) // fails only where the client is gone
	return nil
}
