package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"

	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/e2b"
)

// socket is a listener of a server.
type socket struct {
	name string // by which one that takes over knows it
	port int    // of E2B's debug mode; 0: it is the server's own
	ln   net.Listener
}

// sockets are all of them, the server's own first.
type sockets []socket

const (
	ownSocket  = "own"
	lentSocket = "lent" // the own one, which the service manager has opened, and keeps
)

// sockets opens them, or takes those of the server that this one takes over from.
func (o *serving) sockets(from *predecessor, keys *server.Keys) (all sockets, err error) {
	defer func() {
		if err != nil {
			all.close()
		}
	}()
	own, err := o.ownSocket(from, o.access.remote || keys.Len() > 0)
	if own.ln != nil {
		all = append(all, own)
	}
	if err != nil || !o.debug {
		return all, err
	}
	switch {
	case !o.e2b:
		return all, errors.New("--e2b-debug-ports: there is no --e2b")
	case keys.Len() > 0:
		return all, errors.New("--e2b-debug-ports lets in whoever is on this machine, without a key: it does not go with API keys")
	}
	for _, port := range e2b.DebugPorts {
		for _, host := range []string{"127.0.0.1", "::1"} { // clients call them "localhost", which is either
			name := net.JoinHostPort(host, strconv.Itoa(port))
			ln := from.take(name)
			if ln == nil {
				ln, err = listen(name, false)
			}
			if host == "::1" && (errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)) {
				err = nil // a machine without IPv6
				continue
			}
			if err != nil {
				return all, fmt.Errorf("--e2b-debug-ports: %w", err)
			}
			all = append(all, socket{name, port, ln})
		}
	}
	return all, nil
}

// ownSocket opens the server's own one, unless somebody else has.
func (o *serving) ownSocket(from *predecessor, remote bool) (own socket, err error) {
	for _, name := range []string{ownSocket, lentSocket} {
		if ln := from.take(name); ln != nil {
			return socket{name: name, ln: ln}, o.checkSame(ln, remote)
		}
	}
	if from != nil {
		return own, errors.New("the server to take over from has no listener")
	}
	ln, err := activated()
	if err != nil || ln != nil {
		if err == nil {
			err = o.checkSame(ln, remote)
		}
		return socket{name: lentSocket, ln: ln}, err
	}
	ln, err = o.listen(remote)
	return socket{name: ownSocket, ln: ln}, err
}

// close closes them, and removes those that are files.
func (s sockets) close() {
	for _, one := range s {
		one.ln.Close()
	}
}

// leave closes them here: another process has them, too.
func (s sockets) leave() {
	for _, one := range s {
		if on, ok := one.ln.(*net.UnixListener); ok {
			on.SetUnlinkOnClose(false)
		}
		one.ln.Close()
	}
}

// checkSame refuses another address than that of a listener that is there.
func (o *serving) checkSame(ln net.Listener, remote bool) error {
	want, err := address(o.address, remote)
	if err != nil {
		return err
	}
	same := "unix:"+ln.Addr().String() == o.address
	if on, ok := ln.Addr().(*net.TCPAddr); ok && want != nil {
		same = (on.IP.Equal(want.IP) || on.IP.IsUnspecified() && (want.IP == nil || want.IP.IsUnspecified())) &&
			(on.Port == want.Port || want.Port == 0 || o.retries > 0)
	}
	if !same {
		return fmt.Errorf("--listen %s: the socket that is there listens on %s: another address takes a restart", o.address, ln.Addr())
	}
	return nil
}

// activated returns the listener that systemd has opened for this program (sd_listen_fds(3)); nil where it has not.
func activated() (net.Listener, error) {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	if n := os.Getenv("LISTEN_FDS"); n != "1" {
		return nil, fmt.Errorf("$LISTEN_FDS %q: want one socket", n)
	}
	const first = 3
	f := os.NewFile(first, "socket")
	defer f.Close()
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("cannot use the socket of $LISTEN_FDS: %w", err)
	}
	return ln, nil
}

// keep has those that are files go with this process, which has them alone from now on, but for one that is lent.
func (s sockets) keep() {
	for _, one := range s {
		if on, ok := one.ln.(*net.UnixListener); ok && one.name != lentSocket {
			on.SetUnlinkOnClose(true)
		}
	}
}
