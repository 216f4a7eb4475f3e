package local

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// tree returns a copy of the mount at the path, with what is mounted beneath, that is attached
// nowhere: it goes with its last descriptor. users, if not nil, is the user namespace
// whose ids its files are to show.
func tree(path string, users *os.File, attr uint64) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return nil, &os.PathError{Op: "open_tree", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	a := unix.MountAttr{Attr_set: attr}
	if users != nil {
		a.Attr_set |= unix.MOUNT_ATTR_IDMAP
		a.Userns_fd = uint64(users.Fd())
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &a); err != nil {
		f.Close()
		return nil, &os.PathError{Op: "mount_setattr", Path: path, Err: err}
	}
	return f, nil
}

// attach mounts the tree at the path.
func attach(f *os.File, path string) error {
	err := unix.MoveMount(int(f.Fd()), "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH)
	if err != nil {
		return &os.PathError{Op: "move_mount", Path: path, Err: err}
	}
	return nil
}

// filesystem returns a new mount that is attached nowhere. Options are names and values in
// turn; one with the value "" is a flag.
func filesystem(kind string, attr int, options ...string) (*os.File, error) {
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot open file system %s: %w", kind, err)
	}
	defer unix.Close(fs)
	if err := setOptions(fs, options); err != nil {
		return nil, fmt.Errorf("file system %s: %w", kind, err)
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, fmt.Errorf("cannot make file system %s: %w", kind, explainMount(fs, err))
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attr)
	if err != nil {
		return nil, fmt.Errorf("cannot mount file system %s: %w", kind, explainMount(fs, err))
	}
	return os.NewFile(uintptr(fd), kind), nil
}

// reconfigure changes options of the file system that is mounted at a descriptor.
func reconfigure(mount int, options ...string) error {
	fs, err := unix.Fspick(mount, "", unix.FSPICK_CLOEXEC|unix.FSPICK_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("cannot change a file system: %w", err)
	}
	defer unix.Close(fs)
	if err := setOptions(fs, options); err != nil {
		return err
	}
	if err := unix.FsconfigReconfigure(fs); err != nil {
		return fmt.Errorf("cannot change a file system: %w", explainMount(fs, err))
	}
	return nil
}

func setOptions(fs int, options []string) (err error) {
	for i := 0; i < len(options); i += 2 {
		if options[i+1] == "" {
			err = unix.FsconfigSetFlag(fs, options[i])
		} else {
			err = unix.FsconfigSetString(fs, options[i], options[i+1])
		}
		if err != nil {
			return fmt.Errorf("cannot set option %s: %w", options[i], explainMount(fs, err))
		}
	}
	return nil
}

// explainMount adds what the kernel has to say about a file system's error.
func explainMount(fs int, err error) error {
	words := make([]byte, 256)
	if n, _ := unix.Read(fs, words); n > 2 {
		return fmt.Errorf("%w (%s)", err, words[2:n])
	}
	return err
}

// mountNew mounts a new file system at the path.
func mountNew(path, kind string, attr int, options ...string) error {
	f, err := filesystem(kind, attr, options...)
	if err != nil {
		return err
	}
	defer f.Close()
	return attach(f, path)
}

// mountCopy mounts what is at one path at another, too.
func mountCopy(from, to string, attr uint64) error {
	f, err := tree(from, nil, attr)
	if err != nil {
		return err
	}
	defer f.Close()
	return attach(f, to)
}
