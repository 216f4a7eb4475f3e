package executor

import (
	"context"
	"errors"
	"iter"
	"time"
)

// Errors that a caller can act on.
var (
	ErrQueueFull  = errors.New("the context's queue is full")
	ErrClosed     = errors.New("the context is closed")
	ErrNotWaiting = errors.New("the run does not wait for input")
	ErrFinished   = errors.New("the run has ended")
	ErrEvicted    = errors.New("the run's events are no longer kept")
)

// Cell is a piece of code to run and how to run it.
type Cell struct {
	Code       string
	Timeout    time.Duration     // from the kernel's turn; 0 is none
	Cwd        string            // for this cell only; "" is the context's
	Envs       map[string]string // for this cell only
	AllowStdin bool              // input() asks, as an Input event; else it raises
	NoHistory  bool              // the cell is not counted
	Silent     bool
}

// State says where a run stands.
type State string

const (
	Queued  State = "queued"
	Running State = "running"
	Done    State = "done"
)

// Line is an event as one line of JSON, without the line end.
type Line struct {
	Seq  int64
	Type Type
	JSON []byte // not to be changed
}

// Store is a place outside memory for the bytes of a log that has grown long.
type Store interface {
	WriteAt(p []byte, off int64) (int, error)
	ReadAt(p []byte, off int64) (int, error)
	Close() error
}

var _ = context.Background
var _ iter.Seq[int]
