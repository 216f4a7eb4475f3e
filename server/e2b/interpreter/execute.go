package interpreter

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/server"
)

// timeoutVariable bounds a run, in seconds: one of its own variables, or one of the sandbox's. E2B's
// clients send no timeout, they only leave.
const timeoutVariable = "K2_TIMEOUT"

// executeRequest is the body of POST /execute. Timeout and AllowStdin are ours.
type executeRequest struct {
	Code       string            `json:"code" api:"required"`
	ContextID  string            `json:"context_id"`
	Language   string            `json:"language"`
	EnvVars    map[string]string `json:"env_vars"`    // for this run
	Timeout    float64           `json:"timeout"`     // seconds; 0: what K2_TIMEOUT says, or none
	AllowStdin bool              `json:"allow_stdin"` // input() asks, by a message input_request
}

// Validate returns an *api.Error that names the first wrong field.
func (r *executeRequest) Validate() error {
	if r.ContextID != "" && r.Language != "" {
		return api.Invalid("context_id", "cannot be combined with language: only one of the two can be given")
	}
	if err := api.ValidEnvs("env_vars", r.EnvVars); err != nil {
		return err
	}
	if r.Timeout == 0 && r.EnvVars[timeoutVariable] != "" {
		return r.takeTimeout("env_vars."+timeoutVariable, r.EnvVars[timeoutVariable])
	}
	return validTimeout("timeout", r.Timeout)
}

func (r *executeRequest) takeTimeout(field, text string) (err error) {
	if r.Timeout, err = strconv.ParseFloat(text, 64); err != nil {
		r.Timeout = math.NaN()
	}
	return validTimeout(field, r.Timeout)
}

func validTimeout(field string, seconds float64) error {
	if seconds >= 0 && seconds <= api.MaxTimeout { // NaN is neither
		return nil
	}
	return api.Invalid(field, "expected seconds from 0 (none) to %d", api.MaxTimeout)
}

func (r *executeRequest) cell() executor.Cell {
	return executor.Cell{
		Code:       r.Code,
		Timeout:    time.Duration(math.Ceil(r.Timeout * float64(time.Second))), // never 0 for a short one
		Envs:       r.EnvVars,
		AllowStdin: r.AllowStdin,
		Display:    executor.E2B,
	}
}

// execute runs a cell and streams what comes of it. A client that leaves has it interrupted.
func (h *handlers) execute(w http.ResponseWriter, r *http.Request) error {
	var req executeRequest
	if err := server.DecodeKnown(r, &req); err != nil {
		return err
	}
	if len(req.Code) > h.o.MaxCode {
		return api.Errorf(api.TooLarge, "code: is longer than %d bytes", h.o.MaxCode)
	}
	id, err := h.contexts.of(r.Context(), req.ContextID, req.Language)
	if err != nil {
		return err
	}
	if req.Timeout == 0 && h.box.Envs()[timeoutVariable] != "" {
		if err := req.takeTimeout(timeoutVariable, h.box.Envs()[timeoutVariable]); err != nil {
			return err
		}
	}
	e, err := h.submit(id, req.cell())
	if err != nil {
		return absent(cmp.Or(id, agent.DefaultContext), err)
	}
	stayed := false
	defer func() {
		if !stayed {
			e.Stop()
		}
	}()
	traced := server.TraceRun(r, h.o, e)
	stayed, err = server.Follow(w, r, h.o, 0, func(ctx context.Context, after int64) iter.Seq2[executor.Line, error] {
		return messages(traced.Lines(e.Lines(ctx, after)), translation{id: e.ID(), timeout: req.Timeout})
	})
	traced.End(w)
	return err
}

// messages turns the lines of a run into E2B's. Where they break off, as when the sandbox is closed, the
// answer is cut.
func messages(lines iter.Seq2[executor.Line, error], t translation) iter.Seq2[executor.Line, error] {
	return func(yield func(executor.Line, error) bool) {
		for line, err := range lines {
			if err == nil {
				line.JSON, err = t.take(line)
			}
			if err != nil && !errors.Is(err, context.Canceled) { // by the client's leaving
				panic(http.ErrAbortHandler)
			}
			if (len(line.JSON) > 0 || err != nil) && !yield(line, err) {
				return
			}
		}
	}
}

// inputRequest is the body of POST /executions/{id}/input, which is ours.
type inputRequest struct {
	Value string `json:"value" api:"required"`
}

// input answers an input_request.
func (h *handlers) input(w http.ResponseWriter, r *http.Request) error {
	var req inputRequest
	if err := server.DecodeKnown(r, &req); err != nil {
		return err
	}
	e, err := h.box.Execution(server.Param(r, "id"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.o.AskTimeout)
	defer cancel()
	if err := e.Input(ctx, req.Value); err != nil {
		return err
	}
	server.WriteJSON(w, http.StatusOK, nil)
	return nil
}
