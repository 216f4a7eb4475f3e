package files

import (
	"bytes"
	"encoding/binary"
	"errors"
	gopath "path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/journal"
)

// inotifyEvent is struct inotify_event of inotify(7).
type inotifyEvent struct {
	wd     int32
	mask   uint32
	cookie uint32
	name   string
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
		b.fresh, b.told = nil, 0
		return b.catchUp()
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
	draft := draftName().MatchString(e.name)
	switch {
	case e.mask&unix.IN_MOVED_FROM != 0:
		delete(c.told, e.name)
		delete(b.late, spot{c, e.name})
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
		delete(b.late, spot{c, e.name})
		b.leave(c, e.name)
		b.tell(Removed, path, "", isDir)
	case e.mask&unix.IN_MODIFY != 0:
		if b.last.Type != Modified || b.last.Path != gopath.Clean("/"+path) {
			b.tell(Modified, path, "", isDir)
		}
	case e.mask&unix.IN_ATTRIB != 0 && !nameless().MatchString(e.name):
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
	draft := draftName().MatchString(m.name)
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
		if !draftName().MatchString(m.name) {
			b.tell(Removed, m.path, "", m.isDir)
		}
		return true
	})
}

// tell puts an event into the log.
func (b *branches) tell(typ journal.Type, path, from string, isDir bool) {
	b.last = Event{Type: typ, Path: gopath.Clean("/" + path), IsDir: isDir}
	if from != "" {
		b.last.From = gopath.Clean("/" + from)
	}
	b.w.log.Append(b.last)
}
