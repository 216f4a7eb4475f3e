package kernel

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

const (
	drainTick = 50 * time.Millisecond // between looks at what still comes from a dead kernel's sockets
	awaitTime = 10 * time.Second      // from a failed send to the death that explains it
	fenceTime = time.Second           // for the kernel to say how far it has published
)

var errClosed = errors.New("conversation with the kernel was closed")

// openOptions are what open needs to know.
type openOptions struct {
	info   wire.ConnectionInfo
	limit  int64              // bytes of a message; 0 stands for 256 MiB
	died   <-chan struct{}    // closed when the process exits; nil for attached kernels
	stray  func(wire.Message) // takes a message of no ask under way; must not block long
	hear   func(wire.Message) // takes what clients other than us hear, too; nil: there are none
	broken func(error)        // called once if a socket fails while the conversation is open
	log    *slog.Logger
}

// conversation is the connection with one process of a kernel: the asks under
// way, and the readers that route to them what the kernel says. It is safe for
// concurrent use.
//
// A reader per socket decodes messages and puts each into the inbox of its parent.
// Since one reader does all of iopub, an ask that is given a message has been
// given all of its messages that the kernel published before.
type conversation struct {
	o openOptions
	*links
	session string
	hello   *hello
	readers sync.WaitGroup
	came    atomic.Int64    // messages
	life    context.Context // ends when end begins
	stop    context.CancelFunc
	ended   chan struct{} // closed when end is over
	death   error         // what asks end with; written before ended is closed

	mu      sync.Mutex
	asks    map[string]*inbox // by msg_id
	clients map[*Client]bool
	dying   bool        // end was called
	lost    error       // of the first socket that failed
	fail    func(error) // whom to tell
}

// read routes what comes from a link until its socket fails.
func (c *conversation) read(l *link) {
	m, err := l.recv()
	for ; err == nil; m, err = l.recv() {
		c.came.Add(1)
		switch l.channel {
		case wire.Stdin:
			c.fence()
		case wire.IOPub:
			c.publish(m)
		}
		c.route(m)
	}
	c.readers.Done() // first, for broken may call end
	c.lose(fmt.Errorf("%s: %w", l.channel, err))
}

// fence waits until all is routed that the kernel has published before now: a
// question must not overtake, on its own socket, what was printed before it. The
// idle of a request on control, which ipykernel answers in a thread of its own, is
// published behind everything else.
func (c *conversation) fence() {
	ctx, cancel := context.WithTimeout(c.life, fenceTime)
	defer cancel()
	for m, err := range c.ask(ctx, wire.Request{Channel: wire.Control, ID: wire.NewID(), Type: "kernel_info_request"}) {
		if err != nil || m.Channel == wire.IOPub && m.Get("execution_state").String() == "idle" {
			return
		}
	}
}

// lose tells the owner about the first socket that fails before end was called.
func (c *conversation) lose(err error) {
	c.mu.Lock()
	fail := c.fail
	if c.dying || c.lost != nil {
		fail = nil
	}
	if c.lost == nil {
		c.lost = err
	}
	c.mu.Unlock()
	if fail != nil {
		fail(err)
	}
}

// inbox returns that of a request under way; nil where it is none.
func (c *conversation) inbox(id string) *inbox {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asks[id]
}

// admit adds a client, whose readers are counted then; false where the conversation is about to end.
func (c *conversation) admit(client *Client) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dying {
		return false
	}
	c.readers.Add(len(client.links.all()))
	c.clients[client] = true
	return true
}

func (c *conversation) leave(client *Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.clients, client)
}

func (c *conversation) route(m wire.Message) {
	if in := c.inbox(m.ParentID()); in != nil && in.push(m) {
		return
	}
	if !c.hello.takes(&m) {
		c.o.stray(m)
	}
}

// info returns what the kernel said of itself when the conversation was opened.
func (c *conversation) info() wire.Info { return c.hello.info }

// ask sends the request and yields its messages: the contract of executor.Conn's Ask.
func (c *conversation) ask(ctx context.Context, req wire.Request) iter.Seq2[wire.Message, error] {
	return func(yield func(wire.Message, error) bool) {
		in, err := c.register(ctx, req.ID)
		if err != nil {
			yield(wire.Message{}, err)
			return
		}
		c.messages(ctx, req.ID, in, func() error { return c.tell(ctx, req) })(yield)
	}
}

// messages calls send and yields what comes into the inbox of a request, which ends with the loop.
func (c *conversation) messages(ctx context.Context, id string, in *inbox, send func() error) iter.Seq2[wire.Message, error] {
	return func(yield func(wire.Message, error) bool) {
		var rest []wire.Message
		defer func() {
			in.close(rest, c.o.stray)
			c.mu.Lock()
			delete(c.asks, id)
			c.mu.Unlock()
		}()
		if err := send(); err != nil {
			yield(wire.Message{}, err)
			return
		}
		for {
			batch, err := in.take(ctx)
			for i, m := range batch {
				if !yield(m, nil) {
					rest = batch[i+1:]
					return
				}
			}
			if err != nil {
				yield(wire.Message{}, err)
				return
			}
			in.reuse(batch)
		}
	}
}

// register makes the inbox of a request.
func (c *conversation) register(ctx context.Context, id string) (*inbox, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dying {
		c.mu.Unlock()
		err := c.await(ctx)
		c.mu.Lock()
		return nil, err
	}
	if id == "" || c.asks[id] != nil {
		return nil, fmt.Errorf("cannot send request: msg_id %q is not unique", id)
	}
	in := newInbox()
	c.asks[id] = in
	return in, nil
}

// await waits for end and returns the death.
func (c *conversation) await(ctx context.Context) error {
	select {
	case <-c.ended:
		return c.death
	case <-ctx.Done():
		return ctx.Err()
	}
}

// tell sends a message that has no answer. Where it cannot because the kernel
// died, the error is that of the death.
func (c *conversation) tell(ctx context.Context, req wire.Request) error {
	l := c.of(req.Channel)
	if l == nil {
		return fmt.Errorf("cannot send %s: channel %q takes no requests", req.Type, req.Channel)
	}
	return c.explain(ctx, req.Type, l.send(ctx, c.session, req))
}

// explain returns the death where a message could not be sent because of it.
func (c *conversation) explain(ctx context.Context, kind string, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	soon, cancel := context.WithTimeout(ctx, awaitTime)
	defer cancel()
	if death := c.await(soon); soon.Err() == nil {
		return death
	}
	return fmt.Errorf("cannot send %s: %w", kind, err)
}

// nudge sends a kernel_info_request on shell, from a socket of its own whose
// answer nobody reads. ipykernel needs a message there to notice an interrupt
// while its loop waits (ipykernel #881), and those of 7.0 to 7.3 a new connection
// to notice requests that they forgot (ipykernel #1554).
func (c *conversation) nudge(ctx context.Context) error {
	endpoint, err := c.o.info.Endpoint(wire.Shell)
	if err != nil {
		return err
	}
	sock, err := dial(ctx, typeDealer, newIdentity(), endpoint, c.o.limit)
	if err != nil {
		return err
	}
	defer sock.close()
	return sock.send(ctx, c.shell.signer.Encode(c.session, c.hello.request(wire.Shell))...)
}

// beat does one round trip with the kernel's heartbeat, on a new socket, for one
// that missed an answer is of no more use.
func (c *conversation) beat(ctx context.Context) error {
	endpoint, err := c.o.info.Endpoint(wire.Heartbeat)
	if err != nil {
		return err
	}
	sock, err := dial(ctx, typeReq, newIdentity(), endpoint, maxCommand)
	if err != nil {
		return err
	}
	defer sock.close()
	defer context.AfterFunc(ctx, sock.close)()
	if err = sock.send(ctx, nil, []byte("ping")); err == nil { // a REQ's message has an empty frame first
		_, err = sock.recv()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// end ends the conversation with a kernel that is gone: it reads what the sockets
// hold, closes them, and ends every ask, behind what it was given, with death. A nil
// death stands for our own wish to leave a kernel that lives, whose sockets are closed
// at once. No goroutine is left when it returns. It may be called more than once; the
// first death counts.
func (c *conversation) end(death error) {
	c.mu.Lock()
	if c.dying {
		c.mu.Unlock()
		<-c.ended
		return
	}
	c.dying = true
	c.stop()
	for _, in := range c.asks {
		in.flow()
	}
	c.mu.Unlock()

	drained := make(chan struct{})
	go func() { c.readers.Wait(); close(drained) }()
	if death == nil {
		death = errClosed
	} else {
		c.drain(drained)
	}
	c.links.close()
	c.mu.Lock()
	for client := range c.clients {
		client.links.close()
	}
	c.mu.Unlock()
	<-drained

	c.mu.Lock()
	c.death = death
	for _, in := range c.asks {
		in.fail(death)
	}
	c.mu.Unlock()
	close(c.ended)
}

// drain lets the readers read until the sockets end. Children of the kernel, or the
// kernel where it is not ours, may hold them open: then it ends after five ticks in
// which nothing came, or twenty. A program that gets no processor misses ticks, too.
func (c *conversation) drain(drained <-chan struct{}) {
	tick := time.NewTicker(drainTick)
	defer tick.Stop()
	before := c.came.Load()
	for all, quiet := 0, 0; all < 20 && quiet < 5; all, quiet = all+1, quiet+1 {
		select {
		case <-drained:
			return
		case <-tick.C:
		}
		if now := c.came.Load(); now > before {
			before, quiet = now, -1
		}
	}
}
