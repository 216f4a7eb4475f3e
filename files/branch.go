package files

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	gopath "path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/journal"
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
	parent int32     // the wd of the directory that top is in, which alone hears at once that top goes; -1: none
	fresh  []*branch // that have told
	moves  []move
	round  int // counts batches
	last   Event
	stop   func() error // why not to go on with the first look
}

// branch is a directory that is watched.
type branch struct {
	name     string
	in       *branch // nil for the top
	wd       int32
	children map[string]*branch
	told     map[string]bool // names that a look at the directory told of, and whose events may come yet
}

// move is a first half of a rename: something left a directory.
type move struct {
	cookie uint32
	from   *branch
	name   string
	path   string
	isDir  bool
	round  int
}

// inotifyEvent is struct inotify_event of inotify(7).
type inotifyEvent struct {
	wd     int32
	mask   uint32
	cookie uint32
	name   string
}

func newBranches(ctx context.Context, w *Watch, fd int) (*branches, error) {
	b := &branches{w: w, fd: fd, byWd: map[int32]*branch{}, parent: -1}
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
		b.stop = ctx.Err
		err = b.look(dir, b.top, false, 0)
		b.stop = nil
	}
	return b, err
}

// watch adds a directory to the instance: by its descriptor, so that it is this one.
func (b *branches) watch(dir *os.File, mask uint32) (int32, error) {
	wd, err := unix.InotifyAddWatch(b.fd, fmt.Sprintf("/proc/self/fd/%d", dir.Fd()), mask)
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
		return ErrTooMany
	}
	return eachName(dir, func(name string) error {
		st, err := statAt(int(dir.Fd()), name)
		if err == nil && b.stop != nil {
			err = b.stop()
		}
		if errors.Is(err, unix.ENOENT) || draftName.MatchString(name) {
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
			c.told[name] = true
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
	return b.look(dir, c, news, depth)
}

// passing lets go what could not be watched because it is gone or not to be read.
func passing(err error) error {
	for _, one := range []error{unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.EACCES} {
		if errors.Is(err, one) {
			return nil
		}
	}
	return err
}

// comes watches a directory that came into another one.
func (b *branches) comes(in *branch, name string) error {
	if !b.w.recursive {
		return nil
	}
	p, err := b.w.root.in(b.path(in, name))
	if err != nil {
		return passing(err)
	}
	defer p.close()
	dir, err := openChild(p.fd(), p.base)
	if err != nil {
		return passing(err)
	}
	defer dir.Close()
	return b.enter(dir, in, name, true, 0)
}

// tell puts an event into the log.
func (b *branches) tell(typ journal.Type, path, from string, isDir bool) {
	b.last = Event{Type: typ, Path: gopath.Clean("/" + path), IsDir: isDir}
	if from != "" {
		b.last.From = gopath.Clean("/" + from)
	}
	b.w.log.Append(b.last)
}

// errOverflow is the error of events that were lost.
var errOverflow = errors.New("events were lost")

// batch handles the events that one read gave.
func (b *branches) batch(raw []byte) error {
	b.round++
	b.last = Event{}
	for len(raw) >= unix.SizeofInotifyEvent {
		var e inotifyEvent
		e, raw = cutEvent(raw)
		if e.mask&unix.IN_Q_OVERFLOW != 0 {
			return errOverflow
		}
		if err := b.event(e); err != nil {
			return err
		}
	}
	b.settle(func(m move) bool { return m.round < b.round })
	if waiting, err := unix.IoctlGetInt(b.fd, unix.TIOCINQ); err == nil && waiting == 0 {
		for _, c := range b.fresh {
			c.told = nil
		}
		b.fresh = nil
	}
	return nil
}

func cutEvent(raw []byte) (inotifyEvent, []byte) {
	e := inotifyEvent{
		wd:     int32(binary.NativeEndian.Uint32(raw)),
		mask:   binary.NativeEndian.Uint32(raw[4:]),
		cookie: binary.NativeEndian.Uint32(raw[8:]),
	}
	end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(raw[12:]))
	e.name = string(bytes.TrimRight(raw[unix.SizeofInotifyEvent:end], "\x00"))
	return e, raw[end:]
}

// event handles one event; its error ends the watch.
func (b *branches) event(e inotifyEvent) error {
	if e.wd == b.parent && e.name == splitBase(b.w.name) && e.mask&unix.IN_DELETE != 0 {
		return endReason(Gone)
	}
	c := b.byWd[e.wd]
	if c == nil {
		return nil // of a directory that is watched no more, or next to the top
	}
	if e.name == "" {
		return b.self(c, e.mask)
	}
	b.settle(func(m move) bool { return m.from == c && m.name == e.name })
	path, isDir := b.path(c, e.name), e.mask&unix.IN_ISDIR != 0
	draft := draftName.MatchString(e.name)
	switch {
	case e.mask&unix.IN_MOVED_FROM != 0:
		delete(c.told, e.name)
		b.moves = append(b.moves, move{e.cookie, c, e.name, path, isDir, b.round})
	case e.mask&unix.IN_MOVED_TO != 0:
		delete(c.told, e.name)
		return b.arrive(c, e, path, isDir)
	case draft:
	case e.mask&unix.IN_CREATE != 0:
		if c.told[e.name] {
			delete(c.told, e.name)
			return nil
		}
		b.tell(Created, path, "", isDir)
		if isDir && c.children[e.name] == nil {
			return b.comes(c, e.name)
		}
	case e.mask&unix.IN_DELETE != 0:
		delete(c.told, e.name)
		b.leave(c, e.name)
		b.tell(Removed, path, "", isDir)
	case e.mask&unix.IN_MODIFY != 0:
		if b.last.Type != Modified || b.last.Path != gopath.Clean("/"+path) {
			b.tell(Modified, path, "", isDir)
		}
	case e.mask&unix.IN_ATTRIB != 0:
		b.tell(Attributes, path, "", isDir)
	}
	return nil
}

func splitBase(name string) string {
	_, base := split(name)
	return base
}

// self handles what an event says of a directory itself; of those below the top
// their parents say it, too.
func (b *branches) self(c *branch, mask uint32) error {
	switch {
	case c != b.top && mask&(unix.IN_IGNORED|unix.IN_UNMOUNT) != 0:
		b.drop(c)
	case c != b.top:
	case mask&unix.IN_MOVE_SELF != 0:
		return endReason(Moved)
	case mask&unix.IN_UNMOUNT != 0:
		return endReason(Unmounted)
	case mask&(unix.IN_DELETE_SELF|unix.IN_IGNORED) != 0:
		return endReason(Gone)
	case mask&unix.IN_ATTRIB != 0:
		b.tell(Attributes, b.w.name, "", true)
	}
	return nil
}

// leave forgets a directory that left another one.
func (b *branches) leave(in *branch, name string) {
	if child := in.children[name]; child != nil {
		b.drop(child)
	}
}

// arrive handles the second half of a rename, or something from elsewhere.
func (b *branches) arrive(c *branch, e inotifyEvent, path string, isDir bool) error {
	i := slices.IndexFunc(b.moves, func(m move) bool { return m.cookie == e.cookie })
	if i < 0 {
		b.tell(Created, path, "", isDir)
		if isDir {
			b.leave(c, e.name)
			return b.comes(c, e.name)
		}
		return nil
	}
	m := b.moves[i]
	b.moves = slices.Delete(b.moves, i, i+1)
	draft := draftName.MatchString(m.name)
	switch {
	case draft && !isDir:
		b.tell(Modified, path, "", false)
		return nil
	case draft:
		b.tell(Created, path, "", true)
	default:
		b.tell(Renamed, path, m.path, isDir)
	}
	if !isDir {
		return nil
	}
	if child := m.from.children[m.name]; child != nil {
		b.attach(child, c, e.name)
		return nil
	}
	return b.comes(c, e.name)
}

// settle makes a removal of each first half that no second will follow.
func (b *branches) settle(over func(move) bool) {
	b.moves = slices.DeleteFunc(b.moves, func(m move) bool {
		if !over(m) {
			return false
		}
		b.leave(m.from, m.name)
		if !draftName.MatchString(m.name) {
			b.tell(Removed, m.path, "", m.isDir)
		}
		return true
	})
}
