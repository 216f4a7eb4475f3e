package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"syscall"

	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/e2b"
)

// debugPorts are the listeners for clients of E2B in debug mode, by port. They call them "localhost", which
// is either of two addresses.
type debugPorts struct {
	listeners map[int][]net.Listener
	work      sync.WaitGroup
}

// debugPorts opens them, if they are asked for.
func (o *serving) debugPorts(keys *server.Keys) (*debugPorts, error) {
	d := &debugPorts{listeners: map[int][]net.Listener{}}
	switch {
	case !o.debug:
		return d, nil
	case !o.e2b:
		return nil, errors.New("--e2b-debug-ports: there is no --e2b")
	case keys.Len() > 0:
		return nil, errors.New("--e2b-debug-ports lets in whoever is on this machine, without a key: it does not go with API keys")
	}
	for _, port := range e2b.DebugPorts {
		for _, host := range []string{"127.0.0.1", "::1"} {
			ln, err := listen(net.JoinHostPort(host, strconv.Itoa(port)), false)
			if host == "::1" && (errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)) {
				continue // a machine without IPv6
			}
			if err != nil {
				d.close()
				return nil, fmt.Errorf("--e2b-debug-ports: %w", err)
			}
			d.listeners[port] = append(d.listeners[port], ln)
		}
	}
	return d, nil
}

// serve answers until ctx is done.
func (d *debugPorts) serve(ctx context.Context, api *e2b.API, log *slog.Logger) {
	for port, listeners := range d.listeners {
		h := api.Debug(port)
		for _, ln := range listeners {
			d.work.Go(func() {
				if err := serveHTTP(ctx, ln, h, nil, log, func() error { return nil }); err != nil {
					log.Error("a debug port is not served any more", "address", ln.Addr().String(), "error", err)
				}
			})
		}
	}
}

// close returns once nothing is served any more, for which the context of serve has to be done.
func (d *debugPorts) close() {
	for _, listeners := range d.listeners {
		for _, ln := range listeners {
			ln.Close()
		}
	}
	d.work.Wait()
}
