//go:build race

package netraw

import "syscall"

// The race detector takes what is written to a connection as before what is read from one,
// which only package syscall can tell it.

func read(fd int, p []byte, _ bool) (int, error) { return syscall.Read(fd, p) }

func write(fd int, p []byte, _ bool) (int, error) { return syscall.Write(fd, p) }

func peek(fd int) error {
	_, _, err := syscall.Recvfrom(fd, make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return err
}
