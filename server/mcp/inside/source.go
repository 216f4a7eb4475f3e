package inside

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/process"
	"github.com/k2sandbox/k2sandbox/server"
)

// source is what has a log that a tool reads: a run of code, a command, or an installation.
type source interface {
	id() string
	lines(ctx context.Context, after int64) iter.Seq2[journal.Line, error]
	events() int64         // the number of the newest line
	done() <-chan struct{} // closed at the end
	// interrupt has it end soon; it is no error where it has ended.
	interrupt(ctx context.Context) error
	// tell fills in what it is and where it stands.
	tell(run *api.MCPRun)
	// end fills in how it ended, by its last line, and returns notes for the reader.
	end(run *api.MCPRun, line []byte) (notes []string, err error)
	// place is where it works, and since when; "" where that is of no interest.
	place() (dir string, since time.Time)
}

// find returns what an id names.
func (h *handlers) find(id string) (source, error) {
	kind, rest, _ := strings.Cut(id, "_")
	switch kind {
	case "in":
		i, err := h.box.Install(id)
		return installation{i}, err
	case "cmd":
		return h.findCommand(id, rest)
	}
	e, err := h.box.Execution(id)
	if err != nil {
		return nil, err
	}
	return h.run(e), nil
}

// run is a run of code.
type run struct {
	*executor.Execution
	cwd    string            // of its context
	traced *server.RunTracer // nil: another answer tells
}

func (h *handlers) run(e *executor.Execution) run {
	info, _ := h.box.ContextInfo(e.ContextID()) // which may have been deleted
	return run{Execution: e, cwd: info.Cwd}
}

func (r run) id() string { return r.ID() }

func (r run) lines(ctx context.Context, after int64) iter.Seq2[journal.Line, error] {
	return r.traced.Lines(r.Lines(ctx, after))
}

func (r run) events() int64         { return r.Summary().Events }
func (r run) done() <-chan struct{} { return r.Done() }

func (r run) interrupt(ctx context.Context) error { return unlessOver(r.Interrupt(ctx)) }

// unlessOver returns the error unless it says that there is nothing to interrupt any more.
func unlessOver(err error) error {
	if errors.Is(err, executor.ErrFinished) || errors.Is(err, process.ErrEnded) {
		return nil
	}
	return err
}

func (r run) tell(to *api.MCPRun) {
	s := r.Summary()
	to.Status, to.ContextID, to.ExecutionCount = string(s.State), s.Context, s.ExecutionCount
	if s.State == executor.Done {
		to.Status = string(s.Status)
	}
	if s.StartedAt != nil && s.EndedAt == nil {
		to.DurationS = time.Since(*s.StartedAt).Seconds()
	}
}

func (r run) end(to *api.MCPRun, line []byte) ([]string, error) {
	e, err := executor.DecodeLine(journal.Line{JSON: line})
	if err != nil {
		return nil, err
	}
	to.Status, to.StateLost, to.DurationS, to.ExecutionCount = string(e.Status), e.StateLost, e.Duration, e.ExecutionCount
	if f := failure(e, to.Error); f != nil {
		to.Error = f
	}
	var notes []string
	if e.StateLost {
		notes = append(notes, "the kernel was replaced: variables and imports are gone, files are still there")
	}
	if e.OutputLost {
		notes = append(notes, "the kernel dropped some of the output before it could be kept")
	}
	return notes, nil
}

// failure says why a run ended, where the code alone does not.
func failure(end executor.Event, raised *api.MCPFailure) *api.MCPFailure {
	var f api.MCPFailure
	if raised != nil {
		f = *raised
	}
	switch end.Status {
	case executor.TimedOut:
		f.Name, f.Value = "TimeoutError", "the run took longer than kill_after_s and was ended"
	case executor.KernelDied:
		f.Name, f.Value = "KernelDied", died(end.Exit)
	case executor.Aborted:
		f.Name, f.Value = "Aborted", "the run was cancelled before its end, or its context was restarted"
	case executor.SandboxKilled:
		f.Name, f.Value = "SandboxKilled", "the sandbox ended during the run"
	case executor.Interrupted:
		if raised == nil {
			f.Name = "KeyboardInterrupt"
		}
	default:
		return raised
	}
	return &f
}

func (r run) place() (string, time.Time) {
	s := r.Summary()
	if s.StartedAt == nil {
		return "", time.Time{}
	}
	return r.cwd, *s.StartedAt
}

// died says how a kernel ended.
func died(exit *executor.Exit) string {
	switch {
	case exit == nil:
		return "the kernel died"
	case exit.OOM:
		return "the kernel was killed, as the sandbox was out of memory"
	case exit.Signal != "":
		return "the kernel was ended by the signal " + exit.Signal
	}
	return fmt.Sprintf("the kernel's process exited with status %d", exit.Code)
}

// command is a process.
type command struct {
	*process.Job
	box  *agent.Sandbox
	name string
}

func (h *handlers) command(j *process.Job) command {
	return command{j, h.box, fmt.Sprintf("cmd_%d_%x", j.Pid(), j.Summary().StartedAt.UnixMilli())}
}

// findCommand returns the command of an id: the process that has its pid, unless that is another one by now.
func (h *handlers) findCommand(id, rest string) (source, error) {
	text, _, _ := strings.Cut(rest, "_")
	pid, err := strconv.Atoi(text)
	if err != nil {
		return nil, fmt.Errorf("run %q: %w", id, agent.ErrNotFound)
	}
	j, err := h.box.Process(pid)
	if err != nil {
		return nil, fmt.Errorf("run %q: %w", id, agent.ErrNotFound)
	}
	if c := h.command(j); c.name == id {
		return c, nil
	}
	return nil, fmt.Errorf("run %q: %w", id, agent.ErrNotFound)
}

func (c command) id() string { return c.name }

func (c command) lines(ctx context.Context, after int64) iter.Seq2[journal.Line, error] {
	return c.Lines(ctx, after)
}

func (c command) events() int64         { return c.Events() }
func (c command) done() <-chan struct{} { return c.Done() }

// patience is how long an interrupted command may take before it is ended.
const patience = 2 * time.Second

// interrupt sends SIGINT, as Ctrl-C does, and ends what does not end by that.
func (c command) interrupt(ctx context.Context) error {
	if err := c.Signal(syscall.SIGINT); err != nil {
		return unlessOver(err)
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-c.Done():
		return nil
	case <-timer.C:
	case <-ctx.Done():
	}
	return c.box.StopProcess(ctx, c.Job)
}

func (c command) tell(to *api.MCPRun) {
	if s := c.Summary(); s.State == process.Running {
		to.Status, to.DurationS = string(s.State), time.Since(s.StartedAt).Seconds()
	}
}

func (c command) end(to *api.MCPRun, line []byte) ([]string, error) {
	var e process.End
	if err := json.Unmarshal(line, &e); err != nil {
		return nil, err
	}
	to.Status, to.DurationS, to.ExitCode = string(e.Status), e.Duration, &e.ExitCode
	if e.Signal != nil {
		to.Signal = *e.Signal
	}
	switch {
	case e.OOM:
		return []string{"it was killed, as the sandbox was out of memory"}, nil
	case e.TimedOut:
		return []string{"it took longer than kill_after_s and was ended"}, nil
	case to.Signal != "":
		return []string{"it was ended by the signal " + to.Signal}, nil
	case e.ExitCode != 0:
		return []string{fmt.Sprintf("exit status %d", e.ExitCode)}, nil
	}
	return nil, nil
}

func (c command) place() (string, time.Time) {
	s := c.Summary()
	return s.Cwd, s.StartedAt
}

// installation is one of packages.
type installation struct{ *agent.Install }

func (i installation) id() string { return i.ID() }

func (i installation) lines(ctx context.Context, after int64) iter.Seq2[journal.Line, error] {
	return i.Lines(ctx, after)
}

func (i installation) events() int64                   { return i.Summary().Events }
func (i installation) done() <-chan struct{}           { return i.Done() }
func (i installation) interrupt(context.Context) error { return unlessOver(i.Interrupt()) }

func (i installation) place() (string, time.Time) { return "", time.Time{} }

func (i installation) tell(to *api.MCPRun) {
	s := i.Summary()
	if to.Status = string(s.State); s.State == executor.Done {
		to.Status = string(s.Status)
	} else {
		to.DurationS = time.Since(s.CreatedAt).Seconds()
	}
}

func (i installation) end(to *api.MCPRun, line []byte) ([]string, error) {
	var e api.InstallEnd
	if err := json.Unmarshal(line, &e); err != nil {
		return nil, err
	}
	to.Status, to.DurationS = string(e.Status), e.Duration
	var notes []string
	if e.Error != nil {
		to.Error = &api.MCPFailure{Name: string(e.Error.Code), Value: e.Error.Message}
	}
	for _, d := range e.Installed {
		to.Installed = append(to.Installed, d.Name+"=="+d.Version)
	}
	for _, d := range e.Changed {
		to.Installed = append(to.Installed, fmt.Sprintf("%s==%s", d.Name, d.To))
	}
	if len(to.Installed) > 0 {
		notes = append(notes, "installed: "+strings.Join(to.Installed, ", "))
	}
	for _, d := range e.Unchanged {
		notes = append(notes, fmt.Sprintf("was there already: %s==%s", d.Name, d.Version))
	}
	if len(e.NeedsReset) > 0 {
		notes = append(notes, fmt.Sprintf("modules that are imported and have changed: %s. Restart the kernel, or run in a new context, to use the new ones", strings.Join(e.NeedsReset, ", ")))
	}
	return notes, nil
}
