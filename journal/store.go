package journal

import (
	"errors"
	"os"
	"sort"
	"syscall"
)

// Store is a place outside memory for the bytes of a log that has grown long.
type Store interface {
	WriteAt(p []byte, off int64) (int, error)
	ReadAt(p []byte, off int64) (int, error)
	Close() error // gives up what it holds
}

// TempStore makes a place on disk for a long log: a file without a name, which goes
// when it is closed or when the process ends, however it ends.
func TempStore() (Store, error) { return storeIn("") }

// TempStoreIn makes TempStores in a directory.
func TempStoreIn(dir string) func() (Store, error) {
	return func() (Store, error) { return storeIn(dir) }
}

func storeIn(dir string) (Store, error) {
	const noName = 0o20000000 | syscall.O_DIRECTORY // O_TMPFILE of open(2), which package syscall does not have
	if dir == "" {
		dir = os.TempDir()
	}
	// O_EXCL: it cannot get a name later either.
	if f, err := os.OpenFile(dir, os.O_RDWR|os.O_EXCL|noName, 0o600); err == nil {
		return f, nil
	}
	f, err := os.CreateTemp(dir, "k2-events-") // a file system that knows no such files
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// shrink moves the oldest chunks out of memory, but never the last, and drops those
// for which a ring has no room.
func (l *Log) shrink() {
	for l.over() {
		c := l.oldest()
		if c == nil {
			return
		}
		if !l.stuck {
			l.stuck = l.keep(c) != nil
		}
		if l.stuck && l.o.Ring == "" {
			return
		}
		if l.stuck {
			l.drop(1)
		}
	}
}

// over reports whether more is in memory than should be.
func (l *Log) over() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.memory > l.o.Memory
}

// oldest returns the first chunk that is in memory; nil where that is the last.
func (l *Log) oldest() *chunk {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := sort.Search(len(l.chunks), func(i int) bool { return l.chunks[i].data != nil })
	if i >= len(l.chunks)-1 {
		return nil
	}
	return l.chunks[i]
}

// drop forgets the n oldest chunks of a ring.
func (l *Log) drop(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.chunks[:n] {
		c.dropped = true
		l.lost += int64(c.size)
		l.size -= int64(c.size)
		if c.data != nil {
			l.memory -= int64(c.size)
		}
	}
	clear(l.chunks[:n]) // what the list has room for it keeps
	l.chunks = l.chunks[n:]
}

// keep writes the chunk to the store, which is made when first needed. In a ring the
// store is used round and round: chunks that lie in the way are dropped.
func (l *Log) keep(c *chunk) error {
	if l.store == nil {
		if l.o.Spill == nil {
			return errors.New("no store")
		}
		store, err := l.o.Spill()
		if err != nil {
			return err
		}
		l.mu.Lock()
		l.store = store
		l.mu.Unlock()
	}
	off := l.end
	if l.o.Ring != "" {
		if off > 0 && off+int64(c.size) > l.o.Limit {
			off = 0
		}
		l.drop(l.inTheWay(l.end, off, off+int64(c.size)))
	}
	if _, err := l.store.WriteAt(c.data, off); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c.off, c.data = off, nil
	l.end = off + int64(c.size)
	l.memory -= int64(c.size)
	return nil
}

// inTheWay counts the oldest chunks that the place from off to before end would
// overwrite, or that lie behind the last place of this round, which was at.
func (l *Log) inTheWay(at, off, end int64) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for i, c := range l.chunks {
		if c.data != nil {
			break
		}
		if c.off < end && c.off+int64(c.size) > off || off < at && c.off >= at {
			n = i + 1
		}
	}
	return n
}
