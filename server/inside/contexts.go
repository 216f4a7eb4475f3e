package inside

import (
	"context"
	"iter"
	"math"
	"net/http"
	"unicode/utf8"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/server"
)

func (h *handlers) listContexts(w http.ResponseWriter, _ *http.Request) error {
	server.WriteJSON(w, http.StatusOK, api.Contexts{Contexts: h.box.Contexts()})
	return nil
}

// createContext starts a kernel of its own for a new context.
func (h *handlers) createContext(w http.ResponseWriter, r *http.Request) error {
	var req api.ContextRequest
	if err := server.Decode(r, &req); err != nil {
		return err
	}
	info, err := h.box.CreateContext(r.Context(), agent.ContextOptions{
		Language: req.Language, Kernel: req.Kernel, Cwd: req.Cwd, Envs: req.Envs,
	})
	if err != nil {
		return server.Explain(api.Unprocessable, err)
	}
	w.Header().Set("Location", "contexts/"+info.ContextID) // relative: a proxy may have put a path before
	server.WriteJSON(w, http.StatusCreated, info)
	return nil
}

func (h *handlers) getContext(w http.ResponseWriter, r *http.Request) error {
	return h.writeContext(w, server.Param(r, "cid"))
}

func (h *handlers) writeContext(w http.ResponseWriter, id string) error {
	info, err := h.box.ContextInfo(id)
	if err != nil {
		return err
	}
	server.WriteJSON(w, http.StatusOK, info)
	return nil
}

func (h *handlers) deleteContext(w http.ResponseWriter, r *http.Request) error {
	if err := h.box.DeleteContext(server.Param(r, "cid")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h *handlers) restartContext(w http.ResponseWriter, r *http.Request) error {
	return h.change(w, r, server.Param(r, "cid"), (*executor.Context).Restart)
}

func (h *handlers) interruptContext(w http.ResponseWriter, r *http.Request) error {
	return h.change(w, r, server.Param(r, "cid"), (*executor.Context).Interrupt)
}

// reset restarts the default context.
func (h *handlers) reset(w http.ResponseWriter, r *http.Request) error {
	return h.change(w, r, "", (*executor.Context).Restart)
}

// change does something to a context and answers with what it is then.
func (h *handlers) change(w http.ResponseWriter, r *http.Request, id string, do func(*executor.Context, context.Context) error) error {
	if err := server.Decode(r, &nothing{}); err != nil {
		return err
	}
	c, err := h.box.Context(id)
	if err != nil {
		return err
	}
	if err := do(c, context.WithoutCancel(r.Context())); err != nil { // not half a restart where the client leaves
		return server.Explain(api.Unavailable, err)
	}
	return h.writeContext(w, c.ID())
}

// complete tells how code can go on at the cursor.
func (h *handlers) complete(w http.ResponseWriter, r *http.Request) error {
	var req api.CompleteRequest
	if err := server.Decode(r, &req); err != nil {
		return err
	}
	c, cursor, err := h.cursorIn(r, req.Code, req.Cursor)
	if err != nil {
		return err
	}
	ctx, cancel := h.ask(r)
	defer cancel()
	completion, err := c.Complete(ctx, req.Code, cursor)
	if err != nil {
		return server.Explain(api.Unprocessable, err)
	}
	server.WriteJSON(w, http.StatusOK, completion)
	return nil
}

// inspect tells what is at the cursor.
func (h *handlers) inspect(w http.ResponseWriter, r *http.Request) error {
	var req api.InspectRequest
	if err := server.Decode(r, &req); err != nil {
		return err
	}
	c, cursor, err := h.cursorIn(r, req.Code, req.Cursor)
	if err != nil {
		return err
	}
	ctx, cancel := h.ask(r)
	defer cancel()
	inspection, err := c.Inspect(ctx, req.Code, cursor, req.Detail)
	if err != nil {
		return server.Explain(api.Unprocessable, err)
	}
	server.WriteJSON(w, http.StatusOK, inspection)
	return nil
}

// cursorIn returns the context that is asked, and where in the code.
func (h *handlers) cursorIn(r *http.Request, code string, cursor *int) (*executor.Context, int, error) {
	c, err := h.box.Context(server.Param(r, "cid"))
	if err != nil {
		return nil, 0, err
	}
	if len(code) > h.o.MaxCode {
		return nil, 0, api.Errorf(api.TooLarge, "code: is longer than %d bytes", h.o.MaxCode)
	}
	length := utf8.RuneCountInString(code)
	if cursor == nil {
		return c, length, nil
	}
	if *cursor < 0 || *cursor > length {
		return nil, 0, api.Invalid("cursor", "expected a number of code points from 0 to %d, the length of the code, got %d", length, *cursor)
	}
	return c, *cursor, nil
}

// followContext replays the context's background log from a number on, and follows
// it until the client leaves or the context is gone.
func (h *handlers) followContext(w http.ResponseWriter, r *http.Request) error {
	c, err := h.box.Context(server.Param(r, "cid"))
	if err != nil {
		return err
	}
	after, err := server.After(r, math.MaxInt32)
	if err != nil {
		return err
	}
	_, err = server.Follow(w, r, h.o, after, func(ctx context.Context, after int64) iter.Seq2[executor.Line, error] {
		return withEnd(c.Background(ctx, after), after)
	})
	return err
}

// withEnd puts an end line after lines that have none of their own.
func withEnd(lines iter.Seq2[executor.Line, error], last int64) iter.Seq2[executor.Line, error] {
	return func(yield func(executor.Line, error) bool) {
		for line, err := range lines {
			if !yield(line, err) || err != nil {
				return
			}
			last = line.Seq
		}
		yield(server.EndLine(last, executor.OK, nil), nil)
	}
}
