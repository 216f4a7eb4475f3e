package executor

import (
	"context"
	"encoding/json"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// CommMessage is a message of a comm, which a cell sent: of a widget, for instance.
// https://jupyter-client.readthedocs.io/en/stable/messaging.html#custom-messages
type CommMessage struct {
	Type    string          `json:"msg_type"` // comm_open, comm_msg or comm_close
	ID      string          `json:"comm_id"`
	Target  string          `json:"target_name,omitempty"` // of comm_open
	Data    json.RawMessage `json:"data"`
	Buffers [][]byte        `json:"buffers,omitempty"` // base64 in JSON
}

func commMessage(m *wire.Message) *CommMessage {
	c := &CommMessage{
		Type: m.Type(), ID: m.Get("comm_id").String(), Target: m.Get("target_name").String(),
		Data: part(m, "data"), Buffers: m.Buffers,
	}
	if len(c.Data) == 0 {
		c.Data = []byte("{}")
	}
	return c
}

// size guesses the length of the message's JSON.
func (c *CommMessage) size() int {
	n := len(c.Data)
	for _, b := range c.Buffers {
		n += len(b) / 3 * 4
	}
	return n
}

// SendComm sends data, a JSON object, to the kernel's end of a comm. The kernel reads
// it between two runs: before each that is submitted later.
func (c *Context) SendComm(ctx context.Context, id string, data json.RawMessage) error {
	content := object{[]byte{'{'}}
	content.string("comm_id", id)
	content.raw("data", data)
	return c.conn.Tell(ctx, wire.Request{
		Channel: wire.Shell, ID: wire.NewID(), Type: "comm_msg", Content: append(content.b, '}'),
	})
}
