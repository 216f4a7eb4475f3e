package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// The control socket is in a server's folder, which its user alone can enter.
const (
	controlSocket = "control.sock"
	controlPart   = ".control-" // with something behind it: what is to get the name
)

// controlServer answers, in the server's folder, who may enter that.
type controlServer struct {
	dir    string
	ln     net.Listener
	server *http.Server
	done   chan struct{}
}

// serveControl begins to answer, in place of whoever did before: one at a time has the folder's registry.
func serveControl(dir string, h http.Handler, log *slog.Logger) (*controlServer, error) {
	c := &controlServer{dir: dir, done: make(chan struct{}), server: &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
	stale, _ := filepath.Glob(filepath.Join(dir, controlPart+"*")) // of servers that were killed
	for _, path := range stale {
		_ = os.Remove(path)
	}
	part := controlPart + rand.Text()
	err := within(dir, part, func(path string) (err error) {
		c.ln, err = net.Listen("unix", path)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot listen in %s: %w", dir, err)
	}
	c.ln.(*net.UnixListener).SetUnlinkOnClose(false) // the path is of a descriptor that is closed
	if err := os.Rename(filepath.Join(dir, part), filepath.Join(dir, controlSocket)); err != nil {
		c.ln.Close()
		_ = os.Remove(filepath.Join(dir, part))
		return nil, fmt.Errorf("cannot listen in %s: %w", dir, err)
	}
	go func() { defer close(c.done); _ = c.server.Serve(c.ln) }() // until it is closed
	return c, nil
}

// leave removes the name. It is for who has the folder: as soon as it has let go of that, the name can be another server's.
func (c *controlServer) leave() { _ = os.Remove(filepath.Join(c.dir, controlSocket)) }

// close lets answers come to their end, for a while.
func (c *controlServer) close() {
	limit, cancel := context.WithTimeout(context.Background(), closing)
	defer cancel()
	if c.server.Shutdown(limit) != nil {
		_ = c.server.Close()
	}
	<-c.done
}

func dialControl(ctx context.Context, dir string) (conn net.Conn, err error) {
	err = within(dir, controlSocket, func(path string) (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, "unix", path)
		return err
	})
	return conn, err
}

// askControl asks the server that runs in the folder. What it says in place of an answer is an error.
func askControl(ctx context.Context, dir, method, path string, body io.Reader) (*http.Response, error) {
	transport := &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dialControl(ctx, dir) },
		DisableKeepAlives: true,
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://server"+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, fmt.Errorf("cannot ask the server in %s: %w", dir, err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		return nil, fmt.Errorf("the server in %s %w: %s", dir, errSays, text)
	}
	return resp, nil
}

// errSays is in errors that a server has answered with.
var errSays = errors.New("says")

// within calls use with a path to a socket in a folder that is short enough for an address.
func within(dir, name string, use func(path string) error) error {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	return use(fmt.Sprintf("/proc/self/fd/%d/%s", fd, name))
}
