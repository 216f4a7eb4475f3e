package network

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// tunFlags are the mode in which the device works: bare IP packets, one a read or write.
const tunFlags = unix.IFF_TUN | unix.IFF_NO_PI

// Take takes a sandbox's device: a copy of the descriptor of that number in the process
// that pidfd means, which made it with [Inside] and keeps it open, so that it can be taken
// again by who serves the sandbox later. It needs Linux 5.6 and what ptrace(2) needs; root and
// the user who made the sandbox's user namespace have it. The process is not trusted:
// what it has at that number must be a tun device, or it is refused.
func Take(pidfd, number int) (*os.File, error) {
	fd, err := unix.PidfdGetfd(pidfd, number, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot take the sandbox's network device: %w", err)
	}
	if err := check(fd); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot take the sandbox's network device: %w", err)
	}
	return os.NewFile(uintptr(fd), "tun"), nil
}

// check is nil for a tun device in our mode. It asks for nothing that a hostile file
// system could delay.
func check(fd int) error {
	var s unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &s); err != nil {
		return err
	}
	if s.Mode&unix.S_IFMT != unix.S_IFCHR || s.Rdev_major != 10 || s.Rdev_minor != 200 {
		return errors.New("not a tun device")
	}
	request, err := unix.NewIfreq("")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, request); err != nil {
		return fmt.Errorf("not a tun device: %w", err)
	}
	if mode := request.Uint16() & (unix.IFF_TUN | unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE); mode != tunFlags {
		return fmt.Errorf("a tun device in another mode: %#x", mode)
	}
	return unix.SetNonblock(fd, true)
}
