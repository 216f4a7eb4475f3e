package cage

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What Landlock calls access to files, as it learned of it: all, reading, and what a file
// that is no directory can have.
const (
	accessFirst = unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1 // ABI 1: all up to MAKE_SYM
	accessRead  = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	accessFile  = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
)

// accesses returns all kinds of access that an ABI knows, up to 5; later ones brought scopes.
func accesses(abi int) uint64 {
	all := uint64(accessFirst)
	if abi >= 2 {
		all |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if abi >= 3 {
		all |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi >= 5 {
		all |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	return all
}

// ABI returns the version of Landlock's interface here, 0 where there is none.
func ABI() int {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(abi)
}

func probeLandlock() error {
	if ABI() == 0 {
		return errors.New("this Linux has no Landlock, or it is not switched on")
	}
	return nil
}

// landlock restricts the thread to the paths of the rules.
func (r Rules) landlock() error {
	abi := ABI()
	if abi == 0 {
		return probeLandlock()
	}
	all := accesses(abi)
	attr := unix.LandlockRulesetAttr{Handled_access_fs: all}
	if r.Scoped && abi >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_SIGNAL | unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
	}
	size := unsafe.Offsetof(attr.Quiet_access_fs) // what this file knows of it, and ABI 6
	if abi < 4 {
		size = unsafe.Offsetof(attr.Handled_access_net)
	} else if abi < 6 {
		size = unsafe.Offsetof(attr.Scoped)
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return errno
	}
	ruleset := os.NewFile(fd, "ruleset")
	defer ruleset.Close()
	for _, path := range r.Read {
		if err := allow(ruleset, path, all&accessRead); err != nil {
			return err
		}
	}
	for _, path := range r.Write {
		if err := allow(ruleset, path, all); err != nil {
			return err
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset.Fd(), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// allow adds a path and what lies beneath it to the ruleset.
func allow(ruleset *os.File, path string, access uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= accessFile
	}
	beneath := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, ruleset.Fd(), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&beneath)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("%s: %w", path, errno)
	}
	return nil
}
