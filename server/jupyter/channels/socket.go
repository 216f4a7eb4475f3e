package channels

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// lastWords is how long a client gets to read what waits when its kernel has ended for good.
const lastWords = 5 * time.Second

// leftOut tells a client of a message that the server between it and us cannot pass on.
const leftOut = "k2sandbox: messages with binary data, as of widgets, are left out here: the Jupyter server in between cannot pass them on.\n"

// socket is the WebSocket of a client.
type socket struct {
	session *session
	conn    *websocket.Conn
	binary  bool          // the client takes binary frames
	noticed bool          // it knows of those that it was not sent
	busy    atomic.Bool   // messages are being sent: behind them no ping and no pong would go out, which the WebSocket gives 5 s
	stop    chan struct{} // closed when nothing more is to be sent
	stopped chan struct{} // closed when nothing more is

	writing context.Context // ends what is being sent
	abort   context.CancelFunc

	cutting sync.Once // of the time until abort

	once   sync.Once
	code   websocket.StatusCode // why stop is closed; 0: the client is gone
	reason string
}

func newSocket(s *session, binary bool) *socket {
	k := &socket{session: s, binary: binary, stop: make(chan struct{}), stopped: make(chan struct{})}
	k.writing, k.abort = context.WithCancel(context.Background())
	return k
}

// serve returns when the client is gone.
func (k *socket) serve(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	k.session.attach(k)
	var work sync.WaitGroup
	work.Go(func() { k.receive(ctx); k.close(0, "") })
	work.Go(func() { k.ping(ctx); k.close(0, "") })
	k.send()
	close(k.stopped)
	k.session.detach(k)
	if k.code != 0 {
		_ = k.conn.Close(k.code, k.reason) // fails where the client is gone
	}
	cancel()
	k.abort()
	_ = k.conn.CloseNow() // fails where it is closed
	work.Wait()
}

// close has the socket send no more and close, with a code unless the client is gone. The first call counts.
func (k *socket) close(code websocket.StatusCode, reason string) {
	k.once.Do(func() {
		k.code, k.reason = code, reason
		close(k.stop)
	})
}

// cut is close for a client that may be stuck in the midst of a message: one that is not still hears the code.
func (k *socket) cut(code websocket.StatusCode, reason string) {
	k.close(code, reason)
	k.cutting.Do(func() { time.AfterFunc(k.session.hub.Bounds.Cut, k.abort) })
}

// hurry bounds the time for what is still to be sent.
func (k *socket) hurry() { time.AfterFunc(lastWords, k.abort) }

// send sends what the session has until the socket is closed, or the session is over.
func (k *socket) send() {
	for {
		select {
		case <-k.stop:
			return
		default:
		}
		p, over := k.session.next(k)
		k.busy.Store(p != nil)
		switch {
		case p != nil:
			if err := k.write(p); err != nil {
				k.session.putBack(p)
				k.close(0, "")
				return
			}
			continue
		case over:
			k.close(websocket.StatusGoingAway, "the kernel has ended")
			return
		}
		select {
		case <-k.session.ready:
		case <-k.stop:
			return
		}
	}
}

func (k *socket) write(p *parcel) error {
	f := frame{websocket.MessageBinary, nil}
	if k.conn.Subprotocol() == protocolV1 {
		f.data = p.v1
	} else if f = p.legacy(); f.data == nil || f.typ == websocket.MessageBinary && !k.binary {
		if k.noticed {
			return nil
		}
		k.noticed = true
		notice := compose(p.message.Session(), wire.IOPub, "stream", p.message.Parent, map[string]any{"name": "stderr", "text": leftOut})
		f = legacy(&notice)
	}
	ctx, cancel := context.WithTimeout(k.writing, k.session.hub.Bounds.Pong)
	defer cancel()
	return k.conn.Write(ctx, f.typ, f.data)
}

// receive passes on what the client says until it is gone, or says what cannot be read.
func (k *socket) receive(ctx context.Context) {
	for {
		typ, data, err := k.conn.Read(ctx)
		if errors.Is(err, errFrameSize) {
			k.close(websocket.StatusMessageTooBig, reason(errFrameSize))
		}
		if err != nil {
			return
		}
		m, err := k.decode(typ, data)
		if err != nil {
			k.close(websocket.StatusInvalidFramePayloadData, reason(err))
			return
		}
		k.session.send(ctx, &m)
	}
}

func (k *socket) decode(typ websocket.MessageType, data []byte) (wire.Message, error) {
	switch {
	case typ == websocket.MessageText:
		return decodeText(data)
	case k.conn.Subprotocol() == protocolV1:
		return decodeV1(data)
	}
	return decodeBinary(data)
}

// reason is an error as a close frame can have it.
func reason(err error) string {
	text := err.Error()
	for len(text) > 123 { // RFC 6455, section 5.5
		text = string([]rune(text)[:len([]rune(text))-1])
	}
	return text
}

// ping returns when the client does not answer any more.
func (k *socket) ping(ctx context.Context) {
	tick := time.NewTicker(k.session.hub.o.Ping)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if k.busy.Load() {
			continue
		}
		patient, cancel := context.WithTimeout(ctx, k.session.hub.Bounds.Pong)
		_ = k.conn.Ping(patient) // fails, too, where a message began to be sent just before, or the client is gone, which receive sees
		late := patient.Err() != nil
		cancel()
		if late {
			return
		}
	}
}
