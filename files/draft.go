package files

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/internal/lazy"
)

var pieces = sync.Pool{New: func() any { return new([pieceSize]byte) }}

// draftName is how a draft is called where it has to have a name. Watches say nothing of it.
var draftName = lazy.Regexp(`^\.k2-[0-9a-f]{16}\.tmp$`)

// nameless is what Linux calls a file that had no name when it got one.
var nameless = lazy.Regexp(`^#[0-9]+$`)

func newDraftName() string { return fmt.Sprintf(".k2-%016x.tmp", rand.Uint64()) }

// draft is a file on its way into a directory. Where the file system can do it, it
// has no name before it is done, so that nothing is left even of a process that is
// killed.
type draft struct {
	f    *os.File
	dir  *os.File
	name string // "" where it has none

	inSight bool // its name is the one that it is to have
}

// newDraft makes an empty file, for its owner's eyes alone unless it is open to
// those whom the umask allows.
func (r *Root) newDraft(dir *os.File, open bool) (*draft, error) {
	perm := uint32(0o600)
	if open {
		perm = 0o666
	}
	d := &draft{dir: dir}
	at := int(dir.Fd())
	fd, err := -1, error(unix.EOPNOTSUPP)
	if !r.noTmpfile {
		fd, err = openAt(at, ".", unix.O_TMPFILE|unix.O_RDWR, perm)
	}
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		d.name = newDraftName()
		fd, err = openAt(at, d.name, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, perm)
	}
	if err != nil {
		return nil, err
	}
	d.f = os.NewFile(uintptr(fd), dir.Name())
	return d, nil
}

// newInSight makes the file at a place, which is the draft: EEXIST where something is there.
func newInSight(p place) (*draft, error) {
	fd, err := openAt(p.fd(), p.base, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o666)
	if err != nil {
		return nil, err
	}
	return &draft{f: os.NewFile(uintptr(fd), p.base), dir: p.dir, name: p.base, inSight: true}, nil
}

// own sets what a file in sight has beside its content. That its owner is set anew, to who it is, a watch tells.
func (d *draft) own(mode *os.FileMode, attributes map[string]string) error {
	var st unix.Stat_t
	if err := unix.Fstat(d.fd(), &st); err != nil {
		return err
	}
	if err := d.mark(attributes); err != nil {
		return err
	}
	if mode != nil {
		return unix.Fchmod(d.fd(), uint32(mode.Perm()))
	}
	return unix.Fchown(d.fd(), int(st.Uid), -1)
}

func (d *draft) fd() int { return int(d.f.Fd()) }

// resemble gives the draft owner and mode of the file that it replaces, if any.
func (d *draft) resemble(old *unix.Stat_t, mode *os.FileMode) error {
	var own unix.Stat_t
	if err := unix.Fstat(d.fd(), &own); err != nil {
		return err
	}
	if old != nil && (old.Uid != own.Uid || old.Gid != own.Gid) {
		if err := unix.Fchown(d.fd(), int(old.Uid), int(old.Gid)); err == unix.EINVAL {
			return ErrDenied // a user that this user namespace does not have
		} else if err != nil {
			return err
		}
	}
	switch {
	case mode != nil:
		return unix.Fchmod(d.fd(), uint32(mode.Perm()))
	case old != nil:
		return unix.Fchmod(d.fd(), old.Mode&0o777)
	}
	return nil
}

// publish gives the draft its name in the directory, in place of what has it: if
// replace says so, or else where something came there just now, unless that is to be
// an error.
func (d *draft) publish(base string, replace, exclusive bool) error {
	if !replace {
		err := d.link(base)
		if err == nil {
			d.discard()
			return nil
		}
		if errors.Is(err, unix.EEXIST) && exclusive {
			return ErrChanged
		}
		if !errors.Is(err, unix.EEXIST) && (d.name == "" || !errors.Is(err, unix.EPERM)) {
			return err // EPERM: the file system has no hard links
		}
	}
	if d.name == "" {
		name := newDraftName()
		if err := d.link(name); err != nil {
			return err
		}
		d.name = name
	}
	at := int(d.dir.Fd())
	err := retry(func() error { return unix.Renameat(at, d.name, at, base) })
	if err == nil {
		d.name = ""
	}
	return err
}

func (d *draft) link(name string) error {
	at := int(d.dir.Fd())
	return retry(func() error {
		if d.name != "" {
			return unix.Linkat(at, d.name, at, name, 0)
		}
		return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", d.fd()), at, name, unix.AT_SYMLINK_FOLLOW)
	})
}

// discard removes the draft's own name, if it has one.
func (d *draft) discard() {
	if d.name != "" && !(d.inSight && d.replaced()) {
		_ = unix.Unlinkat(int(d.dir.Fd()), d.name, 0)
		d.name = ""
	}
}

// replaced reports whether the name is another file's by now.
func (d *draft) replaced() bool {
	var own unix.Stat_t
	st, err := statAt(int(d.dir.Fd()), d.name)
	return err != nil || unix.Fstat(d.fd(), &own) != nil || st.Ino != own.Ino || st.Dev != own.Dev
}

// close removes what was not published.
func (d *draft) close() {
	d.discard()
	d.f.Close()
}
