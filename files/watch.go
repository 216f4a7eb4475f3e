package files

import (
	"context"
	"errors"
	"iter"
	"os"
	gopath "path"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/journal"
)

const (
	maxWatches  = 64        // of one Root: each is an inotify instance, of which a user has 128 by default
	maxWatched  = 100_000   // directories of one watch
	watchMemory = 4 << 20   // bytes of events that wait for a reader
	watchBuffer = 256 << 10 // bytes of events that are taken from the kernel at once
)

// calm is how long a watch lets events pile up, so that the kernel joins those that
// are the same, and the halves of a rename come together.
const calm = 10 * time.Millisecond

// Watch tells what happens in a directory. It takes what the kernel has at once, and
// keeps the newest 4 MiB for a reader that is slow: where something is lost, there or
// in the kernel, an Overflow tells.
type Watch struct {
	root      *Root
	name      string // of the directory, in the tree
	recursive bool
	log       *journal.Log
	ended     sync.Once
	done      chan struct{} // closed when nothing is left of it
	err       error         // why it could not go on

	mu      sync.Mutex
	notify  *os.File        // inotify; another one after an overflow
	asked   []chan struct{} // of Newest, to be closed when nothing waits
	stopped bool

	b *branches // of the loop alone
}

// Watch watches a directory, following a link to it, and with recursive all that are
// below it or come there, without following links: what is in a directory that
// comes is told of as created, and nothing is missed in between. The watch is in
// force when it returns, and ends by Close, or by itself when the directory goes or
// gets another path; ctx bounds the beginning alone. Where the system has no more
// watches it returns ErrTooMany.
func (r *Root) Watch(ctx context.Context, path string, recursive bool) (*Watch, error) {
	p, err := r.target(path, nil)
	if err != nil {
		return nil, failure("watch", path, err)
	}
	p.close()
	w := &Watch{
		root: r, name: p.name, recursive: recursive, done: make(chan struct{}),
		log: journal.New(journal.Options{Memory: watchMemory, Ring: "watch"}),
	}
	if err := r.register(w); err != nil {
		return nil, failure("watch", path, err)
	}
	if err := w.set(ctx); err != nil {
		r.forget(w)
		close(w.done)
		return nil, failure("watch", path, err)
	}
	go w.run()
	return w, nil
}

func (r *Root) register(w *Watch) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return ErrClosed
	}
	if len(r.watches) >= maxWatches {
		return ErrTooMany
	}
	r.watches[w] = struct{}{}
	return nil
}

func (r *Root) forget(w *Watch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.watches, w)
}

// Path returns the directory that is watched, with links to it followed: the paths of events
// begin with it.
func (w *Watch) Path() string { return gopath.Clean("/" + w.name) }

// Newest returns the number of the newest event, once all that happened before the call is
// told, or when ctx is done.
func (w *Watch) Newest(ctx context.Context) int64 {
	told := make(chan struct{})
	w.mu.Lock()
	w.asked = append(w.asked, told)
	if w.notify != nil {
		_ = w.notify.SetReadDeadline(time.Unix(1, 0)) // has the loop look
	}
	w.mu.Unlock()
	select {
	case <-told:
	case <-w.done:
	case <-ctx.Done():
	}
	_, _, newest := w.log.Size()
	return newest
}

// Lines yields the events after a number as lines, and follows the watch to its end:
// the last line is a journal.End, or an error tells why the watch could not go on.
func (w *Watch) Lines(ctx context.Context, after int64) iter.Seq2[journal.Line, error] {
	return func(yield func(journal.Line, error) bool) {
		for line, err := range w.log.Lines(ctx, after) {
			if line.Type == journal.Truncated { // the reader was too slow
				line.Type, line.JSON = Overflow, Event{Type: Overflow}.AppendLine(nil, line.Seq, time.Now())
			}
			if !yield(line, err) || err != nil {
				return
			}
		}
		<-w.done
		if w.err != nil {
			yield(journal.Line{}, w.err)
		}
	}
}

// Close ends the watch; nothing is left of it when it returns.
func (w *Watch) Close() {
	w.end(Closed)
	<-w.done
}

// end tells why the watch ends, unless it has, and has the loop stop.
func (w *Watch) end(reason string) {
	w.ended.Do(func() {
		w.log.End(Event{Type: journal.End, Status: "ok", Reason: reason})
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	if w.notify != nil {
		_ = w.notify.SetReadDeadline(time.Unix(1, 0))
	}
}

// closed returns ErrClosed once the watch has ended.
func (w *Watch) closed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return ErrClosed
	}
	return nil
}

// set begins to watch, with a new inotify instance that takes the place of the old.
func (w *Watch) set(ctx context.Context) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return tooMany(err)
	}
	notify := os.NewFile(uintptr(fd), "inotify")
	b, err := newBranches(ctx, w, fd)
	if err != nil {
		notify.Close()
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		notify.Close()
		return ErrClosed
	}
	if w.notify != nil {
		w.notify.Close()
	}
	w.notify, w.b = notify, b
	return nil
}

// tooMany tells what inotify means by errors that mean something else elsewhere.
func tooMany(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENOMEM) {
		return ErrTooMany
	}
	return err
}

// run takes events from the kernel until the watch ends.
func (w *Watch) run() {
	defer close(w.done)
	defer w.root.forget(w)
	defer func() { w.notify.Close() }() // nobody else does: the number is in use here
	buf := make([]byte, watchBuffer)
	for {
		until, ok := w.mayWait()
		if !ok {
			return
		}
		n, err := w.notify.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) && time.Now().Before(until) {
			err = nil // somebody asks: halves of renames have their time
		} else if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			err = w.b.batch(buf[:n])
		}
		if errors.Is(err, errOverflow) {
			err = w.again()
		}
		if err != nil {
			w.fail(err)
			return
		}
		w.root.calm()
	}
}

// mayWait says until when to wait for events, zero for ever, and whether to.
func (w *Watch) mayWait() (until time.Time, ok bool) {
	if len(w.b.moves) > 0 { // whose second half may come
		until = time.Now().Add(2 * calm)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return until, false
	}
	if waiting, err := unix.IoctlGetInt(w.b.fd, unix.TIOCINQ); len(w.b.moves) == 0 && (err != nil || waiting == 0) {
		for _, told := range w.asked {
			close(told)
		}
		w.asked = nil
	}
	_ = w.notify.SetReadDeadline(until)
	return until, true
}

// again begins anew after events were lost.
func (w *Watch) again() error {
	err := w.set(context.Background())
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return endReason(Gone)
	}
	if err == nil {
		w.log.Append(Event{Type: Overflow})
	}
	return err
}

// fail ends the watch where it has not ended.
func (w *Watch) fail(err error) {
	var gone endReason
	if errors.As(err, &gone) {
		w.end(string(gone))
	}
	w.ended.Do(func() {
		w.err = failure("watch", "/"+w.name, err)
		w.log.Close()
	})
}

// endReason is the error of an event that ends the watch.
type endReason string

func (e endReason) Error() string { return "the watch ends: " + string(e) }
