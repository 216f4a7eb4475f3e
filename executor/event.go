package executor

import (
	"time"

	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/mime"
)

// Type says what an Event is.
type Type = journal.Type

// The types of events, in the order in which a run may meet them.
const (
	Start     Type = "start"           // the kernel took the cell: ExecutionID, Context, ExecutionCount
	Stdout    Type = "stdout"          // Text
	Stderr    Type = "stderr"          // Text
	Result    Type = "result"          // IsMain, DisplayID, Data, Metadata
	Update    Type = "update"          // DisplayID, Data, Metadata: replaces every earlier display of that id
	Clear     Type = "clear"           // Wait: clear now, or just before the next output
	Input     Type = "input"           // Prompt, Password: the cell waits for Execution.Input
	Error     Type = "error"           // Name, Value, Traceback: what the code raised
	Comm      Type = "comm"            // Comm: a message of a widget, say; only where Cell.Comms asks for them
	Truncated      = journal.Truncated // Stream, Bytes: that much of the stream was left out here
	End            = journal.End       // Status, StateLost, Exit, ExecutionCount, Duration, CPUTime, MemoryPeak: always last
)

// Status says how a run ended.
type Status string

// The ways in which a run ends.
const (
	OK            Status = "ok"
	Failed        Status = "error"          // the code raised
	TimedOut      Status = "timeout"        // its time was up; StateLost tells whether the kernel had to be killed
	Interrupted   Status = "interrupted"    // somebody interrupted it
	Aborted       Status = "aborted"        // it was cancelled, or the context was restarted or deleted
	KernelDied    Status = "kernel_died"    // Exit says how
	SandboxKilled Status = "sandbox_killed" // the sandbox ended during the run
)

// Event is one thing that happened in a run: a line of the HTTP stream, a line
// of a golden file, a turn of an embedder's loop. Seq counts from 1 in each log;
// Time is UTC. Fields that do not belong to the Type are zero and left out of JSON.
type Event struct {
	Seq  int64     `json:"seq"`
	Type Type      `json:"type"`
	Time time.Time `json:"time"`

	ExecutionID    string `json:"execution_id,omitempty"` // start; and each event of a background log, where known
	Context        string `json:"context,omitempty"`
	ExecutionCount *int   `json:"execution_count,omitempty"`

	Text string `json:"text,omitempty"`
	text []byte // the kernel's own JSON string, in place of Text, on its way into a log

	IsMain    bool        `json:"is_main,omitempty"` // the value of the cell's last expression
	DisplayID string      `json:"display_id,omitempty"`
	Data      mime.Bundle `json:"data,omitzero"`
	Metadata  mime.Bundle `json:"metadata,omitzero"`

	Wait bool `json:"wait,omitempty"`

	Prompt   string `json:"prompt,omitempty"`
	Password bool   `json:"password,omitempty"`

	Name      string   `json:"name,omitempty"`
	Value     string   `json:"value,omitempty"`
	Traceback []string `json:"traceback,omitempty"` // lines with ANSI colours where the kernel made them

	Comm *CommMessage `json:"comm,omitempty"`

	Stream string `json:"stream,omitempty"`
	Bytes  int64  `json:"bytes,omitempty"`

	Status     Status  `json:"status,omitempty"`
	StateLost  bool    `json:"state_lost,omitempty"`  // the context's variables are gone
	OutputLost bool    `json:"output_lost,omitempty"` // the kernel dropped output of this run before it reached us
	Exit       *Exit   `json:"exit,omitempty"`
	Duration   float64 `json:"duration,omitempty"`    // seconds, from the kernel's turn to the end
	CPUTime    float64 `json:"cpu_time,omitempty"`    // seconds of CPU that the kernel took for it; 0: not known
	MemoryPeak int64   `json:"memory_peak,omitempty"` // bytes that the kernel had in memory, the most at a time; 0: not known
}

// Exit tells how a kernel's process ended.
type Exit struct {
	Code   int    `json:"code"`             // exit status, -1 where a signal ended it
	Signal string `json:"signal,omitempty"` // such as "SIGSEGV"
	OOM    bool   `json:"oom,omitempty"`    // out of memory
	Stderr string `json:"stderr,omitempty"` // the tail of what the process wrote outside the protocol
}
