package template

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// openBeneath opens what lies below a directory, by a path whose every step is a real directory on the same file system.
func openBeneath(dir int, name string, flags int) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	if flags&unix.O_CREAT != 0 {
		how.Mode = 0o600
	}
	for {
		fd, err := unix.Openat2(dir, name, &how)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return -1, &fs.PathError{Op: "openat2", Path: name, Err: err}
		}
		return fd, nil
	}
}

// maxName and maxPath are Linux's bounds, in bytes.
const maxName, maxPath = 255, 4000

// steps splits the name of an archive's entry, which begins at the layer's root whether it says so or not.
func steps(name string, depth int) ([]string, error) {
	if strings.ContainsRune(name, 0) || len(name) > maxPath {
		return nil, fmt.Errorf("%w: its name is no path", ErrRefused)
	}
	var found []string
	for step := range strings.SplitSeq(name, "/") {
		switch {
		case step == "" || step == ".":
			continue
		case step == "..":
			return nil, fmt.Errorf("%w: its name leads out of the layer", ErrRefused)
		case len(step) > maxName:
			return nil, fmt.Errorf("%w: a part of its name is longer than %d bytes", ErrRefused, maxName)
		}
		found = append(found, step)
	}
	if len(found) > depth+1 {
		return nil, fmt.Errorf("%w: it lies more than %d directories deep", ErrRefused, depth)
	}
	return found, nil
}

// beneath is a directory that is being filled with a layer's files. Nobody else writes there.
type beneath struct {
	fd   int
	last string // the directory that was asked for last, and its descriptor: an archive goes by directories
	dir  int
	made func() error // told of each directory that is made
}

func openTree(dir string) (*beneath, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return &beneath{fd: fd, dir: -1}, nil
}

func (b *beneath) close() {
	if b.dir >= 0 {
		unix.Close(b.dir)
	}
	unix.Close(b.fd)
}

// parent returns a descriptor of a directory, which is made where it is not there. It is valid until the next call.
func (b *beneath) parent(at []string) (int, error) {
	if len(at) == 0 {
		return b.fd, nil
	}
	name := path.Join(at...)
	if b.dir >= 0 && name == b.last {
		return b.dir, nil
	}
	fd, err := openBeneath(b.fd, name, unix.O_PATH|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		if err := b.makeAll(at); err != nil {
			return -1, err
		}
		fd, err = openBeneath(b.fd, name, unix.O_PATH|unix.O_DIRECTORY)
	}
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
		return -1, fmt.Errorf("%w: it lies below a link or a file", ErrRefused)
	}
	if err != nil {
		return -1, err
	}
	if b.dir >= 0 {
		unix.Close(b.dir)
	}
	b.last, b.dir = name, fd
	return fd, nil
}

// makeAll makes a directory and those above it.
func (b *beneath) makeAll(at []string) error {
	for i := range at {
		dir := b.fd
		if i > 0 {
			fd, err := openBeneath(b.fd, path.Join(at[:i]...), unix.O_PATH|unix.O_DIRECTORY)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			dir = fd
		}
		var st unix.Stat_t
		err := unix.Fstatat(dir, at[i], &st, unix.AT_SYMLINK_NOFOLLOW)
		switch {
		case err == nil && isWhiteout(&st):
		case err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR:
			continue
		case err == nil:
			return fmt.Errorf("%w: it lies below a link or a file", ErrRefused)
		case !errors.Is(err, unix.ENOENT):
			return &fs.PathError{Op: "stat", Path: at[i], Err: err}
		}
		if err := b.makeDir(dir, at[i]); err != nil {
			return err
		}
	}
	return nil
}

// makeDir makes a directory that is not there, or only as a whiteout: then it hides what lies below.
func (b *beneath) makeDir(parent int, name string) error {
	if b.made != nil {
		if err := b.made(); err != nil {
			return err
		}
	}
	is, hides, err := b.clear(parent, name)
	if err != nil || is {
		return err
	}
	if err := unix.Mkdirat(parent, name, 0o755); err != nil {
		return &fs.PathError{Op: "mkdir", Path: name, Err: err}
	}
	if !hides {
		return nil
	}
	return hide(parent, name)
}

// clear makes room for an entry. A directory stays; hides tells that there was a whiteout.
func (b *beneath) clear(parent int, name string) (is, hides bool, err error) {
	var st unix.Stat_t
	err = unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case errors.Is(err, unix.ENOENT):
		return false, false, nil
	case err != nil:
		return false, false, &fs.PathError{Op: "stat", Path: name, Err: err}
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return true, false, nil
	}
	if err := unix.Unlinkat(parent, name, 0); err != nil {
		return false, false, &fs.PathError{Op: "unlink", Path: name, Err: err}
	}
	return false, isWhiteout(&st), nil
}

// isWhiteout reports whether a file is what overlayfs takes for one that is not there, whatever lies below.
func isWhiteout(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 }

// opaque is how overlayfs knows a directory that hides what lies below, where it is mounted with userxattr.
const opaque = "user.overlay.opaque"

// hide makes a directory hide what lies below.
func hide(parent int, name string) error {
	fd, err := openBeneath(parent, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Fsetxattr(fd, opaque, []byte("y"), 0); err != nil {
		return fmt.Errorf("cannot mark a directory that hides what lies below: the file system of the store has to have extended attributes: %w", err)
	}
	return nil
}

// whiteout hides a name of what lies below, but what the layer itself has there.
func (b *beneath) whiteout(parent int, name string) error {
	var st unix.Stat_t
	err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return hide(parent, name)
	case err == nil:
		return nil
	case !errors.Is(err, unix.ENOENT):
		return &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	if err := unix.Mknodat(parent, name, unix.S_IFCHR, 0); err != nil {
		return &fs.PathError{Op: "mknod", Path: name, Err: err}
	}
	return nil
}

// file makes a file, open for writing.
func (b *beneath) file(parent int, name string) (*os.File, error) {
	fd, err := openBeneath(parent, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}
