package inside

import (
	"context"
	"iter"
	"net/http"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/server"
)

// runCode runs a cell and streams its events, or, detached, says where they are.
func (h *handlers) runCode(w http.ResponseWriter, r *http.Request) error {
	var req api.RunRequest
	if err := server.Decode(r, &req); err != nil {
		return err
	}
	if len(req.Code) > h.o.MaxCode {
		return api.Errorf(api.TooLarge, "code: is longer than %d bytes", h.o.MaxCode)
	}
	e, err := h.once.do(r, req, func() (*executor.Execution, error) { return h.box.Submit(req.Context, req.Cell()) })
	if err != nil {
		return err
	}
	w.Header().Set("X-Execution-Id", e.ID())
	w.Header().Set("Location", "executions/"+e.ID()) // relative: a proxy may have put a path before
	if req.Detach {
		server.WriteJSON(w, http.StatusAccepted, e.Summary())
		return nil
	}
	traced := server.TraceRun(r, h.o, e)
	stayed, err := server.Follow(w, r, h.o, 0, func(ctx context.Context, after int64) iter.Seq2[executor.Line, error] {
		return traced.Lines(e.Lines(ctx, after))
	})
	traced.End(w)
	if !stayed && req.OnDisconnect == api.Interrupt {
		h.interruptLeft(r, e)
	}
	return err
}

// interruptLeft interrupts a run whose client is gone.
func (h *handlers) interruptLeft(r *http.Request, e *executor.Execution) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), h.o.AskTimeout)
	defer cancel()
	if err := e.Interrupt(ctx); err != nil {
		h.o.Log.Debug("cannot interrupt a run whose client is gone", "execution", e.ID(), "error", err)
	}
}

// followExecution replays a run's events from a number on, and follows it.
func (h *handlers) followExecution(w http.ResponseWriter, r *http.Request) error {
	e, err := h.box.Execution(server.Param(r, "eid"))
	if err != nil {
		return err
	}
	return follow(w, r, h.o, e, func() int64 { return e.Summary().Events })
}

// listExecutions lists runs, the newest first.
func (h *handlers) listExecutions(w http.ResponseWriter, r *http.Request) error {
	limit, err := server.QueryInt(r, "limit", 100, 1, 1000)
	if err != nil {
		return err
	}
	state, err := queryState(r)
	if err != nil {
		return err
	}
	list := api.Executions{Executions: []executor.Summary{}}
	for _, e := range h.box.Executions() {
		s := e.Summary()
		if state != "" && s.State != state {
			continue
		}
		if list.Executions = append(list.Executions, s); len(list.Executions) == int(limit) {
			break
		}
	}
	server.WriteJSON(w, http.StatusOK, list)
	return nil
}

func queryState(r *http.Request) (executor.State, error) {
	given, ok := r.URL.Query()["state"]
	if !ok {
		return "", nil
	}
	switch state := executor.State(given[0]); state {
	case executor.Queued, executor.Running, executor.Done:
		return state, nil
	}
	return "", api.Invalid("state", `expected "queued", "running" or "done", got %q`, given[0])
}

func (h *handlers) getExecution(w http.ResponseWriter, r *http.Request) error {
	e, err := h.box.Execution(server.Param(r, "eid"))
	if err != nil {
		return err
	}
	server.WriteJSON(w, http.StatusOK, api.Execution{Summary: e.Summary(), Code: e.Cell().Code})
	return nil
}

func (h *handlers) interruptExecution(w http.ResponseWriter, r *http.Request) error {
	if err := server.Decode(r, &nothing{}); err != nil {
		return err
	}
	e, err := h.box.Execution(server.Param(r, "eid"))
	if err != nil {
		return err
	}
	ctx, cancel := h.ask(r)
	defer cancel()
	if err := e.Interrupt(ctx); err != nil {
		return err
	}
	server.WriteJSON(w, http.StatusOK, e.Summary())
	return nil
}

func (h *handlers) answerInput(w http.ResponseWriter, r *http.Request) error {
	var req api.InputRequest
	if err := server.Decode(r, &req); err != nil {
		return err
	}
	e, err := h.box.Execution(server.Param(r, "eid"))
	if err != nil {
		return err
	}
	ctx, cancel := h.ask(r)
	defer cancel()
	if err := e.Input(ctx, req.Value); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
