package api

import (
	"encoding/json"
	"math"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/process"
)

// Kill is what becomes of a process whose client is gone, where that was asked for:
// SIGTERM and, if it does not end in a few seconds, SIGKILL.
const Kill = "kill"

// ProcessRequest asks to start a process: the body of POST /v1/processes.
type ProcessRequest struct {
	Cmd          string            `json:"cmd,omitempty"`           // a line for /bin/sh; one of Cmd and Args
	Args         []string          `json:"args,omitempty"`          // a program and its arguments, without a shell
	Cwd          string            `json:"cwd,omitempty"`           // absolute; "" is the sandbox's
	Envs         map[string]string `json:"envs,omitempty"`          // beside those of the sandbox
	Timeout      float64           `json:"timeout,omitempty"`       // seconds, after which it is ended; 0 is none
	Stdin        Stdin             `json:"stdin,omitempty"`         // "" is empty
	Background   bool              `json:"background,omitempty"`    // answer at once
	Pty          *Pty              `json:"pty,omitempty"`           // give it a terminal
	OnDisconnect OnDisconnect      `json:"on_disconnect,omitempty"` // continue, which is "", or kill
}

// Stdin is what a process reads, as JSON: true for what will be sent to it, a string
// for that and no more, false or "" for nothing.
type Stdin string

// OpenStdin is a stdin that can be written to.
const OpenStdin Stdin = "true"

// StdinText is a stdin that has the text and then ends.
func StdinText(text string) Stdin {
	raw, _ := json.Marshal(text) // a string
	return Stdin(raw)
}

// UnmarshalJSON takes any value; ProcessRequest.Validate checks it.
func (s *Stdin) UnmarshalJSON(raw []byte) error {
	*s = Stdin(raw)
	return nil
}

// MarshalJSON returns the JSON that it is.
func (s Stdin) MarshalJSON() ([]byte, error) {
	if s == "" {
		return []byte("false"), nil
	}
	return []byte(s), nil
}

// Text returns the text of a StdinText.
func (s Stdin) Text() (text string, ok bool) {
	return text, strings.HasPrefix(string(s), `"`) && json.Unmarshal([]byte(s), &text) == nil
}

// Pty is the size of a terminal, in characters. 0 stands for 24 rows and 80 columns.
type Pty struct {
	Rows int `json:"rows,omitempty"`
	Cols int `json:"cols,omitempty"`
}

// maxTerminal is the most rows or columns of a terminal: the system counts them in 16 bits.
const maxTerminal = math.MaxUint16

// validSize checks the size of a terminal. What is left out is 0.
func validSize(where string, rows, cols, least int) error {
	if rows < least || rows > maxTerminal {
		return Invalid(where+"rows", "expected an integer from 1 to %d, got %d", maxTerminal, rows)
	}
	if cols < least || cols > maxTerminal {
		return Invalid(where+"cols", "expected an integer from 1 to %d, got %d", maxTerminal, cols)
	}
	return nil
}

// Validate returns an *Error that names the first wrong field.
func (r *ProcessRequest) Validate() error {
	if err := r.validProgram(); err != nil {
		return err
	}
	if err := validTimeout(r.Timeout); err != nil {
		return err
	}
	if _, isText := r.Stdin.Text(); !isText && r.Stdin != OpenStdin && r.Stdin != "false" && r.Stdin != "" {
		return Invalid("stdin", "expected true, false or a string")
	} else if isText && r.Pty != nil {
		return Invalid("stdin", "a text cannot be combined with pty: write to the terminal instead")
	}
	if r.Pty != nil {
		if err := validSize("pty.", r.Pty.Rows, r.Pty.Cols, 0); err != nil {
			return err
		}
	}
	if r.OnDisconnect != "" && r.OnDisconnect != Continue && r.OnDisconnect != Kill {
		return Invalid("on_disconnect", `expected "continue" or "kill", got %q`, r.OnDisconnect)
	}
	if r.Background && r.OnDisconnect == Kill {
		return Invalid("on_disconnect", `"kill" cannot be combined with background: there is nobody to disconnect`)
	}
	return validPlace(r.Cwd, r.Envs)
}

func (r *ProcessRequest) validProgram() error {
	switch {
	case r.Cmd == "" && len(r.Args) == 0:
		return Invalid("cmd", "is required, or args")
	case r.Cmd != "" && len(r.Args) > 0:
		return Invalid("args", "cannot be combined with cmd: give one of the two")
	case strings.ContainsRune(r.Cmd, 0):
		return Invalid("cmd", "must not contain a NUL character")
	case r.Cmd == "" && r.Args[0] == "":
		return Invalid("args", "the first names the program: it must not be empty")
	}
	for _, arg := range r.Args {
		if strings.ContainsRune(arg, 0) {
			return Invalid("args", "must not contain a NUL character")
		}
	}
	return nil
}

// Duration returns the timeout; 0 is none.
func (r *ProcessRequest) Duration() time.Duration {
	return time.Duration(math.Ceil(r.Timeout * float64(time.Second))) // never 0 for a short one
}

// Terminal returns the size of the terminal that it asks for; nil for none.
func (r *ProcessRequest) Terminal() *process.Size {
	if r.Pty == nil {
		return nil
	}
	size := process.Size{Rows: 24, Cols: 80}
	if r.Pty.Rows > 0 {
		size.Rows = r.Pty.Rows
	}
	if r.Pty.Cols > 0 {
		size.Cols = r.Pty.Cols
	}
	return &size
}

// Process tells about a process.
type Process = process.Summary

// Processes is a list of processes, newest first.
type Processes struct {
	Processes []Process `json:"processes" api:"required"`
}

// SignalRequest asks to send a signal.
type SignalRequest struct {
	Signal Signal `json:"signal" api:"required"`
}

// Signal is a signal's name, such as "SIGINT" or "INT", or its number.
type Signal string

// UnmarshalJSON takes any value; SignalRequest.Validate checks it.
func (s *Signal) UnmarshalJSON(raw []byte) error {
	var name string
	if json.Unmarshal(raw, &name) != nil {
		name = string(raw)
	}
	*s = Signal(name)
	return nil
}

// Validate returns an *Error that names the field.
func (r *SignalRequest) Validate() error {
	if _, err := process.ParseSignal(string(r.Signal)); err != nil {
		return Invalid("signal", "%v: expected a name such as SIGTERM, or a number from 1 to 64", err)
	}
	return nil
}

// ResizeRequest asks to give a terminal another size, in characters.
type ResizeRequest struct {
	Rows int `json:"rows" api:"required"`
	Cols int `json:"cols" api:"required"`
}

// Validate returns an *Error that names the first wrong field.
func (r *ResizeRequest) Validate() error { return validSize("", r.Rows, r.Cols, 1) }

// Control is a text message from the client of a WebSocket at a process: one of its
// members is set.
type Control struct {
	Resize *ResizeRequest `json:"resize,omitempty"`
	Signal Signal         `json:"signal,omitempty"`
	EOF    bool           `json:"eof,omitempty"` // end its stdin
}

// Validate returns an *Error that names the first wrong member.
func (c *Control) Validate() error {
	given := 0
	for _, is := range []bool{c.Resize != nil, c.Signal != "", c.EOF} {
		if is {
			given++
		}
	}
	switch {
	case given != 1:
		return Errorf(InvalidRequest, `the message must have one of "resize", "signal" and "eof"`)
	case c.Resize != nil:
		return c.Resize.Validate()
	case c.Signal != "":
		return (&SignalRequest{c.Signal}).Validate()
	}
	return nil
}
