package api

import (
	"math"
	"path"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/journal"
)

// OnDisconnect says what becomes of a run whose client is gone before its end.
type OnDisconnect string

// What can become of it.
const (
	Continue  OnDisconnect = "continue"  // it runs on; its events are kept
	Interrupt OnDisconnect = "interrupt" // it is interrupted, or leaves the queue
)

// RunRequest asks to run a cell: the body of POST /v1/code.
type RunRequest struct {
	Code         string            `json:"code" api:"required"`
	Context      string            `json:"context,omitempty"`       // "" is the default context
	Timeout      float64           `json:"timeout,omitempty"`       // seconds from the kernel's turn; 0 is none
	Cwd          string            `json:"cwd,omitempty"`           // absolute; for this cell only
	Envs         map[string]string `json:"envs,omitempty"`          // for this cell only
	AllowStdin   bool              `json:"allow_stdin,omitempty"`   // input() asks the client
	StoreHistory *bool             `json:"store_history,omitempty"` // nil is true: the cell is counted
	Detach       bool              `json:"detach,omitempty"`        // answer at once; the run goes on
	OnDisconnect OnDisconnect      `json:"on_disconnect,omitempty"` // "" is continue
}

// Validate returns an *Error that names the first wrong field.
func (r *RunRequest) Validate() error {
	if r.OnDisconnect != "" && r.OnDisconnect != Continue && r.OnDisconnect != Interrupt {
		return Invalid("on_disconnect", `expected "continue" or "interrupt", got %q`, r.OnDisconnect)
	}
	if r.Detach && r.OnDisconnect == Interrupt {
		return Invalid("on_disconnect", `"interrupt" cannot be combined with detach: there is nobody to disconnect`)
	}
	if err := validTimeout(r.Timeout); err != nil {
		return err
	}
	return validPlace(r.Cwd, r.Envs)
}

// Cell returns what the request asks the executor for.
func (r *RunRequest) Cell() executor.Cell {
	return executor.Cell{
		Code:       r.Code,
		Timeout:    time.Duration(math.Ceil(r.Timeout * float64(time.Second))), // never 0 for a short one
		Cwd:        r.Cwd,
		Envs:       r.Envs,
		AllowStdin: r.AllowStdin,
		NoHistory:  r.StoreHistory != nil && !*r.StoreHistory,
	}
}

// MaxTimeout is the longest timeout of a run, in seconds: a year.
const MaxTimeout = 365 * 24 * 3600

func validTimeout(seconds float64) error {
	if seconds >= 0 && seconds <= MaxTimeout { // NaN is neither
		return nil
	}
	return Invalid("timeout", "expected seconds from 0 (none) to %d, got %v", MaxTimeout, seconds)
}

// validPlace checks where and with what environment something is to run.
func validPlace(cwd string, envs map[string]string) error {
	if cwd != "" && !path.IsAbs(cwd) {
		return Invalid("cwd", "expected an absolute path, got %q", cwd)
	}
	if strings.ContainsRune(cwd, 0) {
		return Invalid("cwd", "must not contain a NUL character")
	}
	return ValidEnvs("envs", envs)
}

// ValidEnvs returns an *Error that names the field where a process cannot have the variables.
func ValidEnvs(field string, envs map[string]string) error {
	for name, value := range envs {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			return Invalid(field, "%.64q is not the name of a variable: it must not be empty or contain = or NUL", name)
		}
		if strings.ContainsRune(value, 0) {
			return Invalid(field, "the value of %.64s must not contain a NUL character", name)
		}
	}
	return nil
}

// Execution is a run, where one is asked for.
type Execution struct {
	executor.Summary
	Code string `json:"code,omitempty"`
}

// Executions is a list of runs, newest first.
type Executions struct {
	Executions []executor.Summary `json:"executions" api:"required"`
}

// InputRequest answers an input event.
type InputRequest struct {
	Value string `json:"value" api:"required"`
}

// Ping is the line of a stream that says nothing but that the connection lives.
const Ping executor.Type = "ping"

// Cut is the status of an end line of a stream that could not go on, though its
// run may: Error tells why.
const Cut executor.Status = "cut"

// StreamEnd is the end line that the server writes where a stream had to end
// before its run, or where a context's background log is complete.
type StreamEnd struct {
	Seq    int64           `json:"seq" api:"required"` // of the last event
	Type   executor.Type   `json:"type" api:"required"`
	Time   journal.Time    `json:"time" api:"required"`
	Status executor.Status `json:"status" api:"required"`
	Error  *Error          `json:"error,omitempty"`
}
