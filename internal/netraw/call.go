//go:build !race

package netraw

import (
	"syscall"
	"unsafe"
)

func read(fd int, p []byte, told bool) (int, error) {
	if told {
		return syscall.Read(fd, p)
	}
	return call(syscall.SYS_READ, fd, p)
}

func write(fd int, p []byte, told bool) (int, error) {
	if told {
		return syscall.Write(fd, p)
	}
	return call(syscall.SYS_WRITE, fd, p)
}

func call(trap uintptr, fd int, p []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(trap, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func peek(fd int) error {
	var one byte
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&one)), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
