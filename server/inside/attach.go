package inside

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/process"
	"github.com/k2sandbox/k2sandbox/server"
)

// maxControl is the most bytes of a text message from a viewer.
const maxControl = 4 << 10

// attach joins a WebSocket to a process: what that writes, from a number on, comes as
// binary messages, an event each, and binary messages are its input. Text messages are
// JSON: from the client an api.Control, from us an error that came of one, a truncated
// event, and the end event, after which the connection is closed.
func (h *processHandlers) attach(w http.ResponseWriter, r *http.Request) error {
	job, err := h.job(r)
	if err != nil {
		return err
	}
	after, err := server.After(r, job.Events())
	if err != nil {
		return err
	}
	if over(job.Done()) && after == job.Events() {
		after-- // its end is always told
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return api.Invalid("Upgrade", "expected the handshake of a WebSocket")
	}
	// The server has checked Host and Origin, as of every request.
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return nil // Accept has answered
	}
	defer connected(h.box, w, r, api.TimelineEvent{Client: api.TerminalClient, Pid: job.Pid()})()
	conn.SetReadLimit(-1) // messages are passed on in pieces
	v := &viewer{h: h, job: job, conn: conn, describe: func(err error) *api.Error { return server.Describe(w, err) }}
	v.serve(context.WithoutCancel(r.Context()), after)
	return nil
}

// viewer is a WebSocket at a process.
type viewer struct {
	h        *processHandlers
	job      *process.Job
	conn     *websocket.Conn
	describe func(error) *api.Error
	blocked  atomic.Bool // its input waits for the process, and so do its pongs
}

// serve returns when the process has ended or the client is gone.
func (v *viewer) serve(ctx context.Context, after int64) {
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() { defer cancel(); v.receive(ctx) })
	work.Go(func() { defer cancel(); v.ping(ctx) })
	if v.follow(ctx, after) {
		_ = v.conn.Close(websocket.StatusNormalClosure, "") // fails where the client is gone
	}
	cancel()
	_ = v.conn.CloseNow() // fails where it is closed
	work.Wait()
}

// follow sends what the process writes, up to the end, and reports whether that was reached.
func (v *viewer) follow(ctx context.Context, after int64) bool {
	for line, err := range v.job.Lines(ctx, after) {
		if err != nil && ctx.Err() == nil {
			line = server.EndLine(after, api.Cut, v.describe(err))
		} else if err != nil {
			return false
		}
		if err := v.show(ctx, line); err != nil {
			return false
		}
		after = line.Seq
	}
	return ctx.Err() == nil
}

// show sends one event. The start has nothing to say to who knows the pid.
func (v *viewer) show(ctx context.Context, line journal.Line) error {
	if p, ok := process.Bytes(line); ok {
		return v.send(ctx, websocket.MessageBinary, p)
	}
	if line.Type == process.Started {
		return nil
	}
	return v.send(ctx, websocket.MessageText, line.JSON)
}

func (v *viewer) send(ctx context.Context, typ websocket.MessageType, p []byte) error {
	ctx, cancel := context.WithTimeout(ctx, v.h.o.WriteTimeout)
	defer cancel()
	return v.conn.Write(ctx, typ, p)
}

// receive takes the client's messages until it is gone.
func (v *viewer) receive(ctx context.Context) {
	for {
		typ, message, err := v.conn.Reader(ctx)
		if err != nil {
			return
		}
		if typ == websocket.MessageBinary {
			err = v.input(ctx, message)
		} else {
			err = v.control(ctx, message)
		}
		if err != nil && !v.tell(ctx, err) {
			return
		}
		if _, err := io.Copy(io.Discard, message); err != nil {
			return
		}
	}
}

// input passes a message on to the process.
func (v *viewer) input(ctx context.Context, message io.Reader) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := message.Read(buf)
		if n > 0 {
			v.blocked.Store(true)
			_, err := v.h.write(ctx, v.job, buf[:n])
			v.blocked.Store(false)
			if err != nil {
				return err
			}
		}
		if err != nil {
			return nil // the end of the message, or of the connection, which the next read tells
		}
	}
}

// control does what a text message asks for.
func (v *viewer) control(ctx context.Context, message io.Reader) error {
	c, err := readControl(message)
	if err != nil {
		return err
	}
	switch {
	case c.Resize != nil:
		return v.job.Resize(process.Size(*c.Resize))
	case c.Signal != "":
		return sendSignal(v.job, c.Signal)
	}
	return v.job.CloseStdin(ctx)
}

func readControl(message io.Reader) (c api.Control, err error) {
	raw, err := io.ReadAll(io.LimitReader(message, maxControl+1))
	if err != nil {
		return c, err
	}
	if len(raw) > maxControl {
		return c, api.Errorf(api.TooLarge, "the message is longer than %d bytes", maxControl)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, api.Errorf(api.InvalidRequest, "cannot read the message: %v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return c, api.Errorf(api.InvalidRequest, "the message goes on after its JSON object")
	}
	return c, c.Validate()
}

// tell sends an error, and reports whether it could. That the process has ended the
// end event tells.
func (v *viewer) tell(ctx context.Context, err error) bool {
	if errors.Is(err, process.ErrEnded) {
		return true
	}
	if ctx.Err() != nil {
		return false
	}
	raw, err := json.Marshal(api.ErrorBody{Error: *v.describe(err)})
	if err != nil {
		return false
	}
	return v.send(ctx, websocket.MessageText, raw) == nil
}

// ping returns when the client does not answer any more.
func (v *viewer) ping(ctx context.Context) {
	tick := time.NewTicker(v.h.o.Ping)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if v.late(ctx) && !v.blocked.Load() {
			return
		}
	}
}

// late reports whether the client has not answered a ping in time. That it fails before, as behind a message that is sent, or
// because the client is gone, is seen by who sends or reads.
func (v *viewer) late(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, v.h.o.WriteTimeout)
	defer cancel()
	_ = v.conn.Ping(ctx)
	return ctx.Err() != nil
}
