package files

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// MaxDepth is the deepest that List goes.
const MaxDepth = 64

// maxPage is how many bytes of paths end a page before its limit.
const maxPage = 8 << 20

// ListOptions say what to list. Zero is 1 for Depth and 1000 for Limit.
type ListOptions struct {
	Depth  int    // directories down from the path, whose own entries are at depth 1
	Limit  int    // entries at most
	Cursor string // where the page before ended: its Page.Next
}

// Page is a part of a list.
type Page struct {
	Entries []Entry
	Next    string // what comes after; "" where that is nothing
}

// List lists a directory, following a link to it, and below it as deep as it is
// asked to, without following links. Entries are in the order of the bytes of their
// names; what is in a directory comes after it. Pages may be far apart: a file that
// is there all the time is in exactly one of them.
//
// It takes memory for a page, however many files there are, and reads all names of
// a directory for each page of it.
func (r *Root) List(ctx context.Context, path string, o ListOptions) (Page, error) {
	if o.Depth == 0 {
		o.Depth = 1
	}
	if o.Limit == 0 {
		o.Limit = 1000
	}
	after, err := parseCursor(o.Cursor)
	if err != nil {
		return Page{}, err
	}
	name, err := r.name(path)
	if err != nil {
		return Page{}, err
	}
	dir, err := r.openDir(name, unix.O_RDONLY)
	if err != nil {
		return Page{}, failure("list", path, err)
	}
	defer dir.Close()
	l := lister{ctx: ctx, limit: o.Limit + 1, page: Page{Entries: []Entry{}}}
	if err := l.list(dir, "/"+name, o.Depth, after); err != nil {
		return Page{}, failure("list", path, err)
	}
	if most := l.limit - 1; len(l.page.Entries) > most {
		l.page.Entries = l.page.Entries[:most]
		l.page.Next = newCursor(l.rels[most-1])
	}
	return l.page, nil
}

// lister fills a page.
type lister struct {
	ctx   context.Context
	names names
	limit int // entries, with one that belongs to the next page
	size  int // bytes of paths
	page  Page
	below []string // names of the directories down to where it is
	rels  []string // paths of the entries from where the list began
}

func (l *lister) full() bool { return len(l.page.Entries) >= l.limit }

// list adds what is in a directory after the path after, whose own entry was in a
// page before.
func (l *lister) list(dir *os.File, path string, depth int, after []string) error {
	var last string
	if len(after) > 0 {
		last = after[0]
		if err := l.enter(dir, path, last, depth, after[1:]); err != nil && !unreadable(err) { // its own entry told
			return err
		}
	}
	for !l.full() {
		most := max((l.limit-len(l.page.Entries))>>len(l.below), 256) // so that a deep tree takes no more memory
		batch, err := next(l.ctx, dir, last, most)
		if err != nil {
			return err
		}
		for _, name := range batch {
			if err := l.add(dir, path, name, depth); err != nil || l.full() {
				return err
			}
		}
		if len(batch) < most {
			return nil
		}
		last = batch[len(batch)-1]
	}
	return nil
}

// add adds an entry, and what is in it.
func (l *lister) add(dir *os.File, path, name string, depth int) error {
	st, err := statAt(int(dir.Fd()), name)
	if errors.Is(err, unix.ENOENT) {
		return nil // just removed
	}
	if err != nil {
		return err
	}
	l.page.Entries = append(l.page.Entries, l.names.entry(int(dir.Fd()), name, path+"/"+name, &st))
	l.rels = append(l.rels, strings.Join(append(l.below, name), "/"))
	if l.size += len(path) + len(name); l.size > maxPage {
		l.limit = min(l.limit, len(l.page.Entries)+1)
	}
	if typeOf(&st) != Dir {
		return nil
	}
	at := len(l.page.Entries) - 1
	err = l.enter(dir, path, name, depth, nil)
	if unreadable(err) {
		l.page.Entries[at].Unreadable, err = true, nil
	}
	return err
}

// enter lists a directory in dir if it is not too deep.
func (l *lister) enter(dir *os.File, path, name string, depth int, after []string) error {
	if depth <= 1 || l.full() {
		return nil
	}
	child, err := openChild(int(dir.Fd()), name)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil // gone, or something else by now
	}
	if err != nil {
		return err
	}
	defer child.Close()
	l.below = append(l.below, name)
	defer func() { l.below = l.below[:len(l.below)-1] }()
	err = l.list(child, path+"/"+name, depth-1, after)
	if errors.Is(err, unix.ENOENT) {
		return nil // it was removed meanwhile
	}
	return err
}

// next returns the first names after last in a directory, sorted, at most so many,
// and holds at most twice as many.
func next(ctx context.Context, dir *os.File, last string, most int) ([]string, error) {
	if _, err := dir.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	var found []string
	bound := "" // a name that is too far, once there are enough
	err := eachName(dir, func(name string) error {
		if name <= last || bound != "" && name >= bound {
			return nil
		}
		if found = append(found, name); len(found) == 2*most {
			slices.Sort(found)
			found = found[:most]
			bound = found[most-1]
		}
		return ctx.Err()
	})
	slices.Sort(found)
	return found[:min(most, len(found))], err
}

func newCursor(rel string) string { return base64.RawURLEncoding.EncodeToString([]byte(rel)) }

// ErrCursor is the error of a cursor that no page had.
var ErrCursor = errors.New("bad cursor")

func parseCursor(cursor string) ([]string, error) {
	if cursor == "" {
		return nil, nil
	}
	rel, err := base64.RawURLEncoding.DecodeString(cursor)
	parts := strings.Split(string(rel), "/")
	if err != nil || strings.ContainsRune(string(rel), 0) || len(parts) > MaxDepth || slices.ContainsFunc(parts, func(part string) bool {
		return part == "" || part == "." || part == ".."
	}) {
		return nil, ErrCursor
	}
	return parts, nil
}
