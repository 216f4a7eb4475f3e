package executor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"sort"
	"sync"
	"time"

	"github.com/tidwall/gjson"
)

// fullChunk is the size in bytes at which a log begins its next chunk.
const fullChunk = 64 << 10

// log is a numbered list of events, kept as lines, which any number of readers
// replay and follow while it grows. Lines are packed into chunks. Past memoryLimit
// the oldest chunks go to a store; past limit streams are cut, with a Truncated
// event that tells how much, or, in a ring, the oldest chunks are dropped.
// Results, errors and the end are always kept.
type log struct {
	memoryLimit int64 // bytes in memory
	limit       int64 // bytes in all
	ring        bool
	spill       func() (Store, error) // nil: no store

	writing sync.Mutex // one add at a time
	store   Store
	stuck   bool           // there is no store, or it failed: memory has to do
	cut     map[Type]int64 // stream → bytes left out and not yet told

	mu      sync.Mutex
	chunks  []*chunk
	gone    int   // chunks dropped from the front of a ring
	lost    int64 // their bytes
	seq     int64
	size    int64 // bytes of all lines that are kept
	memory  int64 // of these in memory
	spilled int64 // length of the store
	closed  bool
	evicted bool
	wake    chan struct{} // closed at the next change; nil where nobody waits
}

// chunk is a run of whole lines, each with its line end. Readers hold slices of
// data while it grows: bytes that were once written never change.
type chunk struct {
	first int64 // seq of its first line
	size  int
	data  []byte // nil once the store has it
	off   int64  // where in the store
}

// add appends the event with the next number and wakes the readers. After close it does nothing.
func (l *log) add(e Event) {
	l.writing.Lock()
	defer l.writing.Unlock()
	if stream := e.Type == Stdout || e.Type == Stderr; stream && l.full() {
		l.leaveOut(e)
		return
	} else if !stream {
		l.tellCut()
	}
	l.append(e)
	l.shrink()
}

// full reports whether streams have to be cut.
func (l *log) full() bool {
	if l.ring {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size >= l.limit || l.stuck && l.memory >= l.memoryLimit
}

func (l *log) leaveOut(e Event) {
	if l.cut == nil {
		l.cut = map[Type]int64{}
	}
	n := len(e.Text)
	if e.text != nil {
		n = len(e.text) - len(`""`)
	}
	l.cut[e.Type] += int64(n)
}

// tellCut appends a Truncated event for each stream that lost something since the last.
func (l *log) tellCut() {
	for _, stream := range []Type{Stdout, Stderr} {
		if n := l.cut[stream]; n > 0 {
			l.append(Event{Type: Truncated, Stream: string(stream), Bytes: n})
		}
	}
	clear(l.cut)
}

func (l *log) append(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.seq++
	e.Seq, e.Time = l.seq, time.Now()
	c := l.room(len(e.text) + len(e.Data.Raw()))
	c.data = append(e.AppendJSON(c.data), '\n')
	n := len(c.data) - c.size
	c.size += n
	l.size += int64(n)
	l.memory += int64(n)
	l.signal()
}

// room returns the chunk that takes a line of about n bytes: a long line gets one
// to itself, so that it is not copied when the chunk grows.
func (l *log) room(n int) *chunk {
	if len(l.chunks) > 0 {
		if c := l.chunks[len(l.chunks)-1]; c.data != nil && c.size+n < fullChunk {
			return c
		}
	}
	c := &chunk{first: l.seq, data: make([]byte, 0, n+1024)}
	l.chunks = append(l.chunks, c)
	return c
}

// shrink moves the oldest chunks out of memory, but never the last.
func (l *log) shrink() {
	for {
		c, off := l.oldest()
		if c == nil {
			return
		}
		if l.ring {
			l.drop()
			continue
		}
		if err := l.keep(c, off); err != nil {
			l.mu.Lock()
			l.stuck = true
			l.mu.Unlock()
			return
		}
	}
}

// oldest returns the chunk to move next, and where to; nil where none has to be.
func (l *log) oldest() (*chunk, int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.memory <= l.memoryLimit || l.stuck {
		return nil, 0
	}
	i := sort.Search(len(l.chunks), func(i int) bool { return l.chunks[i].data != nil })
	if i >= len(l.chunks)-1 {
		return nil, 0
	}
	return l.chunks[i], l.spilled
}

func (l *log) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.chunks[0]
	l.chunks = l.chunks[1:]
	l.gone++
	l.lost += int64(c.size)
	l.size -= int64(c.size)
	l.memory -= int64(c.size)
}

// keep writes the chunk to the store, which is made when first needed.
func (l *log) keep(c *chunk, off int64) error {
	if l.store == nil {
		if l.spill == nil {
			return errors.New("no store")
		}
		store, err := l.spill()
		if err != nil {
			return err
		}
		l.mu.Lock()
		l.store = store
		l.mu.Unlock()
	}
	if _, err := l.store.WriteAt(c.data, off); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c.off, c.data = off, nil
	l.spilled += int64(c.size)
	l.memory -= int64(c.size)
	return nil
}

// signal wakes who waits for a change. l.mu is held.
func (l *log) signal() {
	if l.wake != nil {
		close(l.wake)
		l.wake = nil
	}
}

// close ends the log: readers end after its last line.
func (l *log) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.signal()
}

// evict frees what the log holds; readers end with ErrEvicted.
func (l *log) evict() {
	l.close()
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.evicted = true
	l.chunks, l.memory = nil, 0
	if l.store != nil {
		l.store.Close() // what it held is given up
	}
}

// bytes returns how many bytes the log holds, in all and in memory, and how many lines it ever had.
func (l *log) bytes() (size, memory, lines int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size, l.memory, l.seq
}

// lines yields the lines after number after, then follows the log until it is
// closed (the loop ends) or ctx is done (it ends with ctx's error). Where a ring
// has dropped lines that were asked for, a Truncated line comes first.
func (l *log) lines(ctx context.Context, after int64) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		r := reader{log: l, next: after + 1}
		for {
			lines, err := r.batch(ctx)
			if err != nil {
				yield(Line{}, err)
				return
			}
			if lines == nil {
				return
			}
			for len(lines) > 0 {
				var line Line
				line, lines = cutLine(lines)
				if line.Seq < r.next {
					continue
				}
				r.next = line.Seq + 1
				line.More = len(lines) > 0 || r.ready()
				if !yield(line, nil) {
					return
				}
			}
		}
	}
}

// cutLine takes the first line off lines.
func cutLine(lines []byte) (Line, []byte) {
	raw, rest, _ := bytes.Cut(lines, []byte{'\n'})
	head := raw[:min(len(raw), 128)] // seq and type come first
	return Line{Seq: gjson.GetBytes(head, "seq").Int(), Type: Type(gjson.GetBytes(head, "type").String()), JSON: raw}, rest
}

// reader is a place in a log.
type reader struct {
	log  *log
	next int64 // seq of the next line
	at   *chunk
	read int // bytes of at that were read
}

// batch waits for lines to read and returns them; nil at the log's end.
func (r *reader) batch(ctx context.Context) ([]byte, error) {
	for {
		data, wake, err := r.look()
		if err != nil || data != nil || wake == nil {
			return data, err
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// ready reports whether a batch could be had without waiting.
func (r *reader) ready() bool {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	return r.log.seq >= r.next
}

// look returns what there is to read, or a channel that closes when that changes, or, at the end, neither.
func (r *reader) look() ([]byte, <-chan struct{}, error) {
	l := r.log
	l.mu.Lock()
	if l.evicted {
		l.mu.Unlock()
		return nil, nil, ErrEvicted
	}
	if first := l.first(); r.next < first && l.gone > 0 {
		r.next = first
		note := Event{Seq: first - 1, Type: Truncated, Time: time.Now(), Stream: "background", Bytes: l.lost}
		l.mu.Unlock()
		r.next = first - 1 // the note takes the number of the last line that is gone
		return append(note.AppendJSON(nil), '\n'), nil, nil
	}
	if r.next > l.seq {
		defer l.mu.Unlock()
		if l.closed {
			return nil, nil, nil
		}
		if l.wake == nil {
			l.wake = make(chan struct{})
		}
		return nil, l.wake, nil
	}
	c := l.chunkOf(r.next)
	if c != r.at {
		r.at, r.read = c, 0
	}
	data, off, size := c.data, c.off, c.size
	store := l.store
	l.mu.Unlock()

	if data == nil {
		data = make([]byte, size)
		if n, err := store.ReadAt(data, off); n < size {
			return nil, nil, fmt.Errorf("cannot read events: %w", errors.Join(err, l.gave()))
		}
	}
	fresh := data[r.read:]
	r.read = len(data)
	return fresh, nil, nil
}

// first returns the number of the first line that is kept. l.mu is held.
func (l *log) first() int64 {
	if len(l.chunks) == 0 {
		return l.seq + 1
	}
	return l.chunks[0].first
}

// chunkOf returns the chunk that holds the line. l.mu is held.
func (l *log) chunkOf(seq int64) *chunk {
	i := sort.Search(len(l.chunks), func(i int) bool { return l.chunks[i].first > seq })
	return l.chunks[max(i-1, 0)]
}

// gave returns ErrEvicted where the log was given up.
func (l *log) gave() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.evicted {
		return ErrEvicted
	}
	return nil
}
