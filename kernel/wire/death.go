package wire

import "fmt"

// Death is the error that a conversation ends with when its kernel is gone:
// how the process ended and what it said last.
type Death struct {
	Code      int    // exit status; -1 where a signal ended it or nobody knows
	Signal    string // such as "SIGKILL"; "" where it exited by itself
	OOM       bool   // the kernel of the operating system ran out of memory
	Stderr    string // the tail of what the process wrote to its own fd 1 and 2
	Requested bool   // we ended it: restart, close or kill
	Cause     string // why we gave it up, such as a breach of the protocol; else ""
}

func (d *Death) Error() string {
	switch {
	case d.Requested:
		return "kernel was stopped"
	case d.Cause != "":
		return "kernel died: " + d.Cause
	case d.OOM:
		return fmt.Sprintf("kernel died: %s, out of memory", d.Signal)
	case d.Signal != "":
		return "kernel died: " + d.Signal
	case d.Code < 0:
		return "kernel died"
	}
	return fmt.Sprintf("kernel died: exit status %d", d.Code)
}
