package inside

import (
	"context"
	"errors"
	"math"
	"net/http"
	"time"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/process"
	"github.com/k2sandbox/k2sandbox/server"
)

// runCode runs code in a context.
func (h *handlers) runCode(w http.ResponseWriter, r *http.Request) error {
	var req api.MCPRunCode
	if err := server.Decode(r, &req); err != nil {
		return err
	}
	if len(req.Code) > h.o.MaxCode {
		return api.Errorf(api.TooLarge, "code: is longer than %d bytes", h.o.MaxCode)
	}
	began := time.Now()
	id, err := h.contextOf(r.Context(), req.ContextID, req.Language)
	if err != nil {
		return err
	}
	e, err := h.box.Submit(id, executor.Cell{Code: req.Code, Timeout: duration(req.KillAfterS)})
	if err != nil {
		return err
	}
	s := h.run(e)
	s.traced = server.TraceRun(r, h.o, e)
	return h.follow(w, r, s, view{began: began, from: position{seq: 1}, wait: req.TimeoutS, chars: req.MaxOutputChars, images: req.Images, leave: true})
}

func duration(seconds float64) time.Duration {
	return time.Duration(math.Ceil(seconds * float64(time.Second))) // never 0 for a short one
}

// startTime is how long the kernel of a language may take to start, which may have to be installed.
const startTime = 40 * time.Second

// contextOf returns the id of a context: the one that is named, or the default one of a language, which it starts
// where it is not there yet.
func (h *handlers) contextOf(ctx context.Context, id, language string) (string, error) {
	if id != "" || language == "" {
		return id, nil
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	info, err := h.box.LanguageContext(ctx, language)
	if err != nil {
		return "", server.Explain(api.Unavailable, err)
	}
	return info.ContextID, nil
}

// getRun tells what comes after a place in a run, and waits for its end.
func (h *handlers) getRun(w http.ResponseWriter, r *http.Request) error {
	var req api.MCPGetRun
	if err := server.Decode(r, &req); err != nil {
		return err
	}
	from, err := parsePosition(req.After)
	if err != nil {
		return err
	}
	s, err := h.find(req.RunID)
	if err != nil {
		return err
	}
	if last := s.events() + 1; from.seq > last {
		return api.Invalid("after", "the run has no more than %d lines yet, got %q", last-1, req.After)
	}
	if one, ok := s.(run); ok && one.Summary().State != executor.Done { // else who was there at its end has told
		one.traced = server.TraceRun(r, h.o, one.Execution)
		s = one
	}
	return h.follow(w, r, s, view{from: from, wait: req.WaitS, chars: req.MaxOutputChars, images: req.Images})
}

// ending is how long interrupt_run waits for the end of what it interrupted.
const ending = 5 * time.Second

// interruptRun interrupts a run and tells how it ended, if it did.
func (h *handlers) interruptRun(w http.ResponseWriter, r *http.Request) error {
	var req api.MCPInterruptRun
	if err := server.Decode(r, &req); err != nil {
		return err
	}
	s, err := h.find(req.RunID)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), ending)
	defer cancel()
	if err := s.interrupt(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	wait := ending.Seconds()
	return h.follow(w, r, s, view{from: position{seq: 1}, wait: &wait, chars: req.MaxOutputChars, images: api.ImagesLink})
}

// runCommand runs a command.
func (h *handlers) runCommand(w http.ResponseWriter, r *http.Request) error {
	var req api.MCPRunCommand
	if err := server.Decode(r, &req); err != nil {
		return err
	}
	j, err := h.box.StartProcess(agent.ProcessOptions{Cmd: req.Command, Args: req.Argv, Cwd: req.Cwd, Timeout: duration(req.KillAfterS)})
	if err != nil {
		return whyNotStarted(err, &req)
	}
	return h.follow(w, r, h.command(j), view{from: position{seq: 1}, wait: req.TimeoutS, chars: req.MaxOutputChars, leave: true})
}

// whyNotStarted names the argument that is to blame, if one is.
func whyNotStarted(err error, req *api.MCPRunCommand) error {
	field := "argv"
	switch {
	case errors.Is(err, process.ErrDirectory):
		field = "cwd"
	case !errors.Is(err, process.ErrProgram):
		return server.Explain(api.Unavailable, err)
	case req.Command != "":
		field = "command"
	}
	told := api.Invalid(field, "%v", err)
	told.Code = api.Unprocessable
	return told
}

// installPackages installs packages.
func (h *handlers) installPackages(w http.ResponseWriter, r *http.Request) error {
	var req api.MCPInstallPackages
	if err := server.Decode(r, &req); err != nil {
		return err
	}
	requirements, err := req.Request().Requirements()
	if err != nil {
		return err
	}
	i, err := h.box.InstallPackages(requirements, req.Upgrade, 0)
	if err != nil {
		return api.PackageRefused(err)
	}
	return h.follow(w, r, installation{i}, view{from: position{seq: 1}, wait: req.TimeoutS, chars: req.MaxOutputChars, leave: true})
}
