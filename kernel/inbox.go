package kernel

import (
	"context"
	"sync"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

const (
	inboxBytes   = 4 << 20 // that an inbox holds before its readers wait
	messageBytes = 1 << 10 // that a message costs besides what it says
)

// inbox holds the messages of one ask between the readers, which put them in,
// and the asker's loop.
type inbox struct {
	ready chan struct{} // holds a token when there is something to see

	mu      sync.Mutex
	space   sync.Cond // signalled when readers may go on
	queue   []wire.Message
	spare   []wire.Message // the memory of the batch before
	bytes   int
	flowing bool  // readers do not wait: the kernel is gone, what remains is little
	closed  bool  // nobody looks any more
	err     error // comes behind the queue
}

func newInbox() *inbox {
	in := &inbox{ready: make(chan struct{}, 1)}
	in.space.L = &in.mu
	return in
}

// push puts a message in, once there is room. It returns false if nobody will see it.
func (in *inbox) push(m wire.Message) bool {
	in.mu.Lock()
	for in.bytes > inboxBytes && !in.flowing && !in.closed {
		in.space.Wait()
	}
	if in.closed {
		in.mu.Unlock()
		return false
	}
	in.queue = append(in.queue, m)
	in.bytes += m.Size() + messageBytes
	first := len(in.queue) == 1
	in.mu.Unlock()
	if first {
		in.signal()
	}
	return true
}

func (in *inbox) signal() {
	select {
	case in.ready <- struct{}{}:
	default:
	}
}

// take waits for messages and returns all that are there. With an error, which
// is ctx's or fail's, they are the last.
func (in *inbox) take(ctx context.Context) ([]wire.Message, error) {
	for {
		done := ctx.Err()
		in.mu.Lock()
		batch, err := in.queue, in.err
		if len(batch) > 0 {
			in.queue, in.spare = in.spare, nil
			in.bytes = 0
			in.space.Broadcast()
		}
		in.mu.Unlock()
		if done != nil {
			return batch, done
		}
		if len(batch) > 0 || err != nil {
			return batch, err
		}
		select {
		case <-in.ready:
		case <-ctx.Done():
		}
	}
}

// reuse gives the memory of a batch back, all of which was seen.
func (in *inbox) reuse(batch []wire.Message) {
	clear(batch)
	in.mu.Lock()
	in.spare = batch[:0]
	in.mu.Unlock()
}

// flow lets the readers go on, for good.
func (in *inbox) flow() {
	in.mu.Lock()
	in.flowing = true
	in.space.Broadcast()
	in.mu.Unlock()
}

// fail ends the inbox with an error behind what it holds.
func (in *inbox) fail(err error) {
	in.mu.Lock()
	in.err = err
	in.mu.Unlock()
	in.signal()
}

// close ends the inbox and hands what nobody saw to stray: first the rest of the
// last batch, then what is in the queue, in the order of arrival.
func (in *inbox) close(rest []wire.Message, stray func(wire.Message)) {
	for {
		for _, m := range rest {
			stray(m)
		}
		in.mu.Lock()
		rest, in.queue, in.bytes = in.queue, nil, 0
		in.closed = len(rest) == 0
		in.space.Broadcast()
		closed := in.closed
		in.mu.Unlock()
		if closed {
			return
		}
	}
}
