package inside

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/process"
	"github.com/k2sandbox/k2sandbox/server"
)

const (
	maxTyped = 4 << 20 // bytes of a message from a viewer: what is pasted at once
	replayed = 256     // pieces of output that a viewer gets who comes late
)

// accept makes a WebSocket of a request. The server has checked Host and Origin, as of every request.
func accept(w http.ResponseWriter, r *http.Request) (*websocket.Conn, error) {
	if r.Method != http.MethodGet || r.Header.Get("Upgrade") == "" {
		return nil, refuse(http.StatusBadRequest, "Can \"Upgrade\" only to \"WebSocket\".")
	}
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return nil, nil // Accept has answered
	}
	return conn, nil
}

// joinTerminal joins a WebSocket to a terminal. Messages are arrays: from the client ["stdin", TEXT] and
// ["set_size", ROWS, COLS, …], from us ["setup", {}], ["stdout", TEXT] and, when the terminal ends, ["disconnect", 1].
func (h *handlers) joinTerminal(w http.ResponseWriter, r *http.Request) error {
	t, err := h.terminal(r)
	if err != nil {
		return err
	}
	conn, err := accept(w, r)
	if conn == nil {
		return err
	}
	defer h.box.Connected(api.TimelineEvent{Client: api.TerminalClient, Pid: t.job.Pid(), RequestID: w.Header().Get("X-Request-Id")})()
	conn.SetReadLimit(maxTyped)
	v := &viewer{terminal: t, conn: conn, o: h.o}
	v.serve(context.WithoutCancel(r.Context()))
	return nil
}

// viewer is a WebSocket at a terminal.
type viewer struct {
	terminal *terminal
	conn     *websocket.Conn
	o        server.Options
	blocked  atomic.Bool // what it types waits for the process, and so do its pongs
}

// serve returns when the terminal has ended or the client is gone.
func (v *viewer) serve(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() { defer cancel(); v.receive(ctx) })
	work.Go(func() { defer cancel(); v.ping(ctx) })
	if v.follow(ctx) {
		_ = v.conn.Close(websocket.StatusNormalClosure, "") // fails where the client is gone
	}
	cancel()
	_ = v.conn.CloseNow() // fails where it is closed
	work.Wait()
	v.terminal.fit(v, nil)
}

// follow sends what comes from the terminal, up to its end, and reports whether that was reached.
func (v *viewer) follow(ctx context.Context) bool {
	if v.send(ctx, "setup", struct{}{}) != nil {
		return false
	}
	var rest []byte // of a character that has not come as a whole
	for line, err := range v.terminal.job.Lines(ctx, max(0, v.terminal.job.Events()-replayed)) {
		if err != nil {
			return false
		}
		p, ok := process.Bytes(line)
		if !ok {
			continue
		}
		v.terminal.touch()
		p = append(rest, p...)
		n := whole(p)
		if n > 0 && v.send(ctx, "stdout", string(p[:n])) != nil {
			return false
		}
		rest = append([]byte(nil), p[n:]...)
	}
	return ctx.Err() == nil && v.send(ctx, "disconnect", 1) == nil
}

// whole returns how many bytes there are before a character at the end that is not whole.
func whole(p []byte) int {
	for i := 1; i <= min(utf8.UTFMax-1, len(p)); i++ {
		if b := p[len(p)-i]; utf8.RuneStart(b) {
			if b >= utf8.RuneSelf && !utf8.FullRune(p[len(p)-i:]) {
				return len(p) - i
			}
			break
		}
	}
	return len(p)
}

func (v *viewer) send(ctx context.Context, message ...any) error {
	raw, err := json.Marshal(message) // with U+FFFD for what is no character
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, v.o.WriteTimeout)
	defer cancel()
	return v.conn.Write(ctx, websocket.MessageText, raw)
}

// receive takes the client's messages until it is gone.
func (v *viewer) receive(ctx context.Context) {
	for {
		_, raw, err := v.conn.Read(ctx)
		if err != nil {
			return
		}
		v.terminal.touch()
		if err := v.take(ctx, raw); err != nil {
			_ = v.conn.Close(websocket.StatusPolicyViolation, err.Error()) // fails where the client is gone
			return
		}
	}
}

var errMessage = errors.New(`expected ["stdin", TEXT] or ["set_size", ROWS, COLS]`)

// take does what a message asks for. Of what nobody knows there is nothing to do.
func (v *viewer) take(ctx context.Context, raw []byte) error {
	var message []json.RawMessage
	var kind string
	if json.Unmarshal(raw, &message) != nil || len(message) == 0 || json.Unmarshal(message[0], &kind) != nil {
		return errMessage
	}
	switch kind {
	case "stdin":
		var text string
		if len(message) < 2 || json.Unmarshal(message[1], &text) != nil {
			return errMessage
		}
		v.blocked.Store(true)
		_, _ = v.terminal.job.Write(ctx, []byte(text)) // fails where it has ended, which the other side tells
		v.blocked.Store(false)
	case "set_size":
		var size process.Size
		if len(message) < 3 || json.Unmarshal(message[1], &size.Rows) != nil || json.Unmarshal(message[2], &size.Cols) != nil {
			return errMessage
		}
		if size.Rows > 0 && size.Cols > 0 && size.Rows <= maxSide && size.Cols <= maxSide { // others are of a page that is not shown yet
			v.terminal.fit(v, &size)
		}
	}
	return nil
}

// maxSide is the most rows or columns.
const maxSide = 10_000

// ping returns when the client does not answer any more.
func (v *viewer) ping(ctx context.Context) {
	tick := time.NewTicker(v.o.Ping)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if late(ctx, v.conn, v.o.WriteTimeout) && !v.blocked.Load() {
			return
		}
	}
}

// late reports whether a client has not answered a ping in time. That it fails before, as behind a message that is sent, or
// because the client is gone, is seen by whoever sends or reads.
func late(ctx context.Context, conn *websocket.Conn, patience time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_ = conn.Ping(ctx)
	return ctx.Err() != nil
}
