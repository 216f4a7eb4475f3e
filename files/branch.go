package files

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

const (
	ownMask = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_MOVED_FROM | unix.IN_MOVED_TO |
		unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR | unix.IN_EXCL_UNLINK
	parentMask = unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_ONLYDIR
)

// branches are the directories that one inotify instance watches.
type branches struct {
	w      *Watch
	fd     int
	top    *branch
	byWd   map[int32]*branch
	parent int32         // the wd of the directory that top is in, which alone hears at once that top goes; -1: none
	late   map[spot]bool // directories that came, and have another path by now than the events tell so far
	fresh  []*branch     // that have told
	told   int           // names, in all of them
	moves  []move
	round  int // counts batches
	last   Event
	stop   func() error // why not to go on with the first look
}

// spot is a name in a directory.
type spot struct {
	in   *branch
	name string
}

// branch is a directory that is watched.
type branch struct {
	name     string
	in       *branch // nil for the top
	wd       int32
	children map[string]*branch
	told     map[string]bool // names that a look at the directory told of, and whose events may come yet
}

func newBranches(ctx context.Context, w *Watch, fd int) (*branches, error) {
	b := &branches{w: w, fd: fd, byWd: map[int32]*branch{}, late: map[spot]bool{}, parent: -1}
	p, err := w.root.in(w.name)
	if err != nil {
		return nil, err
	}
	defer p.close()
	dir, err := openChild(p.fd(), p.base)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	if b.top, err = b.add(dir, nil, ""); err != nil {
		return nil, err
	}
	if p.base != "." {
		wd, err := b.watch(p.dir, parentMask)
		if err != nil && !errors.Is(err, unix.EACCES) {
			return nil, err
		} else if err == nil {
			b.parent = wd
		}
	}
	if w.recursive {
		b.stop = func() error { return errors.Join(ctx.Err(), w.closed()) }
		err = b.look(dir, b.top, false, 0)
		b.stop = nil
	}
	return b, err
}

// watch adds a directory to the instance: by its descriptor, so that it is this one. The mask of
// one that is watched already is added to: the kernel would replace it by way of none at all, and
// one event in some 50,000 came just then.
func (b *branches) watch(dir *os.File, mask uint32) (int32, error) {
	wd, err := unix.InotifyAddWatch(b.fd, fmt.Sprintf("/proc/self/fd/%d", dir.Fd()), mask|unix.IN_MASK_ADD)
	return int32(wd), tooMany(err)
}

// add watches a directory that is at a name in another one. Where it is watched
// already it has moved, and moves here, too; nil where it would be in itself, which
// a mount can do.
func (b *branches) add(dir *os.File, in *branch, name string) (*branch, error) {
	if len(b.byWd) >= maxWatched {
		return nil, ErrTooMany
	}
	wd, err := b.watch(dir, ownMask)
	if err != nil {
		return nil, err
	}
	c := b.byWd[wd]
	for at := in; at != nil && c != nil; at = at.in {
		if at == c {
			return nil, nil
		}
	}
	if c == nil {
		c = &branch{wd: wd, children: map[string]*branch{}}
		b.byWd[wd] = c
	}
	b.attach(c, in, name)
	return c, nil
}

func (b *branches) attach(c, in *branch, name string) {
	c.detach()
	if in != nil {
		if old := in.children[name]; old != nil && old != c {
			b.drop(old)
		}
		in.children[name] = c
	}
	c.in, c.name = in, name
}

func (c *branch) detach() {
	if c.in != nil && c.in.children[c.name] == c {
		delete(c.in.children, c.name)
	}
	c.in = nil
}

// drop forgets a directory and all below it.
func (b *branches) drop(c *branch) {
	c.detach()
	for _, child := range c.children {
		b.drop(child)
	}
	delete(b.byWd, c.wd)
	_, _ = unix.InotifyRmWatch(b.fd, uint32(c.wd)) // fails where the kernel did it itself
}

// path returns where a name in a directory is, in the tree.
func (b *branches) path(c *branch, name string) string {
	parts := []string{name}
	for ; c.in != nil; c = c.in {
		parts = append(parts, c.name)
	}
	path := b.w.name
	for _, part := range slices.Backward(parts) {
		if part != "" {
			path += "/" + part
		}
	}
	return path
}

// look watches what is in a directory that came, and, if it is news, tells of it.
func (b *branches) look(dir *os.File, c *branch, news bool, depth int) error {
	if depth >= maxDown {
		return ErrTooDeep
	}
	return eachName(dir, func(name string) error {
		st, err := statAt(int(dir.Fd()), name)
		if err == nil && b.stop != nil {
			err = b.stop()
		}
		if errors.Is(err, unix.ENOENT) || draftName().MatchString(name) {
			return nil
		}
		if err != nil {
			return err
		}
		isDir := typeOf(&st) == Dir
		if news {
			if c.told == nil {
				c.told = map[string]bool{}
				b.fresh = append(b.fresh, c)
			}
			if b.told < maxWatched { // of more some may be told twice
				c.told[name] = true
				b.told++
			}
			b.tell(Created, b.path(c, name), "", isDir)
		}
		if !isDir || !b.w.recursive {
			return nil
		}
		child, err := openChild(int(dir.Fd()), name)
		if err != nil {
			return passing(err)
		}
		defer child.Close()
		return b.enter(child, c, name, news, depth+1)
	})
}

func (b *branches) enter(dir *os.File, in *branch, name string, news bool, depth int) error {
	c, err := b.add(dir, in, name)
	if err != nil || c == nil {
		return passing(err)
	}
	return passing(b.look(dir, c, news, depth))
}

// passing lets go what could not be watched because it is gone or not to be read.
func passing(err error) error {
	if unreadable(err) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil
	}
	return err
}

// comes watches a directory that came into another one. Where that is not where the
// events so far say, because it was renamed, it tries again when more are known.
func (b *branches) comes(in *branch, name string) error {
	if !b.w.recursive {
		return nil
	}
	p, err := b.w.root.in(b.path(in, name))
	if err == nil {
		defer p.close()
		if !b.is(p.dir, in) {
			err = unix.ENOENT
		}
	}
	if err != nil {
		return b.later(in, name, err)
	}
	dir, err := openChild(p.fd(), p.base)
	if err != nil {
		return passing(err) // what it is now, events tell
	}
	defer dir.Close()
	return b.enter(dir, in, name, true, 0)
}

// is reports whether a directory is the one that is watched.
func (b *branches) is(dir *os.File, c *branch) bool {
	wd, err := b.watch(dir, ownMask)
	if err == nil && b.byWd[wd] == nil && wd != b.parent {
		_, _ = unix.InotifyRmWatch(b.fd, uint32(wd))
	}
	return err == nil && wd == c.wd
}

// later notes what could not be watched because it is elsewhere.
func (b *branches) later(in *branch, name string, err error) error {
	if passing(err) != nil {
		return err
	}
	if len(b.late) >= maxWatched {
		return errOverflow
	}
	b.late[spot{in, name}] = true
	return nil
}

// catchUp watches what came late, once the events that are known were handled.
func (b *branches) catchUp() error {
	late := b.late
	b.late = map[spot]bool{}
	for s := range late {
		if b.byWd[s.in.wd] != s.in || s.in.children[s.name] != nil {
			continue
		}
		if err := b.comes(s.in, s.name); err != nil {
			return err
		}
	}
	return nil
}
