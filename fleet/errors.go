package fleet

import (
	"errors"
	"fmt"
	"time"
)

// Errors that a caller can act on.
var (
	// ErrNotFound says that there is no such sandbox, or that it ended longer than Options.Keep ago.
	ErrNotFound = errors.New("cannot find sandbox")
	// ErrGone says that the sandbox has ended, or is ending; a *GoneError tells how and when.
	ErrGone = errors.New("the sandbox has ended")
	// ErrLimit says that an owner, or the fleet, has as much as it may have; a *LimitError tells more.
	ErrLimit = errors.New("limit reached")
	// ErrState says that the sandbox's state does not allow what was asked for.
	ErrState = errors.New("not in this state")
	// ErrPaused is the ErrState of a sandbox that has to be resumed first.
	ErrPaused   = fmt.Errorf("the sandbox is paused: %w", ErrState)
	errCreating = fmt.Errorf("the sandbox is being created: %w", ErrState)
	// ErrClosed says that the fleet is closed.
	ErrClosed = errors.New("the server is shutting down")
	// ErrUnsupported is a Runtime's word for what it cannot do here.
	ErrUnsupported = errors.New("not supported here")
	// ErrUnknownTemplate is a Runtime's word for a template that it does not have.
	ErrUnknownTemplate = errors.New("unknown template")
	// ErrCwd is a Runtime's word for a working directory in which no code can be started.
	ErrCwd = errors.New("the sandbox's working directory cannot be entered")
	// ErrEnvs is a Runtime's word for environment variables with which no kernel starts, such as a PYTHONHOME.
	ErrEnvs = errors.New("no kernel starts with the sandbox's environment variables")

	// ErrTemplate is a Runtime's word for a template of an image in which no kernel starts.
	ErrTemplate = errors.New("no kernel starts in the template")
)

// GoneError tells of a sandbox that has ended or is ending. It is ErrGone.
type GoneError struct {
	ID     string
	Owner  string
	Reason Reason
	At     time.Time // when it began to end, UTC
}

func (e *GoneError) Error() string {
	return fmt.Sprintf("sandbox %s %s at %s", e.ID, verb(e.Reason), e.At.Format(time.RFC3339))
}

// Is reports whether target is ErrGone.
func (e *GoneError) Is(target error) bool { return target == ErrGone }

// LimitError tells which limit was reached. It is ErrLimit.
type LimitError struct {
	Limit      string        // which one: one of those below
	What       string        // such as "20 sandboxes at most"
	RetryAfter time.Duration // when asking again makes sense, at the soonest
}

// The limits that a create can meet.
const (
	LimitSandboxes = "sandboxes"     // Options.Max
	LimitOwned     = "key_sandboxes" // Quota.Sandboxes
	LimitRate      = "key_creates"   // Quota.Rate
	LimitMemory    = "memory"        // of the machine, as the two that follow
	LimitPids      = "pids"
	LimitDisk      = "disk"
)

var limits = []string{LimitSandboxes, LimitOwned, LimitRate, LimitMemory, LimitPids, LimitDisk}

func (e *LimitError) Error() string { return "limit reached: " + e.What }

// Is reports whether target is ErrLimit.
func (e *LimitError) Is(target error) bool { return target == ErrLimit }

// notFound keeps what a client sent as an id short.
func notFound(id string) error { return fmt.Errorf("%w %.64q", ErrNotFound, id) }
