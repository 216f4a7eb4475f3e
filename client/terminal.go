package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	"github.com/coder/websocket"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/journal"
)

// Terminal is a connection to a process: what that writes is read from it, and what is
// written to it is the process's input. Reads and writes may run at the same time.
// Losing or closing it leaves the process alone.
type Terminal struct {
	ctx  context.Context
	conn *websocket.Conn

	reading sync.Mutex
	message io.Reader // the rest of a message
	end     *ProcessEvent
}

// Attach connects to a process, beginning with what it wrote after event number
// after. ctx bounds the connection's life.
func (c *Client) Attach(ctx context.Context, pid int, after int64) (*Terminal, error) {
	target := c.base + processPath(pid) + "/attach?" + url.Values{"after": {strconv.FormatInt(after, 10)}}.Encode()
	conn, resp, err := websocket.Dial(ctx, target, &websocket.DialOptions{HTTPClient: c.http, HTTPHeader: c.auth()})
	if err != nil {
		if resp != nil && resp.StatusCode >= 400 {
			return nil, failure(resp)
		}
		return nil, err
	}
	conn.SetReadLimit(-1) // it is read in pieces
	return &Terminal{ctx: ctx, conn: conn}, nil
}

// Read reads what the process wrote; io.EOF comes when it has ended, and End tells
// how. An error that what was sent before met with is an *Error, after which Read can go on.
func (t *Terminal) Read(p []byte) (int, error) {
	t.reading.Lock()
	defer t.reading.Unlock()
	for {
		if t.end != nil {
			return 0, io.EOF
		}
		if t.message == nil {
			if err := t.next(); err != nil {
				return 0, err
			}
			continue
		}
		n, err := t.message.Read(p)
		if errors.Is(err, io.EOF) {
			t.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// next takes a message.
func (t *Terminal) next() error {
	typ, message, err := t.conn.Reader(t.ctx)
	if err != nil {
		return err
	}
	if typ == websocket.MessageBinary {
		t.message = message
		return nil
	}
	raw, err := io.ReadAll(message)
	if err != nil {
		return err
	}
	var told struct {
		ProcessEvent
		Error *api.Error `json:"error"`
	}
	if err := json.Unmarshal(raw, &told); err != nil {
		return err
	}
	if told.Type == journal.End {
		t.end = &told.ProcessEvent
	}
	if told.Error != nil {
		return &Error{API: told.Error, Status: http.StatusOK}
	}
	return nil
}

// End returns the process's last event once Read has returned io.EOF, else nil.
func (t *Terminal) End() *ProcessEvent {
	t.reading.Lock()
	defer t.reading.Unlock()
	return t.end
}

// Write writes to the process's input.
func (t *Terminal) Write(p []byte) (int, error) {
	if err := t.conn.Write(t.ctx, websocket.MessageBinary, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// CloseWrite ends the process's input.
func (t *Terminal) CloseWrite() error { return t.control(api.Control{EOF: true}) }

// Resize gives the terminal another size, in characters.
func (t *Terminal) Resize(rows, cols int) error {
	return t.control(api.Control{Resize: &api.ResizeRequest{Rows: rows, Cols: cols}})
}

// Signal sends a signal, such as "SIGINT", to the process's group.
func (t *Terminal) Signal(signal api.Signal) error { return t.control(api.Control{Signal: signal}) }

func (t *Terminal) control(c api.Control) error {
	raw, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return t.conn.Write(t.ctx, websocket.MessageText, raw)
}

// Close closes the connection.
func (t *Terminal) Close() error { return t.conn.CloseNow() }
