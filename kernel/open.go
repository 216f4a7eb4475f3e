package kernel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

const nudgeEvery = 500 * time.Millisecond // while the kernel has not answered

var errExited = errors.New("the kernel's process ended before it answered")

// open connects to a kernel that runs or starts, and returns when it has answered
// and everything that it publishes from now on will arrive. It ends with an error
// once ctx is done, the process exits, or the kernel breaks the protocol.
func open(ctx context.Context, o openOptions) (*conversation, error) {
	if o.limit == 0 {
		o.limit = defaultLimit
	}
	if o.stray == nil {
		o.stray = func(wire.Message) {}
	}
	if o.log == nil {
		o.log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if o.died != nil {
		go func() {
			select {
			case <-o.died:
				cancel(errExited)
			case <-ctx.Done():
			}
		}()
	}
	signer, err := wire.NewSigner(o.info.SignatureScheme, o.info.Key)
	if err != nil {
		return nil, err
	}
	session := newIdentity()
	ls, err := connect(ctx, o, signer, session, true)
	if err != nil {
		return nil, err
	}
	c := &conversation{
		o: o, links: ls, session: session, hello: newHello(),
		ended: make(chan struct{}), asks: map[string]*inbox{}, clients: map[*Client]bool{}, fail: cancel,
	}
	c.life, c.stop = context.WithCancel(context.Background())
	for _, l := range c.all() {
		c.readers.Add(1)
		go c.read(l)
	}
	if err := c.greet(ctx); err != nil {
		c.end(nil)
		return nil, err
	}
	return c, nil
}

// greet subscribes to everything and waits until the kernel has said who it is and
// the subscription is known to be live. Kernels welcome only the first subscriber
// of a topic (JEP 65), so we subscribe to one more, that nobody else knows; kernels
// older than JEP 65 never do, but publish the status of our request.
func (c *conversation) greet(ctx context.Context) error {
	for _, topic := range []string{"", c.hello.topic} {
		if err := c.iopub.sock.send(ctx, []byte("\x01"+topic)); err != nil {
			return err
		}
	}
	again := time.NewTicker(nudgeEvery)
	defer again.Stop()
	to := []*link{c.shell, c.control}
	if c.o.died != nil { // it is new, and nothing keeps it from answering on shell
		to = to[:1]
	}
	for greeted := false; !greeted; to = []*link{c.shell, c.control} {
		for _, l := range to {
			if err := l.send(ctx, c.session, c.hello.request(l.channel)); err != nil && ctx.Err() == nil {
				return err
			}
		}
		var err error
		if greeted, err = c.hello.wait(ctx, again.C); err != nil {
			return err
		}
	}
	if v := c.info().Protocol; v != "" && !strings.HasPrefix(v, "5.") {
		return fmt.Errorf("kernel speaks version %.20q of the protocol, not 5", v)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = c.o.broken
	return c.lost
}
