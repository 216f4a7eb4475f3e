package kernel

import (
	"context"
	"fmt"
	"iter"
	"sync"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// Client is one more client of a kernel's process beside the engine, as Jupyter's clients are, with sockets of
// its own for requests. Its methods are safe for concurrent use. It ends with the process, or with Close.
type Client struct {
	conv  *conversation
	links *links
	take  func(wire.Message)
	done  chan struct{}
	end   sync.Once
}

// Join connects one more client to the kernel's process. take is given each message that is for the client alone: the
// replies to its requests, and what the kernel asks on stdin. It is called from several goroutines and must not
// wait. What the kernel tells all, Hear has. ctx bounds the connecting. The error is a *wire.Death once the process is gone.
func (k *Kernel) Join(ctx context.Context, take func(wire.Message)) (*Client, error) {
	c, err := k.current().conv.join(ctx, take)
	if err != nil {
		return nil, fmt.Errorf("cannot join kernel: %w", err)
	}
	return c, nil
}

func (c *conversation) join(ctx context.Context, take func(wire.Message)) (*Client, error) {
	connecting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.life, cancel)() // nobody listens any more
	ls, err := connect(connecting, c.o, c.shell.signer, newIdentity(), false)
	switch {
	case err != nil && c.life.Err() != nil:
		return nil, c.await(ctx)
	case err != nil:
		return nil, err
	}
	client := &Client{conv: c, links: ls, take: take, done: make(chan struct{})}
	if !c.admit(client) {
		ls.close()
		return nil, c.await(ctx)
	}
	for _, l := range ls.all() {
		go client.read(l)
	}
	return client, nil
}

// Done is closed when the client has ended.
func (c *Client) Done() <-chan struct{} { return c.done }

// Close ends the client; the kernel drops what it has yet to say to it. It returns at once.
func (c *Client) Close() {
	c.end.Do(func() {
		c.conv.leave(c)
		c.links.close()
		close(c.done)
	})
}

// Send signs a message and sends it as it is on its channel, one of those that take requests. Message.Check has passed it.
func (c *Client) Send(ctx context.Context, m *wire.Message) error {
	l := c.links.of(m.Channel)
	if l == nil {
		return fmt.Errorf("cannot send %s: channel %q takes no requests", m.Type(), m.Channel)
	}
	return c.conv.explain(ctx, m.Type(), l.sock.send(ctx, l.signer.Seal(m)...))
}

// Follow has all messages kept that belong to a request which this client is about to Send, for the loop that it returns,
// which must be run: it is as that of Kernel.Ask, and begins once sent has what came of sending.
// The error is a *wire.Death, or says that a request with this msg_id is under way.
func (c *Client) Follow(ctx context.Context, id string, sent <-chan error) (func(context.Context) iter.Seq2[wire.Message, error], error) {
	in, err := c.conv.register(ctx, id)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) iter.Seq2[wire.Message, error] {
		return c.conv.messages(ctx, id, in, func() error {
			select {
			case err := <-sent:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}, nil
}

// Flush returns when the kernel has answered a request of the engine's that follows, on this client's shell socket,
// all that were sent before: the kernel has taken those, or never will. take is not given what comes of it.
func (c *Client) Flush(ctx context.Context) error {
	req := wire.Request{Channel: wire.Shell, ID: wire.NewID(), Type: "kernel_info_request"}
	in, err := c.conv.register(ctx, req.ID)
	if err != nil {
		return err
	}
	send := func() error {
		if c.links.shell.send(ctx, c.conv.session, req) == nil {
			return nil
		}
		return c.conv.tell(ctx, req) // the client has ended: what it has sent came before, about
	}
	for m, err := range c.conv.messages(ctx, req.ID, in, send) {
		if err != nil || m.Channel == wire.IOPub && m.Get("execution_state").String() == "idle" {
			return err
		}
	}
	return nil
}

// read hands on what comes from a link until its socket fails, which is the end of the client.
func (c *Client) read(l *link) {
	m, err := l.recv()
	for ; err == nil; m, err = l.recv() {
		c.conv.came.Add(1)
		if l.channel == wire.Stdin {
			c.conv.fence()
		}
		if m.ParentSession() != c.conv.session {
			c.take(m)
		}
		if in := c.conv.inbox(m.ParentID()); in != nil {
			in.push(m)
		}
	}
	c.Close()
	c.conv.readers.Done()
}
