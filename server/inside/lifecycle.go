package inside

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
)

// lifecycleHandlers are for the server that owns the sandbox.
type lifecycleHandlers struct {
	box     *agent.Sandbox
	o       server.Options
	answers *answers
}

func (h *lifecycleHandlers) routes() []server.Route {
	routes := []server.Route{{Method: "GET", Path: "/v1/activity", Handle: h.activity}}
	if h.o.Behind {
		routes = append(routes,
			server.Route{Method: "POST", Path: closePath, Handle: h.close, Query: []string{"reason"}},
			server.Route{Method: "POST", Path: "/v1/refusals", Handle: h.refused}) // likewise
	}
	return routes
}

// closePath is for the server alone, which never forwards a client there: it is in no document.
const closePath = "/v1/close"

// flushTime bounds the wait for answers to be sent: not every client reads to the end.
const flushTime = time.Second

func (h *lifecycleHandlers) activity(w http.ResponseWriter, _ *http.Request) error {
	server.WriteJSON(w, http.StatusOK, h.box.Activity())
	return nil
}

// refused notes what the sandbox's network has refused.
func (h *lifecycleHandlers) refused(w http.ResponseWriter, r *http.Request) error {
	var told api.Refusals
	if err := server.Decode(r, &told); err != nil {
		return err
	}
	h.box.Refused(told)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// close ends the sandbox and answers when the others have been told: nothing of their
// streams is lost where the process ends then.
func (h *lifecycleHandlers) close(w http.ResponseWriter, r *http.Request) error {
	if err := server.Decode(r, &nothing{}); err != nil {
		return err
	}
	var err error
	switch reason := api.EndReason(r.URL.Query().Get("reason")); reason {
	case api.EndClosed:
		err = h.box.Shutdown(context.WithoutCancel(r.Context()), reason) // each step has a bound of its own
	case api.EndKilled, api.EndTimedOut:
		err = h.box.Kill(reason)
	default:
		return api.Invalid("reason", "%.64q is not one for which an agent is asked to end", reason)
	}
	if err != nil {
		return api.Errorf(api.Internal, "not all that was started could be ended: %v", err)
	}
	ctx, cancel := context.WithTimeout(r.Context(), flushTime)
	defer cancel()
	h.answers.wait(ctx)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// answers counts those that are under way, but for closePath's.
type answers struct {
	mu   sync.Mutex
	open int
	none chan struct{} // closed once there is none; nil where nobody waits
}

// count has the handler's answers counted until all of each has been sent.
func (a *answers) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == closePath {
			next.ServeHTTP(w, r)
			return
		}
		a.begin()
		defer a.end()
		next.ServeHTTP(w, r)
		if a.awaited() && r.Header.Get("Upgrade") == "" { // else its connection may be another's
			_ = http.NewResponseController(w).Flush() // fails where the client is gone
		}
	})
}

func (a *answers) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open++
}

func (a *answers) awaited() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.none != nil
}

func (a *answers) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open--; a.open == 0 && a.none != nil {
		close(a.none)
		a.none = nil
	}
}

// wait waits until no answer is under way, or ctx is done.
func (a *answers) wait(ctx context.Context) {
	a.mu.Lock()
	if a.open == 0 {
		a.mu.Unlock()
		return
	}
	if a.none == nil {
		a.none = make(chan struct{})
	}
	none := a.none
	a.mu.Unlock()
	select {
	case <-none:
	case <-ctx.Done():
	}
}
