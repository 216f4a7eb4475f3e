package agent

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"runtime"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/process"
)

// TimelineEvent is one thing that happened to a sandbox.
type TimelineEvent = api.TimelineEvent

// What happens to a sandbox; package api tells what comes with each.
const (
	Created          = api.Created
	ContextCreated   = api.ContextCreated
	ContextRestarted = api.ContextRestarted
	ContextDeleted   = api.ContextDeleted
	KernelDied       = api.KernelDied
	RunSubmitted     = api.RunSubmitted
	RunEnded         = api.RunEnded
	ProcessStarted   = api.ProcessStarted
	ProcessEnded     = api.ProcessEnded
	PackagesChanged  = api.PackagesChanged
	PortOpened       = api.PortOpened
	PortClosed       = api.PortClosed
	ClientConnected  = api.ClientConnected
	ClientLeft       = api.ClientLeft
	LimitHit         = api.LimitHit
	NetworkRefused   = api.NetworkRefused
)

// timelineMemory bounds the timeline, in bytes; the oldest events go first.
const timelineMemory = 4 << 20

func newTimeline() *journal.Log {
	return journal.New(journal.Options{Memory: timelineMemory, Ring: "timeline"})
}

// entry is an event on its way into the timeline.
type entry struct{ TimelineEvent }

// Piece is for a journal.
func (e entry) Piece() (stream string, size int) { return "", 128 }

// AppendLine is for a journal.
func (e entry) AppendLine(dst []byte, seq int64, at time.Time) []byte {
	e.Seq, e.Time = seq, journal.Time{Time: at}
	line, _ := json.Marshal(e.TimelineEvent) // strings, numbers and a time
	return append(dst, line...)
}

// note puts an event into the timeline.
func (s *Sandbox) note(e TimelineEvent) {
	s.Touch()
	s.timeline.Append(entry{e})
}

// Timeline yields what happened to the sandbox after number after, and follows it
// until the sandbox is closed: the last line is always there.
func (s *Sandbox) Timeline(ctx context.Context, after int64) iter.Seq2[journal.Line, error] {
	if closed(s.ended) {
		_, _, lines := s.timeline.Size()
		after = min(after, lines-1)
	}
	return s.ports.followed(s.timeline.Lines(ctx, after))
}

// Connected tells the timeline of a client that follows what e says, and that it has
// left once the function that it returns is called.
func (s *Sandbox) Connected(e TimelineEvent) (left func()) {
	note := func(typ api.TimelineType) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if e.Type = typ; !s.closed { // the end of the timeline tells it of all
			s.note(e)
		}
	}
	note(ClientConnected)
	return func() { note(ClientLeft) }
}

// Refused tells the timeline of what the sandbox's network has refused, which is no activity.
func (s *Sandbox) Refused(all api.Refusals) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	for _, r := range all.Refusals {
		s.timeline.Append(entry{TimelineEvent{Type: NetworkRefused, Protocol: r.Protocol, Destination: r.Destination, Reason: r.Reason, Count: r.Count}})
	}
	if all.More > 0 {
		s.timeline.Append(entry{TimelineEvent{Type: NetworkRefused, Reason: "others were refused, too", Count: all.More}})
	}
}

// keep keeps a run, and tells of it and of its end once that comes: every run has one.
func (s *Sandbox) keep(e *executor.Execution) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs.add(e, s.o.Keep)
	if s.closed {
		return // the timeline ends; so does the run
	}
	s.note(TimelineEvent{Type: RunSubmitted, Context: e.ContextID(), ExecutionID: e.ID()})
	s.watches.Go(func() {
		<-e.Done()
		runtime.Gosched() // who waits for the run gets its end first
		s.runs.ended(e, s.o.Keep)
		s.note(TimelineEvent{Type: RunEnded, Context: e.ContextID(), ExecutionID: e.ID(), Status: string(e.Summary().Status)})
		s.ports.poke()
	})
}

// noteLimit tells of a limit, where err is about one, and returns err.
func (s *Sandbox) noteLimit(contextID string, err error) error {
	if errors.Is(err, executor.ErrQueueFull) || errors.Is(err, ErrTooManyContexts) || errors.Is(err, process.ErrTooMany) {
		s.note(TimelineEvent{Type: LimitHit, Context: contextID, Reason: err.Error()})
	}
	return err
}

// noteKernel tells of each death of the room's kernel and of each that takes its
// place, until the kernel is closed.
func (s *Sandbox) noteKernel(r *room) {
	for death := range r.kernel.Lives() {
		switch {
		case death == nil:
			s.note(TimelineEvent{Type: ContextRestarted, Context: r.ID()})
		case !death.Requested:
			exit := executor.Exit{Code: death.Code, Signal: death.Signal, OOM: death.OOM, Stderr: death.Stderr}
			s.note(TimelineEvent{Type: KernelDied, Context: r.ID(), Exit: &exit})
		}
	}
}
