package api

import (
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/journal"
)

// TimelineType says what happened to a sandbox.
type TimelineType = journal.Type

// What happens to a sandbox.
const (
	Created          TimelineType = "created"
	ContextCreated   TimelineType = "context_created"   // Context
	ContextRestarted TimelineType = "context_restarted" // Context: another kernel answers in the old one's place
	ContextDeleted   TimelineType = "context_deleted"   // Context
	KernelDied       TimelineType = "kernel_died"       // Context, Exit
	RunSubmitted     TimelineType = "run_submitted"     // Context, ExecutionID
	RunEnded         TimelineType = "run_ended"         // Context, ExecutionID, Status
	ProcessStarted   TimelineType = "process_started"   // Pid, Cmd
	ProcessEnded     TimelineType = "process_ended"     // Pid, ExitCode, Signal, OOM
	PackagesChanged  TimelineType = "packages_changed"  // Packages
	PortOpened       TimelineType = "port_opened"       // Port, Pid: it listens on the TCP port from about now on
	PortClosed       TimelineType = "port_closed"       // Port, Pid
	ClientConnected  TimelineType = "client_connected"  // Client, RequestID, and the Pid that a terminal's is at
	ClientLeft       TimelineType = "client_left"       // the same
	LimitHit         TimelineType = "limit_reached"     // Reason: something was refused because of it
	NetworkRefused   TimelineType = "network_refused"   // Protocol, Destination, Reason, Count; without a Destination: Count others
)

// ClientKind says what a client follows.
type ClientKind string

// What clients follow.
const (
	TimelineClient ClientKind = "timeline"
	StreamClient   ClientKind = "stream"
	TerminalClient ClientKind = "terminal" // a WebSocket at a process
	JupyterClient  ClientKind = "jupyter"  // a WebSocket at the kernel of Context
)

// TimelineEvent is one thing that happened to a sandbox: a line of its timeline.
// Fields that do not belong to its Type are zero. The last line is a journal.End,
// with a Reason; where a client was too late for the oldest, a journal.Truncated
// comes in their place.
type TimelineEvent struct {
	Seq         int64          `json:"seq"`
	Type        TimelineType   `json:"type"`
	Time        journal.Time   `json:"time"`
	Context     string         `json:"context,omitempty"`
	ExecutionID string         `json:"execution_id,omitempty"`
	Status      string         `json:"status,omitempty"` // of a run that ended
	Exit        *executor.Exit `json:"exit,omitempty"`   // of a kernel that died
	Pid         int            `json:"pid,omitempty"`
	Cmd         string         `json:"cmd,omitempty"`
	ExitCode    *int           `json:"exit_code,omitempty"` // of a process
	Signal      string         `json:"signal,omitempty"`    // that ended a process
	OOM         bool           `json:"oom,omitempty"`       // a process was out of memory
	Packages    []string       `json:"packages,omitempty"`
	Port        int            `json:"port,omitempty"`
	Client      ClientKind     `json:"client,omitempty"`
	RequestID   string         `json:"request_id,omitempty"` // of the client, by which the server's log knows it, too
	Protocol    string         `json:"protocol,omitempty"`   // of what was refused: tcp, udp, or dns
	Destination string         `json:"destination,omitempty"`
	Count       int            `json:"count,omitempty"`  // how often it was refused since it was told before
	Reason      string         `json:"reason,omitempty"` // of the end; of a limit, what it is; of a refusal
	Stream      string         `json:"stream,omitempty"` // timeline, where lines were dropped
	Bytes       int64          `json:"bytes,omitempty"`  // that they had
}
