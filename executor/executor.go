package executor

import (
	"errors"
	"time"

	"github.com/k2sandbox/k2sandbox/journal"
)

// Errors that a caller can act on.
var (
	ErrQueueFull   = errors.New("the context's queue is full")
	ErrClosed      = errors.New("the context is closed")
	ErrNotWaiting  = errors.New("the run does not wait for input")
	ErrFinished    = errors.New("the run has ended")
	ErrEvicted     = journal.ErrEvicted // the run's events are no longer kept
	ErrUnsupported = errors.New("this kernel cannot do that")
)

// Cell is a piece of code to run and how to run it.
type Cell struct {
	Code       string
	Timeout    time.Duration     // from the kernel's turn; 0 is none
	Cwd        string            // for this cell only; "" is the context's
	Envs       map[string]string // for this cell only
	AllowStdin bool              // input() asks, as an Input event; else it raises
	NoHistory  bool              // the cell is not counted
	Comms      bool              // comm messages come as Comm events; else they are left out
	Display    Display           // what values are displayed as, beside what every cell does
	Silent     bool              // neither counted nor shown to the kernel's other clients; its value is no result
}

// Display is a set of MIME types that a kernel of our launcher can add to those that it displays
// values as; others leave it out.
type Display string

// E2B has e2b/chart of figures, e2b/data of DataFrames, and application/json of lists and dicts.
const E2B Display = "e2b"

// State says where a run stands.
type State string

// The states of a run, in order.
const (
	Queued  State = "queued"
	Running State = "running"
	Done    State = "done"
)

// Options bound a Context. The zero value of each field stands for its default.
type Options struct {
	QueueLimit  int                           // runs that may wait: 64
	MemoryLimit int64                         // bytes of one log kept in memory: 1 MiB
	LogLimit    int64                         // bytes of one run's log, then streams are cut: 1 GiB
	Spill       func() (journal.Store, error) // where a log goes past MemoryLimit; nil: streams are cut there
	Background  int64                         // bytes of late output that are kept, newest first: 4 MiB

	// Patience with a kernel (see execution.go).
	Grace      time.Duration // from a timeout's first interrupt to the kill: 5 s
	Again      time.Duration // between interrupts, long enough for a traceback to be made: 2 s
	IdleWait   time.Duration // from a reply, or the last output after it, to the question whether its idle was lost: 1 s
	ReplyWait  time.Duration // from an idle to the decision that the reply was lost: 5 s
	ExitWait   time.Duration // from exit() in a cell to the end of the process: 5 s
	ReviveWait time.Duration // for a new kernel in place of a dead one: 60 s
}

func (o *Options) setDefaults() {
	or(&o.QueueLimit, 64)
	or(&o.MemoryLimit, 1<<20)
	or(&o.LogLimit, 1<<30)
	or(&o.Background, 4<<20)
	or(&o.Grace, 5*time.Second)
	or(&o.Again, 2*time.Second)
	or(&o.IdleWait, time.Second)
	or(&o.ReplyWait, 5*time.Second)
	or(&o.ExitWait, 5*time.Second)
	or(&o.ReviveWait, time.Minute)
}

func or[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
