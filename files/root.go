// Package files is the file system of a sandbox: reading, writing, listing, moving,
// archives and watches, with errors that a caller can act on.
//
// Paths are slash-separated; the root is "/". Dots, double dots and double slashes
// are taken out of a path as text, before any link is looked at; what would lead
// above the root is an error. A path that is not absolute begins at the working
// directory. Names are bytes, as the kernel has them, and need not be UTF-8.
//
// Links are followed as the kernel does, but for the last element where an operation
// is about the link itself: Stat, Remove, Move, and what is found in a directory.
package files

import (
	"errors"
	"fmt"
	"os"
	gopath "path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of the kernel on Linux, in bytes: PATH_MAX without its NUL, and NAME_MAX.
const (
	maxPath = 4095
	maxName = 255
)

// Root is a tree of files. Its methods are safe for concurrent use.
type Root struct {
	tree tree
	base string // where the tree's root is, all links followed
	cwd  string // absolute, as in the tree

	noTmpfile bool // as on file systems without O_TMPFILE

	publishing sync.Mutex    // between the last look at a file and its replacement
	syncs      chan struct{} // a place for each fsync under way: each holds a thread

	calm func() // between two looks of a watch

	mu      sync.Mutex
	watches map[*Watch]struct{}
	closed  bool
}

// tree opens what a name leads to, relative to the root, "." being the root: an
// os.Root, which lets no link lead out of it, or everything.
type tree interface {
	OpenFile(name string, flag int, perm os.FileMode) (*os.File, error)
	RemoveAll(name string) error
	Close() error
}

// everything is the file system as this process sees it.
type everything struct{}

func (everything) OpenFile(name string, flag int, perm os.FileMode) (*os.File, error) {
	return os.OpenFile("/"+name, flag, perm)
}

func (everything) RemoveAll(name string) error { return os.RemoveAll("/" + name) }

func (everything) Close() error { return nil }

// Open returns the tree below a directory, whose "/" is that directory and out of
// which no path and no link leads: links with an absolute target are refused. "" is
// the whole file system. cwd is the directory at which relative paths begin, as the
// process sees it; outside of the root it is the root.
func Open(dir, cwd string) (*Root, error) {
	r := &Root{
		tree: everything{}, cwd: "/", syncs: make(chan struct{}, maxSyncs),
		calm: func() { time.Sleep(calm) }, watches: map[*Watch]struct{}{},
	}
	if dir == "" {
		dir = "/"
	} else {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return nil, failure("open", dir, err)
		}
		r.tree = root
	}
	var err error
	if r.base, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, errors.Join(failure("open", dir, err), r.tree.Close())
	}
	if rel, err := filepath.Rel(dir, cwd); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
		r.cwd = gopath.Join("/", rel)
	}
	return r, nil
}

// Close ends all watches, of which nothing is left when it returns. Nothing can be opened then.
func (r *Root) Close() error {
	r.mu.Lock()
	r.closed = true
	watches := r.watches
	r.watches = nil
	r.mu.Unlock()
	for w := range watches {
		w.end(Closed)
	}
	for w := range watches {
		<-w.done
	}
	return r.tree.Close()
}

// name returns what to ask the tree for: the path without its slash, clean.
func (r *Root) name(path string) (string, error) {
	r.mu.Lock()
	closed := r.closed
	r.mu.Unlock()
	switch {
	case closed:
		return "", ErrClosed
	case path == "":
		return "", invalid(path, "is empty")
	case strings.ContainsRune(path, 0):
		return "", invalid(path, "contains a NUL character")
	case len(path) > maxPath:
		return "", invalid(path, "is longer than 4095 bytes")
	case path[0] != '/':
		path = r.cwd + "/" + path
	}
	depth := 0
	for part := range strings.SplitSeq(path, "/") {
		switch part {
		case "", ".":
		case "..":
			depth--
		default:
			depth++
		}
		if depth < 0 {
			return "", invalid(path, "leads above the root")
		}
		if len(part) > maxName {
			return "", invalid(path, "has a name of more than 255 bytes")
		}
	}
	return gopath.Clean("./" + path), nil
}

// place is where a file is, or could be: its name in a directory that is open. The
// name is "." for the root alone.
type place struct {
	dir  *os.File // O_PATH
	base string
	name string // in the tree, of the file itself: links were followed
}

func (p place) fd() int { return int(p.dir.Fd()) }

func (p place) close() { p.dir.Close() }

func (p place) stat() (unix.Stat_t, error) { return statAt(p.fd(), p.base) }

// statAt tells about a file without following a link.
func statAt(dir int, name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := retry(func() error { return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return st, err
}

// place opens the directory of a path. Its last element is not followed.
func (r *Root) place(path string) (place, error) {
	name, err := r.name(path)
	if err != nil {
		return place{}, err
	}
	return r.in(name)
}

func (r *Root) in(name string) (place, error) {
	parent, base := split(name)
	dir, err := r.tree.OpenFile(parent, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil && own(int(dir.Fd()), base) {
		dir.Close()
		return place{}, unix.EACCES
	}
	return place{dir, base, name}, err
}

func split(name string) (parent, base string) {
	parent, base = gopath.Split(name)
	if parent == "" {
		parent = "."
	}
	return parent, base
}

func (r *Root) openDir(name string, flag int) (*os.File, error) {
	f, err := r.tree.OpenFile(name, flag|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil && own(int(f.Fd()), "") {
		f.Close()
		return nil, unix.EACCES
	}
	return f, err
}

// maxLinks is how many links one path may lead through, as in the kernel.
const maxLinks = 40

// target opens the directory of what a path leads to in the end, which need not be
// there. The directories on the way are made where made is not nil, and noted there.
func (r *Root) target(path string, made *[]string) (place, error) {
	name, err := r.name(path)
	if err != nil {
		return place{}, err
	}
	for links := range maxLinks {
		p, err := r.in(name)
		if made != nil && errors.Is(err, unix.ENOENT) {
			parent, _ := split(name)
			if err = r.makeDirs(parent, made); err == nil {
				p, err = r.in(name)
			}
		}
		if err != nil {
			return place{}, err
		}
		link, err := readLink(p.fd(), p.base)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) { // no link, or nothing
			if links > 0 {
				p.name = r.real(p)
			}
			return p, nil
		}
		p.close()
		if err != nil {
			return place{}, err
		}
		if name, err = r.beyond(name, link); err != nil {
			return place{}, err
		}
	}
	return place{}, unix.ELOOP
}

// real returns the name of a place that links led to, without the double dots in them.
func (r *Root) real(p place) string {
	dir, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", p.fd()))
	rel, ok := strings.CutPrefix(dir, strings.TrimSuffix(r.base, "/")+"/")
	switch {
	case err == nil && dir == r.base:
		return p.base
	case err == nil && ok:
		return gopath.Join(rel, p.base)
	}
	return p.name
}

// beyond returns the name of what a link leads to. Its double dots stay: they are
// about the directories that links before them lead to.
func (r *Root) beyond(name, link string) (string, error) {
	link = strings.TrimRight(link, "/")
	if gopath.IsAbs(link) || link == "" {
		if _, all := r.tree.(everything); !all {
			return "", errOutside
		}
		name = strings.TrimLeft(link, "/")
	} else {
		parent, _ := split(name)
		name = strings.TrimSuffix(parent, "/") + "/" + link
	}
	if _, base := split(name); base == ".." || base == "." || base == "" {
		name += "/." // a directory
	}
	return name, nil
}

func readLink(dir int, name string) (string, error) {
	buf := make([]byte, maxPath+1)
	n := 0
	err := retry(func() (err error) {
		n, err = unix.Readlinkat(dir, name, buf)
		return err
	})
	return string(buf[:max(n, 0)]), err
}

// retry calls a system call until no signal interrupts it.
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// open opens a file in a directory, never through a link, and never waiting for the
// other end of a FIFO.
func openAt(dir int, name string, flag int, perm uint32) (int, error) {
	fd := -1
	err := retry(func() (err error) {
		fd, err = unix.Openat(dir, name, flag|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, perm)
		return err
	})
	if err == nil && flag&unix.O_CREAT == 0 && own(fd, "") {
		unix.Close(fd)
		return -1, unix.EACCES
	}
	return fd, err
}
