package files

import (
	"errors"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Mkdir makes a directory with the permission bits, less the umask, and those on the
// way to it; nil stands for 0777. It reports whether there was none before: that
// there is one already is no error.
func (r *Root) Mkdir(path string, mode *os.FileMode) (Entry, bool, error) {
	e, made, err := r.mkdir(path, mode)
	return e, made, failure("make directory", path, err)
}

func (r *Root) mkdir(path string, mode *os.FileMode) (Entry, bool, error) {
	name, err := r.name(path)
	if err != nil {
		return Entry{}, false, err
	}
	parent, _ := split(name)
	var made []string
	if err := r.makeDirs(parent, &made); err != nil {
		r.unmake(made)
		return Entry{}, false, err
	}
	perm := uint32(0o777)
	if mode != nil {
		perm = uint32(mode.Perm())
	}
	p, err := r.in(name)
	if err != nil {
		return Entry{}, false, err
	}
	defer p.close()
	err = retry(func() error { return unix.Mkdirat(p.fd(), p.base, perm) })
	if err != nil && !errors.Is(err, unix.EEXIST) {
		r.unmake(made)
		return Entry{}, false, err
	}
	if err != nil { // it may be a link to a directory
		dir, notDir := r.openDir(name, unix.O_PATH)
		if notDir != nil {
			return Entry{}, false, err
		}
		dir.Close()
	}
	e, notThere := r.Stat("/" + name)
	return e, err == nil, notThere
}

// makeDirs makes a directory and those on the way to it, and notes them.
func (r *Root) makeDirs(name string, made *[]string) error {
	dir, err := r.openDir(name, unix.O_PATH)
	if err == nil {
		return dir.Close()
	}
	if !errors.Is(err, unix.ENOENT) || name == "." {
		return err
	}
	parent, base := split(cutSlash(name))
	if err := r.makeDirs(parent, made); err != nil {
		return err
	}
	p, err := r.in(cutSlash(name))
	if err != nil {
		return err
	}
	defer p.close()
	err = retry(func() error { return unix.Mkdirat(p.fd(), base, 0o777) })
	if errors.Is(err, unix.EEXIST) { // somebody else was faster, or a link leads nowhere
		again, err := r.openDir(name, unix.O_PATH)
		if err == nil {
			again.Close()
		}
		return err
	}
	if err == nil {
		*made = append(*made, cutSlash(name))
	}
	return err
}

func cutSlash(name string) string {
	for len(name) > 1 && name[len(name)-1] == '/' {
		name = name[:len(name)-1]
	}
	return name
}

// unmake removes directories that were made and are still empty.
func (r *Root) unmake(made []string) {
	for _, name := range slices.Backward(made) {
		if p, err := r.in(name); err == nil {
			_ = unix.Unlinkat(p.fd(), p.base, unix.AT_REMOVEDIR)
			p.close()
		}
	}
}

// Remove removes a file, a link or a directory: with all that is in it if recursive
// says so, or else an empty one. The root stays.
func (r *Root) Remove(path string, recursive bool) error {
	return failure("remove", path, r.remove(path, recursive))
}

func (r *Root) remove(path string, recursive bool) error {
	p, err := r.place(path)
	if err != nil {
		return err
	}
	defer p.close()
	if p.base == "." {
		return ErrBusy
	}
	st, err := p.stat()
	if err != nil {
		return err
	}
	switch {
	case typeOf(&st) != Dir:
		return retry(func() error { return unix.Unlinkat(p.fd(), p.base, 0) })
	case recursive:
		return r.tree.RemoveAll(p.name)
	}
	err = retry(func() error { return unix.Unlinkat(p.fd(), p.base, unix.AT_REMOVEDIR) })
	if errors.Is(err, unix.EEXIST) { // POSIX allows it for ENOTEMPTY
		return ErrNotEmpty
	}
	return err
}

// openChild opens a directory in another one, unless it is a link.
func openChild(dir int, name string) (*os.File, error) {
	fd, err := openAt(dir, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// unreadable reports whether a directory could not be read for a reason of its own,
// which those around it do not share.
func unreadable(err error) bool {
	for _, one := range []error{unix.EACCES, unix.EPERM, unix.EIO, unix.ESRCH, unix.ENODEV, unix.EOPNOTSUPP, unix.EINVAL} {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}

// eachName calls do for every name in a directory, in its own order, until do errs.
func eachName(dir *os.File, do func(name string) error) error {
	for {
		batch, err := dir.Readdirnames(1024)
		for _, name := range batch {
			if err := do(name); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
