package channels

import (
	"sync"

	"github.com/coder/websocket"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// parcel is a message for clients, with what it is in the WebSockets of each kind, made once for all of them.
type parcel struct {
	message wire.Message // within v1
	v1      []byte
	legacy  func() frame
}

// frame is a message of a WebSocket.
type frame struct {
	typ  websocket.MessageType
	data []byte // nil: the message cannot be sent so
}

func newParcel(m wire.Message) *parcel {
	p := &parcel{message: m, v1: encodeV1(&m)}
	if parts, err := splitV1(p.v1); err == nil { // so that it is in memory once
		place(&p.message, parts)
	}
	p.legacy = sync.OnceValue(func() frame { return legacy(&p.message) })
	return p
}

// size returns about how many bytes the parcel has in memory.
func (p *parcel) size() int64 { return int64(len(p.v1)) + 512 }

func legacy(m *wire.Message) frame {
	if len(m.Buffers) == 0 {
		return frame{websocket.MessageText, encodeText(m)}
	}
	data, err := encodeBinary(m)
	if err != nil {
		data = nil
	}
	return frame{websocket.MessageBinary, data}
}
