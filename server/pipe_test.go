package server_test

import (
	"context"
	"net"
	"net/http"
	"testing"
)

// pipes is a listener of connections within the test's bubble, whose deadlines keep its time.
type pipes chan net.Conn

func (l pipes) Accept() (net.Conn, error) {
	if conn, ok := <-l; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (l pipes) Close() error { return nil }

func (l pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// piped serves on pipes, and returns a client whose connections they are.
func piped(t *testing.T, h http.Handler) *http.Client {
	l, srv := make(pipes), &http.Server{Handler: h}
	go srv.Serve(l)
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		l <- theirs
		return ours, nil
	}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		close(l)
		srv.Close()
	})
	return &http.Client{Transport: transport}
}
