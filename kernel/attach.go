package kernel

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// AttachOptions are those of Attach; none is needed.
type AttachOptions struct {
	Timeout      time.Duration // until the first answer; 0 is 60 s
	MessageLimit int64         // bytes of one message from the kernel; 0 is 256 MiB
	Log          *slog.Logger  // nil discards
}

// Attach connects to a kernel that was started elsewhere, by its connection file,
// and returns when it answers. Such a kernel is dead when its sockets close or
// three heartbeats, a second each, were missed; how it died nobody knows. It
// cannot be restarted (ErrNotOwned), and Close leaves it running.
func Attach(ctx context.Context, connectionFile string, o AttachOptions) (*Kernel, error) {
	k, err := attach(ctx, connectionFile, o)
	if err != nil {
		return nil, fmt.Errorf("cannot attach to kernel of %s: %w", connectionFile, err)
	}
	return k, nil
}

func attach(ctx context.Context, file string, o AttachOptions) (*Kernel, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if o.Timeout <= 0 {
		o.Timeout = defaultStartTimeout
	}
	k := newKernel(Options{Log: o.Log})
	k.file = file
	if k.conn, err = wire.ParseConnection(data); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	l := newLife()
	l.conv, err = open(ctx, openOptions{
		info: k.conn, limit: o.MessageLimit, stray: k.strays.push, hear: k.ears.hear, broken: l.fail, log: k.log,
	})
	if err != nil {
		return nil, late(ctx, err)
	}
	k.life = l
	go k.listen(l) // ends with the kernel or Close
	return k, nil
}
