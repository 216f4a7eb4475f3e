// Package interpreter answers what E2B's clients ask of port 49999 of a sandbox: to run code in
// contexts. It works in the sandbox's agent.
package interpreter

import (
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
)

// keepalive is a line that every client ignores. E2B's server sends one after 5 s of silence, and by the
// next notices a client that is gone.
const (
	keepalive = `{"type":"keepalive"}`
	silence   = 4 * time.Second
)

// New returns the API of the sandbox, which stays the caller's to close. When it is closed, open answers
// are cut: a client takes an answer that ends for that of a run that has.
func New(box *agent.Sandbox, o server.Options) http.Handler {
	o = o.WithDefaults()
	o.Fail, o.PingLine, o.Ping = fail, keepalive, min(o.Ping, silence)
	h := &handlers{box: box, o: o, contexts: &contexts{box: box}}
	return server.New([]server.Route{
		{Method: "POST", Path: "/execute", Handle: h.execute},
		{Method: "POST", Path: "/executions/{id}/input", Handle: h.input},
		{Method: "GET", Path: "/contexts", Handle: h.list},
		{Method: "POST", Path: "/contexts", Handle: h.create},
		{Method: "POST", Path: "/contexts/{id}/restart", Handle: h.restart},
		{Method: "DELETE", Path: "/contexts/{id}", Handle: h.remove},
		{Method: "GET", Path: "/health", Handle: h.health},
	}, o)
}

type handlers struct {
	box      *agent.Sandbox
	o        server.Options
	contexts *contexts
	together sync.Mutex // held while cells are queued that nothing may come between
}

func (h *handlers) health(w http.ResponseWriter, _ *http.Request) error {
	server.WriteJSON(w, http.StatusOK, "OK")
	return nil
}

// fail tells of an error as E2B's interpreter does: in words alone, which the clients put into their exceptions.
func fail(w http.ResponseWriter, _ *http.Request, _ error, told *api.Error) {
	status, words := server.Statuses[told.Code], told.Message
	if told.Code == api.Gone {
		status, words = http.StatusBadGateway, "The sandbox was not found: "+words
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, words) // fails only where the client is gone
}
