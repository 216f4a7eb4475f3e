package files

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Move gives a file, a link or a directory another path; directories on the way
// there are made. What is there already is replaced only with overwrite, and never a
// directory that is not empty. To another file system it is copied, which ctx can
// end, and removed when the copy is whole and on disk; sockets, FIFOs and devices
// cannot be.
func (r *Root) Move(ctx context.Context, from, to string, overwrite bool) (Entry, error) {
	src, err := r.place(from)
	if err != nil {
		return Entry{}, failure("move", from, err)
	}
	defer src.close()
	st, err := src.stat()
	if err == nil && src.base == "." {
		err = ErrBusy
	}
	if err != nil {
		return Entry{}, failure("move", from, err)
	}
	name, err := r.name(to)
	var made []string
	if err == nil {
		parent, _ := split(name)
		err = r.makeDirs(parent, &made)
	}
	if err == nil {
		err = r.move(ctx, src, name, &st, overwrite)
	}
	if err != nil {
		r.unmake(made)
		return Entry{}, failure("move to", to, err)
	}
	return r.Stat("/" + name)
}

func (r *Root) move(ctx context.Context, src place, name string, st *unix.Stat_t, overwrite bool) error {
	dst, err := r.in(name)
	if err != nil {
		return err
	}
	defer dst.close()
	if dst.base == "." {
		return ErrBusy
	}
	err = rename(src, dst.fd(), dst.base, overwrite)
	switch {
	case errors.Is(err, unix.EXDEV):
		return r.moveAcross(ctx, src, dst, st, overwrite)
	case errors.Is(err, unix.EINVAL):
		return &Error{"move", "/" + src.name + " into itself", ErrBusy}
	case errors.Is(err, unix.EEXIST) && overwrite:
		return ErrNotEmpty
	}
	if err == nil {
		r.syncDir(dst.fd())
		r.syncDir(src.fd())
	}
	return err
}

// rename renames in one step. Without overwrite nothing is replaced, also not what
// comes there at the last moment, where the file system can tell.
func rename(src place, dir int, base string, overwrite bool) error {
	if overwrite {
		return retry(func() error { return unix.Renameat(src.fd(), src.base, dir, base) })
	}
	err := retry(func() error { return unix.Renameat2(src.fd(), src.base, dir, base, unix.RENAME_NOREPLACE) })
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	if _, there := statAt(dir, base); there == nil {
		return unix.EEXIST
	}
	return rename(src, dir, base, true)
}

// moveAcross copies what cannot be renamed, under another name until all of it is there.
func (r *Root) moveAcross(ctx context.Context, src, dst place, st *unix.Stat_t, overwrite bool) error {
	if _, err := dst.stat(); err == nil && !overwrite {
		return unix.EEXIST
	}
	draft := place{dst.dir, newDraftName(), ""}
	parent, _ := split(dst.name)
	draftPath := parent + "/" + draft.base
	c := copier{ctx: ctx, root: r}
	err := c.copy(src.fd(), src.base, draft.fd(), draft.base, st, 0)
	if err == nil {
		err = rename(draft, dst.fd(), dst.base, overwrite)
	}
	if err != nil {
		_ = r.tree.RemoveAll(draftPath)
		return err
	}
	r.syncDir(dst.fd())
	return failure("remove", "/"+src.name+", which was copied", r.remove("/"+src.name, true))
}

// maxDown is how deep trees are copied, packed and watched: each level takes a
// descriptor.
const maxDown = 256

// copier copies trees from one file system to another, with links, modes, owners
// and times.
type copier struct {
	ctx  context.Context
	root *Root
}

func (c *copier) copy(from int, name string, to int, as string, st *unix.Stat_t, depth int) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	var err error
	switch typeOf(st) {
	case Regular:
		err = c.file(from, name, to, as)
	case Symlink:
		var link string
		if link, err = readLink(from, name); err == nil {
			err = unix.Symlinkat(link, to, as)
		}
	case Dir:
		err = c.dir(from, name, to, as, depth)
	default:
		return ErrNotFile
	}
	if err != nil {
		return err
	}
	return resemble(to, as, st)
}

func (c *copier) file(from int, name string, to int, as string) error {
	fd, err := openAt(from, name, unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	src := os.NewFile(uintptr(fd), name)
	defer src.Close()
	if fd, err = openAt(to, as, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o600); err != nil {
		return err
	}
	d := &draft{f: os.NewFile(uintptr(fd), as)}
	defer d.f.Close()
	if err := d.fill(c.ctx, src); err != nil {
		return err
	}
	return c.root.sync(d.fd())
}

func (c *copier) dir(from int, name string, to int, as string, depth int) error {
	if depth >= maxDown {
		return ErrTooDeep
	}
	src, err := openChild(from, name)
	if err != nil {
		return err
	}
	defer src.Close()
	if err := unix.Mkdirat(to, as, 0o700); err != nil {
		return err
	}
	dst, err := openChild(to, as)
	if err != nil {
		return err
	}
	defer dst.Close()
	err = eachName(src, func(name string) error {
		st, err := statAt(int(src.Fd()), name)
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return err
		}
		return c.copy(int(src.Fd()), name, int(dst.Fd()), name, &st, depth+1)
	})
	return err
}

// resemble gives a file, a directory or a link owner, mode and time of another.
func resemble(dir int, name string, st *unix.Stat_t) error {
	own, err := statAt(dir, name)
	if err != nil {
		return err
	}
	mode := st.Mode & 0o7777
	if own.Uid != st.Uid || own.Gid != st.Gid {
		if unix.Fchownat(dir, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW) != nil {
			mode &= 0o1777 // it is ours now, and what it may do as another is not
		}
	}
	if typeOf(st) != Symlink {
		if err := chmodAt(dir, name, mode); err != nil {
			return err
		}
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	return unix.UtimesNanoAt(dir, name, times, unix.AT_SYMLINK_NOFOLLOW)
}

// chmodAt sets the mode of a file in a directory, never of what a link leads to.
func chmodAt(dir int, name string, mode uint32) error {
	fd, err := openAt(dir, name, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), mode) // of a link it fails
}
