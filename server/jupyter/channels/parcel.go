package channels

import (
	"sync"

	"github.com/coder/websocket"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// parcel is a message for clients, with what it is in the WebSockets of each kind, made once for all.
type parcel struct {
	message wire.Message
	size    int // bytes, about
	v1      func() []byte
	legacy  func() frame
}

// frame is a message of a WebSocket.
type frame struct {
	typ  websocket.MessageType
	data []byte // nil: the message cannot be sent so
}

func newParcel(m wire.Message) *parcel {
	return &parcel{
		message: m, size: m.Size() + 512,
		v1:     sync.OnceValue(func() []byte { return encodeV1(&m) }),
		legacy: sync.OnceValue(func() frame { return legacy(&m) }),
	}
}

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
