package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/fleet/local"
	"github.com/k2sandbox/k2sandbox/server/e2b"
	"github.com/k2sandbox/k2sandbox/server/sandboxes"
)

// backend is what answers requests: the sandboxes of a folder, which one process at a time has, and the APIs in front of them.
type backend struct {
	runtime *local.Runtime
	boxes   *fleet.Fleet
	native  *sandboxes.API
	e2b     *e2b.API
	own     http.Handler
	debug   map[int]http.Handler // by port
	has     context.Context      // is done when it begins to let go of the sandboxes
	unwatch context.CancelFunc
}

// prepare makes what can be made while another process has the sandboxes.
func (f *facade) prepare(ctx context.Context) (*backend, error) {
	o := f.o
	runtime, err := o.runtime(ctx, f.dir, f.log)
	if err != nil {
		return nil, err
	}
	network := f.sockets[0].ln.Addr().Network()
	if o.debug {
		network = "tcp"
	}
	if err = exposed(runtime.Isolation().Level, network, f.keys); err == nil {
		err = o.jupyter.checkSeed()
	}
	if err != nil {
		return nil, errors.Join(err, runtime.Close())
	}
	return &backend{runtime: runtime}, nil
}

// open takes the sandboxes. Where there is an error it has let go of all.
func (b *backend) open(ctx context.Context, f *facade, m memory) error {
	o := f.o
	boxes, err := fleet.Open(o.confined.fleet(f.dir, b.runtime, o.onStop == "end", f.log))
	if err != nil {
		return errors.Join(err, b.runtime.Close())
	}
	b.boxes = boxes
	sessions, err := o.console.open(f.sockets[0].ln, f.dir, f.keys)
	if err != nil {
		b.release()
		return err
	}
	templates := func() []api.Template { return o.confined.templates(b.runtime, f.log) }
	b.own, b.native, b.e2b = o.apis(boxes, templates, o.confined.capabilities(b.runtime), f.keys, sessions, f.tracer, f.log)
	b.native.Recall(m.Native)
	b.e2b.Recall(m.E2B)
	if o.behind {
		b.own = forwarded(b.own)
	}
	b.has, b.unwatch = context.WithCancel(ctx)
	b.own = o.untilIdle(b.has, b.own, boxes, f.log, f.stop)
	b.debug = map[int]http.Handler{}
	for _, s := range f.sockets {
		if s.port != 0 && b.debug[s.port] == nil {
			b.debug[s.port] = b.e2b.Debug(s.port)
		}
	}
	return nil
}

// ServeHTTP is for http.Handler.
func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h, ok := b.debug[portOf(r)]; ok {
		h.ServeHTTP(w, r)
		return
	}
	b.own.ServeHTTP(w, r)
}

// close ends it, and the sandboxes where they are to end with it.
func (b *backend) close(ctx context.Context) error {
	b.unwatch()
	return errors.Join(b.boxes.Close(ctx), b.runtime.Close())
}

// releaseTime is how long what is going on with sandboxes may take to end.
const releaseTime = 30 * time.Second

// release leaves the sandboxes to another process, and returns what that has to know.
func (b *backend) release() (memory, error) {
	var m memory
	if b.unwatch != nil {
		b.unwatch()
		m = memory{b.native.Memory(), b.e2b.Memory()}
	}
	ctx, cancel := context.WithTimeout(context.Background(), releaseTime)
	defer cancel()
	return m, errors.Join(b.boxes.Release(ctx), b.runtime.Close())
}
