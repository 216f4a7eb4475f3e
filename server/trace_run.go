package server

import (
	"bytes"
	"encoding/json"
	"iter"
	"net/http"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/trace"
)

// RunTracer gathers what traces and metrics are to have of the run behind an answer. nil, whose methods do nothing, is for an answer
// that is about none, or about one that others tell of.
type RunTracer struct {
	run   *executor.Execution
	span  trace.Span // of the request; nil: it has none
	asked bool       // by the server before us, which has the span
	first time.Time  // when the first output came
	last  executor.Line
}

// TraceRun returns what gathers.
func TraceRun(r *http.Request, o Options, e *executor.Execution) *RunTracer {
	t := &RunTracer{run: e, asked: o.Tracer == nil && o.Behind && r.Header[api.RunTraceHeader] != nil}
	if o.Tracer != nil {
		t.span = trace.From(r.Context())
	}
	return t
}

// Lines are the lines of the run, looked at on their way.
func (t *RunTracer) Lines(lines iter.Seq2[executor.Line, error]) iter.Seq2[executor.Line, error] {
	if t == nil {
		return lines
	}
	return func(yield func(executor.Line, error) bool) {
		for line, err := range lines {
			t.see(line)
			if !yield(line, err) {
				return
			}
		}
	}
}

func (t *RunTracer) see(line executor.Line) {
	t.last = line
	switch line.Type {
	case executor.Stdout, executor.Stderr, executor.Result, executor.Update:
		if t.first.IsZero() {
			t.first = time.Now()
		}
	}
}

// End tells of the run, if its last line was seen and no other answer has told: after the answer, and before its handler returns.
func (t *RunTracer) End(w http.ResponseWriter) {
	if t == nil || t.last.Type != executor.End {
		return
	}
	cause := death(t.last)
	if t.span == nil && cause == "" && !t.asked || !t.run.Tell() {
		return
	}
	if t.span != nil {
		SpanOfRun(t.span, time.Time{}, time.Now(), t.told())
	}
	if cause == "" && !t.asked {
		return
	}
	_ = http.NewResponseController(w).Flush() // a short answer would get a length, and have no trailer
	if cause != "" {
		w.Header().Set(http.TrailerPrefix+api.DeathTrailer, string(cause)) // for who counts and reads no streams
	}
	if t.asked {
		w.Header().Set(http.TrailerPrefix+api.RunTraceHeader, t.told().String())
	}
}

// death returns what the kernel died of where a run ended by that; "" where it did not.
func death(end executor.Line) api.Death {
	var e executor.Event
	switch {
	case !bytes.Contains(end.JSON, []byte(executor.KernelDied)) || json.Unmarshal(end.JSON, &e) != nil || e.Status != executor.KernelDied:
		return ""
	case e.Exit == nil:
		return api.DeathUnknown
	case e.Exit.OOM:
		return api.DeathOutOfMemory
	case e.Exit.Signal != "":
		return api.DeathBySignal
	}
	return api.DeathByExit
}

func (t *RunTracer) told() api.RunTrace {
	s := t.run.Summary()
	since := func(at *time.Time) time.Duration {
		if at == nil {
			return -1
		}
		return at.Sub(s.CreatedAt)
	}
	told := api.RunTrace{ExecutionID: s.ExecutionID, Context: s.Context, Status: s.Status, Started: since(s.StartedAt), FirstOutput: -1, Ended: max(since(s.EndedAt), 0), Told: time.Since(s.CreatedAt)}
	if !t.first.IsZero() {
		told.FirstOutput = min(t.first.Sub(s.CreatedAt), told.Ended)
	}
	if end, err := executor.DecodeLine(t.last); err == nil {
		told.CPUTime, told.MemoryPeak = time.Duration(end.CPUTime*float64(time.Second)), end.MemoryPeak
	}
	return told
}

// SpanOfRun makes a span of what an agent told at the time at of a run, which is not to have begun before from. What makes no sense is cut
// to what does.
func SpanOfRun(parent trace.Span, from, at time.Time, told api.RunTrace) {
	began := at.Add(-told.Told)
	if began.Before(from) {
		began = from
	}
	after := func(d time.Duration) time.Duration { return min(d, at.Sub(began)) }
	span := parent.Start("run", trace.Internal, began,
		trace.String("k2sandbox.execution.id", told.ExecutionID), trace.String("k2sandbox.context.id", told.Context),
		trace.String("k2sandbox.run.status", told.Status))
	if told.Started >= 0 {
		span.Event("started", began.Add(after(told.Started)))
		span.Set(trace.Attr{Key: "k2sandbox.run.queue_time", Value: after(told.Started).Seconds()})
	}
	if told.FirstOutput >= 0 {
		span.Event("first output", began.Add(after(told.FirstOutput)))
	}
	if told.CPUTime > 0 {
		span.Set(trace.Attr{Key: "k2sandbox.run.cpu_time", Value: told.CPUTime.Seconds()})
	}
	if told.MemoryPeak > 0 {
		span.Set(trace.Attr{Key: "k2sandbox.run.memory_peak", Value: told.MemoryPeak})
	}
	switch told.Status {
	case executor.OK, executor.Interrupted, executor.Aborted: // as somebody wanted
	default:
		span.Fail(string(told.Status))
	}
	span.End(began.Add(after(told.Ended)))
}
