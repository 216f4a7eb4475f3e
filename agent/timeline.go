package agent

import (
	"context"
	"encoding/json"
	"iter"
	"time"

	"github.com/k2sandbox/k2sandbox/journal"
)

// What happens to a sandbox.
const (
	Created          journal.Type = "created"
	ContextCreated   journal.Type = "context_created"   // Context
	ContextRestarted journal.Type = "context_restarted" // Context
	ContextDeleted   journal.Type = "context_deleted"   // Context
	RunSubmitted     journal.Type = "run_submitted"     // Context, ExecutionID
	RunEnded         journal.Type = "run_ended"         // Context, ExecutionID, Status
	ProcessStarted   journal.Type = "process_started"   // Pid, Cmd
	ProcessEnded     journal.Type = "process_ended"     // Pid, ExitCode, Signal
	PackagesChanged  journal.Type = "packages_changed"  // Packages
)

// TimelineEvent is one thing that happened to a sandbox. Fields that do not belong
// to its Type are zero. The last of a timeline is journal.End, with a Reason.
type TimelineEvent struct {
	Type        journal.Type `json:"-"` // in the head of the line, with seq and time
	Context     string       `json:"context,omitempty"`
	ExecutionID string       `json:"execution_id,omitempty"`
	Status      string       `json:"status,omitempty"`
	Pid         int          `json:"pid,omitempty"`
	Cmd         string       `json:"cmd,omitempty"`
	ExitCode    *int         `json:"exit_code,omitempty"`
	Signal      string       `json:"signal,omitempty"`
	Packages    []string     `json:"packages,omitempty"`
	Reason      string       `json:"reason,omitempty"`
}

// timelineMemory bounds the timeline, in bytes; the oldest events go first.
const timelineMemory = 4 << 20

func newTimeline() *journal.Log {
	return journal.New(journal.Options{Memory: timelineMemory, Ring: "timeline"})
}

// Piece is for a journal.
func (e TimelineEvent) Piece() (stream string, size int) { return "", 128 }

// AppendLine is for a journal.
func (e TimelineEvent) AppendLine(dst []byte, seq int64, at time.Time) []byte {
	dst = journal.AppendHead(dst, seq, e.Type, at)
	rest, _ := json.Marshal(e) // a struct of strings and numbers
	if len(rest) == len("{}") {
		return append(dst, '}')
	}
	return append(append(dst, ','), rest[1:]...)
}

// note puts an event into the timeline.
func (s *Sandbox) note(e TimelineEvent) { s.timeline.Append(e) }

// Timeline yields what happened to the sandbox after number after, and follows it
// until the sandbox is closed.
func (s *Sandbox) Timeline(ctx context.Context, after int64) iter.Seq2[journal.Line, error] {
	return s.timeline.Lines(ctx, after)
}
