package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/k2sandbox/k2sandbox/internal/netraw"
)

// closing is how long open answers may take to end once the server stops.
const closing = 5 * time.Second

// newHTTPServer returns a server that uses TLS where secure is not nil.
func newHTTPServer(h http.Handler, secure *tls.Config, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		TLSConfig:         secure,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute, // no ReadTimeout or WriteTimeout: a stream lasts as long as its run
		MaxHeaderBytes:    64 << 10,
	}
}

// serveOn answers on a listener until the server is closed or the listener fails.
func serveOn(srv *http.Server, ln net.Listener) error {
	if srv.TLSConfig != nil {
		return srv.ServeTLS(ln, "", "")
	}
	return srv.Serve(ln)
}

// serveHTTP answers on the listener until ctx is done, and then has closed what is served,
// whose streams end by that.
func serveHTTP(ctx context.Context, ln net.Listener, h http.Handler, log *slog.Logger, closed func() error) error {
	srv := newHTTPServer(h, nil, log)
	failed := make(chan error, 1)
	go func() { failed <- serveOn(srv, netraw.Listener(ln)) }()
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		log.Info("stopping")
	}
	err = errors.Join(err, closed())
	limit, cancel := context.WithTimeout(context.Background(), closing)
	defer cancel()
	if srv.Shutdown(limit) != nil {
		_ = srv.Close() // of clients that do not read to the end
	}
	return err
}
