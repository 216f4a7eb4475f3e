package e2b

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/server"
)

const maxControlBody = 1 << 20 // bytes

// anything is the query of E2B's operations, which pass over what they do not know.
var anything = []string{"*"}

// routes are the operations of the control plane, whose newest form has /v2 before it.
func (a *API) routes() []server.Route {
	routes := []server.Route{
		{Method: "GET", Path: "/health", Handle: a.health},
		{Method: "POST", Path: "/sandboxes", Handle: a.keyed(a.createOld)},
		{Method: "POST", Path: "/v2/sandboxes", Handle: a.keyed(a.create)},
		{Method: "GET", Path: "/sandboxes", Handle: a.keyed(a.listOld)},
		{Method: "GET", Path: "/v2/sandboxes", Handle: a.keyed(a.list)},
		{Method: "GET", Path: "/snapshots", Handle: a.keyed(a.listSnapshots)},
	}
	for _, one := range []string{"/sandboxes/{id}", "/v2/sandboxes/{id}"} {
		routes = append(routes, []server.Route{
			{Method: "GET", Path: one, Handle: a.keyed(a.one(a.detail))},
			{Method: "DELETE", Path: one, Handle: a.keyed(a.one(a.kill))},
			{Method: "POST", Path: one + "/timeout", Handle: a.keyed(a.one(a.setTimeout))},
			{Method: "POST", Path: one + "/connect", Handle: a.keyed(a.one(a.connect))},
			{Method: "POST", Path: one + "/pause", Handle: a.keyed(a.one(a.pause))},
			{Method: "POST", Path: one + "/resume", Handle: a.keyed(a.one(a.resume))},
			{Method: "GET", Path: one + "/metrics", Handle: a.keyed(a.one(a.metrics))},
			{Method: "PUT", Path: one + "/network", Handle: a.keyed(a.one(a.setNetwork))},
			{Method: "POST", Path: one + "/snapshots", Handle: a.keyed(a.one(never("there are no snapshots yet")))},
			{Method: "POST", Path: one + "/fork", Handle: a.keyed(a.one(never("a sandbox cannot be forked yet")))},
		}...)
	}
	for i := range routes {
		routes[i].Query, routes[i].Body = anything, maxControlBody
	}
	return routes
}

// one has an operation get the sandbox of its path, which others than its owner do not find.
func (a *API) one(handle func(w http.ResponseWriter, r *http.Request, info fleet.Info) error) func(w http.ResponseWriter, r *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		id := plainID(server.Param(r, "id"))
		if a.debug != 0 && id == plainID(implicitID) {
			info, err := a.implicit.get(r.Context(), a.o.Fleet)
			if err != nil {
				return err
			}
			return missing(handle(w, r, info))
		}
		info, err := a.o.Native.Find(r, id)
		if err != nil {
			return missing(err)
		}
		if info.State == fleet.Ending && r.Method != http.MethodDelete { // who kills waits for the end
			return missing(&fleet.GoneError{ID: info.ID, Owner: info.Owner, Reason: info.Reason, At: info.EndedAt})
		}
		return missing(handle(w, r, info))
	}
}

// never is an operation that there is not.
func never(why string) func(http.ResponseWriter, *http.Request, fleet.Info) error {
	return func(http.ResponseWriter, *http.Request, fleet.Info) error { return unsupported("%s", why) }
}

func (a *API) health(w http.ResponseWriter, _ *http.Request) error {
	server.WriteJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	return nil
}

func (a *API) listSnapshots(w http.ResponseWriter, _ *http.Request) error {
	server.WriteJSON(w, http.StatusOK, []string{}) // there are none
	return nil
}

func (a *API) detail(w http.ResponseWriter, _ *http.Request, info fleet.Info) error {
	w.Header().Set("Cache-Control", "no-store")
	server.WriteJSON(w, http.StatusOK, a.detailOf(info))
	return nil
}

func (a *API) kill(w http.ResponseWriter, r *http.Request, info fleet.Info) error {
	a.o.Audit(w, r, "kill", info.ID)
	if err := a.o.Fleet.Kill(r.Context(), info.ID); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *API) setTimeout(w http.ResponseWriter, r *http.Request, info fleet.Info) error {
	var req timeoutRequest
	if err := server.DecodeKnown(r, &req); err != nil {
		return err
	}
	lasts, err := seconds(req.Timeout)
	if err != nil {
		return err
	}
	if _, err := a.o.Fleet.SetTerm(info.ID, fleet.Term{Lasts: lasts}); err != nil {
		return err
	}
	a.o.Audit(w, r, "timeout", info.ID)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// setNetwork replaces what the sandbox reaches.
func (a *API) setNetwork(w http.ResponseWriter, r *http.Request, info fleet.Info) error {
	var req networkRequest
	if err := server.DecodeKnown(r, &req); err != nil {
		return err
	}
	reaches, err := req.reaches()
	if err != nil {
		return err
	}
	reaches.Mode = cmp.Or(reaches.Mode, fleet.NetworkFull)
	if _, err := a.o.Fleet.SetNetwork(r.Context(), info.ID, reaches); err != nil {
		return err
	}
	a.o.Audit(w, r, "network", info.ID)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// connect gives a running sandbox more time, if it has less, and wakes up a paused one.
func (a *API) connect(w http.ResponseWriter, r *http.Request, info fleet.Info) error {
	var req connectRequest
	if err := server.DecodeKnown(r, &req); err != nil {
		return err
	}
	lasts, err := positive(req.Timeout, defaultTimeout)
	if err != nil {
		return err
	}
	if info.State == fleet.Paused {
		if err := withMemory(req.Memory); err != nil {
			return err
		}
		return a.wake(w, r, info, fleet.Term{Lasts: lasts})
	}
	longer, err := a.o.Fleet.SetTerm(info.ID, fleet.Term{Lasts: lasts, Extend: true})
	switch {
	case errors.Is(err, fleet.ErrPaused): // meanwhile
		return a.wake(w, r, info, fleet.Term{Lasts: lasts})
	case err != nil:
		return err
	}
	a.tell(w, http.StatusOK, longer)
	return nil
}

// resume is what old clients have in place of connect.
func (a *API) resume(w http.ResponseWriter, r *http.Request, info fleet.Info) error {
	var req resumeRequest
	if err := server.DecodeKnown(r, &req); err != nil {
		return err
	}
	lasts, err := positive(req.Timeout, defaultTimeout)
	if err != nil {
		return err
	}
	if info.State != fleet.Paused {
		return api.Errorf(api.Conflict, "sandbox %s is already running", info.ID)
	}
	if err := a.canPause(req.AutoPause != nil && *req.AutoPause); err != nil {
		return err
	}
	return a.wake(w, r, info, fleet.Term{Lasts: lasts, AutoPause: req.AutoPause})
}

// wake has a paused sandbox go on for a time.
func (a *API) wake(w http.ResponseWriter, r *http.Request, info fleet.Info, t fleet.Term) error {
	t.Extend = !info.Term
	if _, err := a.o.Fleet.Resume(r.Context(), info.ID); err != nil {
		return err
	}
	info, err := a.o.Fleet.SetTerm(info.ID, t)
	if err != nil {
		return err
	}
	a.o.Audit(w, r, "resume", info.ID)
	a.tell(w, http.StatusCreated, info)
	return nil
}

func (a *API) pause(w http.ResponseWriter, r *http.Request, info fleet.Info) error {
	var req pauseRequest
	if err := server.DecodeKnown(r, &req); err != nil {
		return err
	}
	if err := withMemory(req.Memory); err != nil {
		return err
	}
	if err := a.canPause(true); err != nil {
		return err
	}
	if info.State == fleet.Paused {
		return api.Errorf(api.Conflict, "sandbox %s is already paused", info.ID)
	}
	if req.RequireHealthyGuest {
		if err := a.healthy(r.Context(), info.ID); err != nil {
			return err
		}
	}
	if _, err := a.o.Fleet.Pause(r.Context(), info.ID); err != nil {
		return err
	}
	a.o.Audit(w, r, "pause", info.ID)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// healthTime is how long an agent may take to show that it is well.
const healthTime = 5 * time.Second

// healthy asks the agent of a sandbox whether it is there.
func (a *API) healthy(ctx context.Context, id string) error {
	release, box, err := a.o.Fleet.Use(id)
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/healthz", nil)
	if err != nil {
		return err
	}
	resp, err := box.Transport().RoundTrip(ask)
	if err == nil {
		resp.Body.Close()
	}
	if err != nil || resp.StatusCode != http.StatusOK {
		return server.Explain(api.Conflict, &refusal{code: "sandbox_snapshot_guest_agent_unresponsive", message: "the agent of sandbox " + id + " does not answer"})
	}
	return nil
}

// canPause refuses to promise what cannot be done here.
func (a *API) canPause(wanted bool) error {
	if wanted && !a.o.Pause.Available {
		return unsupported("sandboxes cannot be paused here: %s", a.o.Pause.Reason)
	}
	return nil
}

// withMemory refuses to do without what a sandbox has in memory: a paused one is frozen, and keeps it.
func withMemory(memory *bool) error {
	if memory != nil && !*memory {
		return unsupported("memory: a sandbox is paused with its memory, and goes on with it")
	}
	return nil
}

// tell answers with what a client needs to use a sandbox.
func (a *API) tell(w http.ResponseWriter, status int, info fleet.Info) {
	w.Header().Set("Cache-Control", "no-store")
	server.WriteJSON(w, status, a.sandboxOf(info))
}
