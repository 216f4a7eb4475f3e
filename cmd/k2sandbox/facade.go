package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/internal/netraw"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/trace"
)

// facade is a server's process as its clients see it: listeners, connections, and behind a gate what answers, which can
// be another process.
type facade struct {
	o         *serving
	sockets   sockets
	dir       string
	temporary bool // dir is this server's alone, and of those that take over from it
	keys      *server.Keys
	secure    *tls.Config // nil: without TLS
	log       *slog.Logger
	tracer    trace.Tracer    // nil: there are no traces
	ctx       context.Context // is done when the server is to end
	stop      context.CancelFunc

	gate      *server.Gate
	control   *controlServer
	servers   []*http.Server
	accepting sync.WaitGroup
	open      occupancy
	failed    chan error    // why it cannot go on
	begun     chan struct{} // closed when it answers: who has been told of it, and asks at the control socket, waits for that
	handed    chan struct{} // closed when another process has taken over

	mu      sync.RWMutex // held by who changes backend
	backend *backend     // nil: another process has the sandboxes

	handedOver *fleet.Fleet // what is left of it here then
}

// begin has a backend that is open answer, and calls tell just before.
func (f *facade) begin(b *backend, tell func() error) (err error) {
	f.gate = server.NewGate(b)
	f.failed, f.begun, f.handed = make(chan error, len(f.sockets)+1), make(chan struct{}), make(chan struct{})
	if f.control, err = serveControl(f.dir, f.controls(), f.log); err != nil {
		return err
	}
	if err := tell(); err != nil {
		f.control.leave()
		f.control.close()
		return err
	}
	f.backend = b
	for _, s := range f.sockets {
		f.serve(s)
	}
	close(f.begun)
	return nil
}

func (f *facade) serve(s socket) {
	secure, h := f.secure, http.Handler(f)
	if s.port != 0 {
		secure, h = nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			f.ServeHTTP(w, r.WithContext(withPort(r.Context(), s.port)))
		})
	}
	srv := newHTTPServer(h, secure, f.log)
	srv.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			f.open.add(1)
		case http.StateHijacked, http.StateClosed:
			f.open.add(-1)
		}
	}
	f.servers = append(f.servers, srv)
	f.accepting.Go(func() {
		switch err := serveOn(srv, netraw.Listener(s.ln)); {
		case errors.Is(err, net.ErrClosed) || errors.Is(err, http.ErrServerClosed):
		case s.port != 0:
			f.log.Error("a debug port is not served any more", "address", s.name, "error", err)
		default:
			f.failed <- err
		}
	})
}

// ServeHTTP is for http.Handler.
func (f *facade) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.open.add(1)
	defer f.open.add(-1)
	f.gate.ServeHTTP(w, r)
}

// wait returns once the server has ended: its sandboxes, too, where they are to end with it.
func (f *facade) wait() error {
	var err error
	select {
	case err = <-f.failed:
	case <-f.ctx.Done():
	case <-f.handed:
	}
	f.mu.Lock() // an upgrade that is under way comes to its end before
	defer f.mu.Unlock()
	defer f.control.close()
	if f.backend == nil && err == nil {
		f.drain()
		return nil
	}
	f.log.Info("stopping")
	if f.backend != nil {
		f.control.leave()
		limit, cancel := context.WithTimeout(context.Background(), 2*closing)
		defer cancel()
		err = errors.Join(err, f.backend.close(limit))
	}
	f.shutdown()
	return err
}

// shutdown lets answers come to their end, which they do as what they are about has ended.
func (f *facade) shutdown() {
	limit, cancel := context.WithTimeout(context.Background(), closing)
	defer cancel()
	var work sync.WaitGroup
	for _, srv := range f.servers {
		work.Go(func() {
			if srv.Shutdown(limit) != nil {
				_ = srv.Close() // of clients that do not read to the end
			}
		})
	}
	work.Wait()
}

// drain goes on with what is open until nothing is, the time for it is over, or there is no server any more.
func (f *facade) drain() {
	over := time.NewTimer(time.Duration(f.o.drainTime))
	defer over.Stop()
	ctx, cancel := context.WithCancel(f.ctx)
	alone := make(chan struct{})
	go func() { defer close(alone); tellUses(ctx, f.dir, f.handedOver) }()
	defer func() { cancel(); <-alone }()
	f.accepting.Wait()
	select {
	case <-f.open.empty():
		f.log.Info("all requests have been answered")
		return
	case <-over.C:
		f.log.Warn("requests are cut, as their time is over", "after", f.o.drainTime.String())
	case <-f.ctx.Done():
		f.log.Info("stopping")
	case <-alone:
		f.log.Warn("requests are cut, as there is no server any more")
	}
	for _, srv := range f.servers {
		_ = srv.Close()
	}
}

// occupancy counts what is open.
type occupancy struct {
	mu   sync.Mutex
	n    int
	none chan struct{} // closed when there is nothing; nil: nobody waits for that
}

func (o *occupancy) add(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.n += n
	o.settle()
}

func (o *occupancy) settle() {
	if o.none != nil && o.n == 0 {
		close(o.none)
		o.none = nil
	}
}

// empty returns what is closed as soon as nothing is open. It is asked once.
func (o *occupancy) empty() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	none := make(chan struct{})
	o.none = none
	o.settle()
	return none
}
