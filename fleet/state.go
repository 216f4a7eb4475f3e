package fleet

import "github.com/k2sandbox/k2sandbox/api"

// State is where a sandbox is in its life.
type State = api.SandboxState

// The states of a sandbox, in the order of its life.
const (
	Creating = api.SandboxCreating // its runtime starts it; its id may be seen in a list
	Running  = api.SandboxRunning
	Paused   = api.SandboxPaused
	Ending   = api.SandboxEnding
	Ended    = api.SandboxEnded
)

// States are all states.
var States = []State{Creating, Running, Paused, Ending, Ended}

// event is what moves a sandbox from one state to the next.
type event int

const (
	started event = iota // its machine runs, and its record is on disk
	pause                // its machine is frozen
	resume               // its machine goes on
	end                  // somebody or something ends it, for a Reason
	gone                 // nothing is left of it
)

// next is the one place that knows which event does what in which state; ok is false
// where it does nothing.
func next(s State, e event) (to State, ok bool) {
	switch s {
	case Creating:
		switch e {
		case started:
			return Running, true
		case end:
			return Ending, true
		case gone: // it never started
			return Ended, true
		}
	case Running, Paused:
		switch e {
		case pause:
			return Paused, true
		case resume:
			return Running, true
		case end:
			return Ending, true
		}
	case Ending:
		if e == gone {
			return Ended, true
		}
	}
	return s, false
}

// Reason tells why a sandbox ended.
type Reason = api.EndReason

// The reasons. The first one counts.
const (
	Closed      = api.EndClosed
	Killed      = api.EndKilled
	TimedOut    = api.EndTimedOut
	OutOfMemory = api.EndOutOfMemory
	Crashed     = api.EndCrashed
	Lost        = api.EndLost
)

// Reasons are all reasons.
var Reasons = []Reason{Closed, Killed, TimedOut, OutOfMemory, Crashed, Lost}

// verb says how a sandbox ended.
func verb(r Reason) string {
	switch r {
	case Closed:
		return "was closed"
	case Killed:
		return "was killed"
	case TimedOut:
		return "timed out"
	case OutOfMemory:
		return "ran out of memory"
	case Crashed:
		return "crashed"
	}
	return "was lost while the server was down"
}

// reason tells why a sandbox is over whose agent ended unasked.
func (e Exit) reason() Reason {
	if e.OOM {
		return OutOfMemory
	}
	return Crashed
}
