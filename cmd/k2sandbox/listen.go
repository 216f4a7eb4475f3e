package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// listen opens HOST:PORT or unix:PATH. Whoever reaches the address can run code as
// this user, so that it is a loopback address or a socket of mode 0600, unless
// remote says otherwise.
func listen(address string, remote bool) (net.Listener, error) {
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		ln, err := listenOnce(address, remote)
		if !errors.Is(err, syscall.EADDRINUSE) || time.Since(begin) > inUse {
			return ln, err
		}
	}
}

// inUse is how long the address may be in use: what a server that was killed had just started has
// its descriptors until it begins its program.
const inUse = time.Second

func listenOnce(given string, remote bool) (net.Listener, error) {
	if path, ok := strings.CutPrefix(given, "unix:"); ok {
		return listenUnix(path)
	}
	addr, err := address(given, remote)
	if err != nil {
		return nil, err
	}
	return net.ListenTCP("tcp", addr)
}

// address returns a HOST:PORT that may be listened on; nil for unix:PATH.
func address(given string, remote bool) (*net.TCPAddr, error) {
	if strings.HasPrefix(given, "unix:") {
		return nil, nil
	}
	addr, err := net.ResolveTCPAddr("tcp", given)
	if err != nil {
		return nil, fmt.Errorf("--listen %q: want HOST:PORT or unix:PATH: %w", given, err)
	}
	if !addr.IP.IsLoopback() && !remote {
		return nil, fmt.Errorf("--listen %q is reachable from other machines, which could all run code here: "+
			"use a loopback address or a unix socket (or --unsafe-allow-remote)", given)
	}
	return addr, nil
}

// listenUnix takes the place of a socket that nobody listens on any more. Two
// processes that try at once take turns by a lock on the folder.
func listenUnix(path string) (net.Listener, error) {
	if path == "" {
		return nil, errors.New("--listen unix: needs a path")
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("cannot listen: %w", err)
	}
	defer folder.Close()
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX); err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", folder.Name(), err)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// The mode has to be right from the socket's first moment on. Nothing else
	// makes files yet: the process has just started.
	defer syscall.Umask(syscall.Umask(0o177))
	ln, err := net.Listen("unix", path)
	if errors.Is(err, syscall.EINVAL) {
		err = fmt.Errorf("cannot listen on %s: a socket's path has at most 107 bytes, this one has %d", path, len(path))
	}
	return ln, err
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot listen: %w", err)
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("cannot listen on %s: it exists and is no socket", path)
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		conn.Close()
		return fmt.Errorf("cannot listen on %s: another process does: %w", path, syscall.EADDRINUSE)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("cannot listen on %s: %w", path, err)
	}
	return os.Remove(path)
}

// curl returns a command line that runs a cell at the listener's address.
func curl(ln net.Listener) string {
	target := "http://" + ln.Addr().String()
	if ln.Addr().Network() == "unix" {
		target = "--unix-socket '" + ln.Addr().String() + "' http://localhost"
	}
	return "curl -sN " + target + `/v1/code -H 'Content-Type: application/json' -d '{"code":"print(6*7)"}'`
}

// location names the listener's address.
func location(ln net.Listener) string {
	if ln.Addr().Network() == "unix" {
		return "unix:" + ln.Addr().String()
	}
	return "http://" + ln.Addr().String()
}
