package envd

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/tidwall/gjson"

	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/process"
)

// follow sends that a command has started, and its events after a number, up to the end. A
// limit is the time that this stream gave the command: that it was over is an error. The stream
// of a command that ends with its sandbox is cut.
func (h *handler) follow(ctx context.Context, c *command, after int64, limit time.Duration, s *stream) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.keep(`{"event":{"keepalive":{}}}`)
	if err := s.send(fmt.Appendf(nil, `{"event":{"start":{"pid":%d}}}`, c.job.Pid()), true); err != nil {
		return err
	}
	for line, err := range c.job.Lines(ctx, after) {
		if err != nil && ctx.Err() != nil {
			return over(ctx)
		}
		if err != nil {
			return err
		}
		if line.Type == journal.End && limit > 0 && c.job.End().TimedOut {
			return errorf(deadlineExceeded, "the command was killed: its timeout of %v was over", limit)
		}
		if err := c.send(line.Seq, func() error { return c.tell(line, s) }); err != nil {
			return err
		}
	}
	return nil
}

// tell sends one event.
func (c *command) tell(line journal.Line, s *stream) error {
	switch line.Type {
	case process.Stdout, process.Stderr:
		return s.send(c.output(line), !line.More)
	case journal.Truncated:
		s.miss(gjson.GetBytes(line.JSON, "bytes").Int())
	case journal.End:
		end := c.job.End()
		if end.Status == process.SandboxKilled {
			cut()
		}
		return s.send(endEvent(end), false) // the stream's own end follows
	}
	return nil
}

// output returns the event of what a command wrote.
func (c *command) output(line journal.Line) []byte {
	stream := string(line.Type)
	if c.job.HasTerminal() {
		stream = "pty"
	}
	raw, _ := process.Bytes(line)
	message := make([]byte, 0, 40+base64.StdEncoding.EncodedLen(len(raw)))
	message = append(append(append(message, `{"event":{"data":{"`...), stream...), `":"`...)
	message = base64.StdEncoding.AppendEncode(message, raw)
	return append(message, `"}}}`...)
}

// endEvent returns the event of how a command ended, as package os tells it.
func endEvent(end process.End) []byte {
	e := struct {
		ExitCode int    `json:"exitCode"`
		Exited   bool   `json:"exited"`
		Status   string `json:"status"`
		Error    string `json:"error,omitempty"`
	}{ExitCode: end.ExitCode, Exited: end.Signal == nil, Status: "exit status " + strconv.Itoa(end.ExitCode)}
	if end.Signal != nil {
		e.Status = "signal: " + *end.Signal
		if sig, err := process.ParseSignal(*end.Signal); err == nil {
			e.Status = "signal: " + sig.String()
		}
	}
	if end.ExitCode != 0 || end.Signal != nil {
		e.Error = e.Status
	}
	if end.OOM {
		e.Error += ": out of memory"
	}
	raw, _ := json.Marshal(e) // numbers and strings
	return fmt.Appendf(nil, `{"event":{"end":%s}}`, raw)
}
