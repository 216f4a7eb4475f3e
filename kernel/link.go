package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

const dialRetry = 2 * time.Millisecond // while a kernel that starts has no sockets yet: see connect

// link is the socket of one channel, with what receiving from it takes.
type link struct {
	channel wire.Channel
	sock    *socket
	signer  wire.Signer
	log     *slog.Logger
	seen    wire.History
	dropped int
}

// links are the sockets of a conversation, or of one more client of the kernel, which has no iopub.
type links struct{ shell, control, stdin, iopub *link }

func (ls *links) all() []*link {
	all := []*link{ls.shell, ls.control, ls.stdin}
	if ls.iopub != nil {
		all = append(all, ls.iopub)
	}
	return all
}

// of returns the link that requests of the channel go out by, or nil.
func (ls *links) of(ch wire.Channel) *link {
	switch ch {
	case wire.Shell:
		return ls.shell
	case wire.Control:
		return ls.control
	case wire.Stdin:
		return ls.stdin
	}
	return nil
}

func (ls *links) close() {
	for _, l := range ls.all() {
		if l.sock != nil {
			l.sock.close()
		}
	}
}

// connect dials the three channels of requests, and iopub where it is listened to, at the same time.
// The dealers have one identity: a kernel sends an input_request on stdin to the identity of the request on shell.
//
// It drops one where it does not know that identity on stdin yet. A handshake is over for us before the kernel has read
// the READY with the identity (ZMTP 3.0, NULL), so that one more client of a kernel that answers already, which may send
// a run at once, dials stdin first: by the end of the other handshakes the kernel's one thread for all has read it.
// The conversation sends none before it has been greeted.
func connect(ctx context.Context, o openOptions, signer wire.Signer, identity string, listen bool) (*links, error) {
	to := func(ch wire.Channel) *link { return &link{channel: ch, signer: signer, log: o.log} }
	ls := &links{shell: to(wire.Shell), control: to(wire.Control), stdin: to(wire.Stdin)}
	if listen {
		ls.iopub = to(wire.IOPub)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := ls.shell.await(ctx, o); err != nil {
		return nil, err
	}
	var (
		dials sync.WaitGroup
		once  sync.Once
		first error
	)
	together := ls.all()
	if !listen {
		if err := ls.stdin.dial(ctx, o, identity); err != nil {
			return nil, err
		}
		together = []*link{ls.shell, ls.control}
	}
	for _, l := range together {
		dials.Go(func() {
			if err := l.dial(ctx, o, identity); err != nil {
				once.Do(func() { first = err })
				cancel()
			}
		})
	}
	dials.Wait()
	if first != nil {
		ls.close()
		return nil, first
	}
	return ls, nil
}

// await returns when there is something to dial: it looks for a file, and to dial in vain, by all links again and again,
// would take longer than all else that we do while a kernel starts.
func (l *link) await(ctx context.Context, o openOptions) error {
	endpoint, err := o.info.Endpoint(l.channel)
	if err != nil {
		return err
	}
	path, isFile := strings.CutPrefix(endpoint, "ipc://")
	for isFile {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			return nil
		}
		select {
		case <-time.After(dialRetry):
		case <-ctx.Done():
			return fmt.Errorf("cannot connect to %s: %w while it is not there", endpoint, context.Cause(ctx))
		}
	}
	return nil
}

// dial connects the link, trying again while the kernel does not listen yet.
func (l *link) dial(ctx context.Context, o openOptions, identity string) error {
	endpoint, err := o.info.Endpoint(l.channel)
	if err != nil {
		return err
	}
	typ := typeDealer
	if l.channel == wire.IOPub {
		typ, identity = typeSub, ""
	}
	for {
		l.sock, err = dial(ctx, typ, identity, endpoint, o.limit)
		if err == nil || !notYet(err) {
			return err
		}
		select {
		case <-time.After(dialRetry):
		case <-ctx.Done():
			return fmt.Errorf("%w while trying again: %w", context.Cause(ctx), err)
		}
	}
}

// notYet reports whether a dial failed as it does before the kernel listens, or
// while it goes away.
func notYet(err error) bool {
	for _, e := range []error{os.ErrNotExist, syscall.ECONNREFUSED, syscall.ECONNRESET,
		syscall.EPIPE, syscall.EAGAIN, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// send signs and sends a request.
func (l *link) send(ctx context.Context, session string, req wire.Request) error {
	return l.sock.send(ctx, l.signer.Encode(session, req)...)
}

// recv returns the next message that is one. What is not, or is not signed by
// the key, or was there before, is dropped. It ends with the socket's error.
func (l *link) recv() (wire.Message, error) {
	for {
		frames, err := l.sock.recv()
		if err != nil {
			return wire.Message{}, err
		}
		m, err := wire.Decode(l.channel, frames, l.signer)
		if err == nil && l.seen.Repeats(&m) {
			err = errors.New("the same message came before")
		}
		if err == nil {
			return m, nil
		}
		l.drop(err)
	}
}

// drop logs a message that is dropped: the first, the second, the fourth …, since
// a hostile kernel can send many.
func (l *link) drop(err error) {
	l.dropped++
	if l.dropped&(l.dropped-1) == 0 {
		l.log.Warn("dropped a message of the kernel", "channel", l.channel, "error", err, "dropped", l.dropped)
	}
}

// newIdentity returns a ZeroMQ identity, which must not start with a zero byte.
func newIdentity() string { return uuid.NewString() }
