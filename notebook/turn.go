package notebook

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/executor"
)

// turn is a cell while it runs.
type turn struct {
	*run
	*executor.Execution
	index     int
	cell      *Cell
	collector *collector
	failure   CellError      // the last that was told
	end       executor.Event // once it is there
	seen      int64          // the number of the last event
}

var errNoEnd = errors.New("the events of a cell's run have no end")

// follow takes the run's events until its end, and saves the notebook now and then.
// Once ctx is done it interrupts the run, and waits for its end no longer than the
// grace period.
func (t *turn) follow(ctx context.Context) error {
	calledOff := false
	for t.end.Type != executor.End {
		until, cancel := context.WithDeadline(ctx, t.saveAt)
		err := t.read(until)
		cancel()
		switch {
		case err == nil:
		case ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
			t.saveLong()
		case ctx.Err() == nil:
			return err
		case calledOff:
			t.end = executor.Event{Type: executor.End, Status: executor.Interrupted}
		default:
			calledOff = true
			ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), t.o.Grace)
			defer cancel()
			_ = t.Interrupt(ctx) // where it has ended, the end is read next
		}
	}
	return nil
}

func (t *turn) read(ctx context.Context) error {
	for e, err := range t.Events(ctx, t.seen) {
		if err != nil {
			return err
		}
		t.seen = e.Seq
		t.take(e)
	}
	if t.end.Type != executor.End {
		return errNoEnd
	}
	return nil
}

// take turns an event of the run into what it means for the cell, and passes it on.
func (t *turn) take(e executor.Event) {
	switch e.Type {
	case executor.Start:
		t.collector.take(e)
		t.cell.ExecutionCount = e.ExecutionCount
		return
	case executor.End:
		t.end = e
		return
	case executor.Comm:
		t.widgets.comm(t.ID(), e.Comm)
		return
	case executor.Error:
		t.failure = CellError{e.Name, e.Value, e.Traceback}
	}
	t.changed = true
	if !t.widgets.take(e) {
		t.collector.take(e)
		t.cell.Outputs = t.collector.outputs
	}
	t.emit(Event{Type: e.Type, Cell: &t.index, Run: &e})
}

// saveLong saves the notebook while the cell runs, if there is something new.
func (t *turn) saveLong() {
	if !t.changed {
		t.saveAt = time.Now().Add(t.o.SaveEvery)
		return
	}
	t.save()
}

// finish writes into the cell what its run has left there.
func (t *turn) finish(ctx context.Context) {
	if cause, ok := t.cause(); ok {
		t.collector.fail(cause)
	}
	t.collector.finish()
	t.cell.Outputs = t.collector.outputs
	if t.cell.ExecutionCount == nil {
		t.cell.ExecutionCount = t.end.ExecutionCount
	}
	if !t.o.NoTiming {
		t.time()
	}
	for id, data := range t.widgets.changes() {
		_ = t.kernel.SendComm(ctx, id, data) // a kernel that is gone has no use for it
	}
}

// cause tells what ended the run, where that was not the cell's code.
func (t *turn) cause() (CellError, bool) {
	switch {
	case t.end.Status == executor.TimedOut && t.o.ErrorOnTimeout != nil && t.goesOn():
		return *t.o.ErrorOnTimeout, true
	case t.end.Status == executor.TimedOut && !t.goesOn():
		return CellError{"CellTimeoutError", fmt.Sprintf("the cell ran for longer than %v", t.o.timeout(t.cell)), []string{}}, true
	case t.end.Status == executor.KernelDied:
		return died(t.end.Exit), true
	case t.end.Status == executor.SandboxKilled:
		return CellError{"DeadKernelError", "the sandbox was ended", []string{}}, true
	case t.end.Status == executor.Aborted:
		return CellError{"DeadKernelError", "the run was cancelled, or its context restarted or deleted", []string{}}, true
	case t.end.Status == executor.OK && t.end.StateLost:
		return CellError{"DeadKernelError", "the cell ended its kernel", []string{}}, true
	}
	return CellError{}, false
}

// goesOn reports whether a run whose time was up lets the notebook go on.
func (t *turn) goesOn() bool { return t.o.InterruptOnTimeout && !t.end.StateLost }

// died tells how a kernel died.
func died(exit *executor.Exit) CellError {
	e := CellError{Name: "DeadKernelError", Value: "the kernel died", Traceback: []string{}}
	if exit == nil {
		return e
	}
	switch {
	case exit.OOM:
		e.Value += ": out of memory"
	case exit.Signal != "":
		e.Value += ": " + exit.Signal
	default:
		e.Value += fmt.Sprintf(": exit status %d", exit.Code)
	}
	if tail := strings.TrimSpace(exit.Stderr); tail != "" {
		e.Traceback = strings.Split(tail, "\n")
	}
	return e
}

// time writes the times of the cell's messages into its metadata, as JupyterLab and nbclient do.
func (t *turn) time() {
	m := t.Moments()
	times := map[string]string{}
	for name, at := range map[string]time.Time{
		"iopub.status.busy": m.Busy, "iopub.execute_input": m.Input, "shell.execute_reply": m.Reply, "iopub.status.idle": m.Idle,
	} {
		if !at.IsZero() {
			times[name] = at.Format("2006-01-02T15:04:05.000000Z")
		}
	}
	t.cell.Metadata.Set("execution", times)
}

// verdict says whether the notebook goes on after the cell, and else how it ends.
func (t *turn) verdict(calledOff bool) (end Event, goOn bool) {
	end = Event{
		Type: Ended, Status: t.end.Status, Cell: &t.index, CellID: t.cell.ID, StateLost: t.end.StateLost, Exit: t.end.Exit,
	}
	failure := t.failure
	if cause, ok := t.cause(); ok {
		failure = cause
	}
	end.Name, end.Value = failure.Name, failure.Value
	switch end.Status {
	case executor.OK:
		if end.StateLost {
			end.Status = executor.KernelDied
		}
		return end, !end.StateLost
	case executor.Failed, executor.Interrupted, executor.Aborted:
		if calledOff {
			end.Status = executor.Interrupted
			return end, false
		}
		return t.judge(end, failure)
	case executor.TimedOut:
		if t.goesOn() && t.o.ErrorOnTimeout != nil {
			end.Status = executor.Failed
			return t.judge(end, failure)
		}
		return end, t.goesOn()
	}
	return end, false
}

// judge says whether the notebook goes on after an error.
func (t *turn) judge(end Event, failure CellError) (Event, bool) {
	if end.Status != executor.Aborted && t.o.allows(t.cell, failure) {
		return end, true
	}
	if failure.Name == "SystemExit" && (failure.Value == "" || failure.Value == "0") {
		return Event{Type: Ended, Status: executor.OK, Cell: end.Cell, CellID: end.CellID}, false
	}
	return end, false
}
