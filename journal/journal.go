// Package journal keeps numbered events as lines of JSON, which any number of
// readers replay from any number on and follow while the journal grows. What a run
// said, what a process wrote and what happened to a sandbox are each a journal.
package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"sort"
	"strconv"
	"sync"
	"time"

	"github.com/tidwall/gjson"
)

// ErrEvicted ends the lines of a log that was given up.
var ErrEvicted = errors.New("the events are no longer kept")

// Type says what an event is: the member "type" of its line.
type Type string

// The types that mean the same in every log.
const (
	Truncated Type = "truncated" // stream, bytes: that much was left out here
	End       Type = "end"       // always last
)

// TimeLayout is how lines tell time, which is UTC.
const TimeLayout = "2006-01-02T15:04:05.000000Z"

// Time is a time that is in JSON as lines have it.
type Time struct{ time.Time }

// MarshalJSON is for package json.
func (t Time) MarshalJSON() ([]byte, error) {
	return t.UTC().AppendFormat(nil, `"`+TimeLayout+`"`), nil
}

// Entry is an event on its way into a log.
type Entry interface {
	// AppendLine appends the event to dst as one line of JSON without the line end.
	// Its members seq and type come first.
	AppendLine(dst []byte, seq int64, at time.Time) []byte
	// Piece names the stream that the event is a piece of, and tells its size in
	// bytes: such a piece may be left out where a log is full. "" is an event that
	// is always kept; its size is a guess of the length of its line.
	Piece() (stream string, size int)
}

// Line is an event as one line of JSON, without the line end.
type Line struct {
	Seq  int64
	Type Type
	JSON []byte // not to be changed
	More bool   // another line is ready now: a writer need not flush yet
	ID   string // the line's place where one stream has several logs; "": Seq is
}

// Store is a place outside memory for the bytes of a log that has grown long.
type Store interface {
	WriteAt(p []byte, off int64) (int, error)
	ReadAt(p []byte, off int64) (int, error)
	Close() error // gives up what it holds
}

// Options bound a Log.
type Options struct {
	Memory int64                 // bytes kept in memory
	Limit  int64                 // bytes in all; 0 is what Memory says
	Spill  func() (Store, error) // where a log goes past Memory; nil: nowhere

	// Ring names a log that drops its oldest lines at the limit; "" is one that
	// leaves out pieces of streams there, and keeps all else.
	Ring string
}

// fullChunk is the size in bytes at which a log begins its next chunk.
const fullChunk = 64 << 10

// Log is a numbered list of events. Lines are packed into chunks. Past Memory the
// oldest chunks go to the store; past Limit streams are cut, with a truncated line
// that tells how much, or, in a ring, the oldest chunks are dropped, and a reader
// that asks for them gets a truncated line in their place. Its methods are safe for
// concurrent use.
type Log struct {
	o Options

	writing sync.Mutex // one Append at a time
	stuck   bool       // there is no store, or it failed: memory has to do
	cuts    []cut      // what was left out and not yet told

	mu      sync.Mutex
	store   Store
	chunks  []*chunk
	lost    int64 // bytes of the chunks that a ring dropped
	seq     int64
	size    int64 // bytes of all lines that are kept
	memory  int64 // of these in memory
	end     int64 // where in the store the next chunk goes
	closed  bool
	evicted bool
	wake    chan struct{} // closed at the next change; nil where nobody waits
}

// cut is a number of bytes that a stream lost.
type cut struct {
	stream string
	bytes  int64
}

// chunk is a run of whole lines, each with its line end. Readers hold slices of
// data while it grows: bytes that were once written never change.
type chunk struct {
	first   int64 // seq of its first line
	size    int
	data    []byte // nil once the store has it
	off     int64  // where in the store
	dropped bool
}

// New returns an empty log.
func New(o Options) *Log {
	if o.Limit == 0 {
		o.Limit = o.Memory
	}
	return &Log{o: o}
}

// Append appends the event with the next number and wakes the readers. After Close it does nothing.
func (l *Log) Append(e Entry) {
	l.writing.Lock()
	defer l.writing.Unlock()
	if stream, size := e.Piece(); stream != "" && l.full() {
		l.leaveOut(stream, int64(size))
		return
	} else if stream == "" {
		l.tellCuts()
	}
	l.append(e)
	l.shrink()
}

// full reports whether streams have to be cut.
func (l *Log) full() bool {
	if l.o.Ring != "" {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size >= l.o.Limit || l.stuck && l.memory >= l.o.Memory
}

func (l *Log) leaveOut(stream string, n int64) {
	for i := range l.cuts {
		if l.cuts[i].stream == stream {
			l.cuts[i].bytes += n
			return
		}
	}
	l.cuts = append(l.cuts, cut{stream, n})
}

// tellCuts appends a truncated line for each stream that lost something since the last.
func (l *Log) tellCuts() {
	sort.Slice(l.cuts, func(i, j int) bool { return l.cuts[i].stream > l.cuts[j].stream }) // stdout before stderr
	for _, c := range l.cuts {
		l.append(c)
	}
	l.cuts = nil
}

// Piece returns "": that something is missing is always told.
func (c cut) Piece() (string, int) { return "", 0 }

// AppendLine is for the log.
func (c cut) AppendLine(dst []byte, seq int64, at time.Time) []byte {
	dst = AppendHead(dst, seq, Truncated, at)
	dst = append(dst, `,"stream":`...)
	dst = gjson.AppendJSONString(dst, c.stream)
	dst = append(dst, `,"bytes":`...)
	return append(strconv.AppendInt(dst, c.bytes, 10), '}')
}

// AppendHead appends what every line begins with: {"seq":1,"type":"end","time":"…"
func AppendHead(dst []byte, seq int64, typ Type, at time.Time) []byte {
	dst = append(dst, `{"seq":`...)
	dst = strconv.AppendInt(dst, seq, 10)
	dst = append(dst, `,"type":"`...)
	dst = append(dst, typ...)
	dst = append(dst, `","time":"`...)
	dst = at.UTC().AppendFormat(dst, TimeLayout)
	return append(dst, '"')
}

func (l *Log) append(e Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.seq++
	_, size := e.Piece()
	c := l.room(size)
	c.data = append(e.AppendLine(c.data, l.seq, time.Now()), '\n')
	n := len(c.data) - c.size
	c.size += n
	l.size += int64(n)
	l.memory += int64(n)
	l.signal()
}

// room returns the chunk that takes a line of about n bytes: a long line gets one
// to itself, so that it is not copied when the chunk grows.
func (l *Log) room(n int) *chunk {
	if len(l.chunks) > 0 {
		if c := l.chunks[len(l.chunks)-1]; c.data != nil && c.size+n < fullChunk {
			return c
		}
	}
	c := &chunk{first: l.seq, data: make([]byte, 0, n+1024)}
	l.chunks = append(l.chunks, c)
	return c
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

// signal wakes who waits for a change. l.mu is held.
func (l *Log) signal() {
	if l.wake != nil {
		close(l.wake)
		l.wake = nil
	}
}

// Close ends the log: readers end after its last line.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.signal()
}

// Evict frees what the log holds; readers end with ErrEvicted.
func (l *Log) Evict() {
	l.Close()
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

// Size returns how many bytes the log holds, in all and in memory, and how many lines it ever had.
func (l *Log) Size() (size, memory, lines int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size, l.memory, l.seq
}

// Lines yields the lines after number after, then follows the log until it is
// closed (the loop ends) or ctx is done (it ends with ctx's error). Where a ring
// has dropped lines that were asked for, a truncated line comes first.
func (l *Log) Lines(ctx context.Context, after int64) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		r := reader{log: l, next: max(after, 0) + 1}
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
	log  *Log
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
	if first := l.first(); r.next < first {
		note := cut{l.o.Ring, l.lost}
		l.mu.Unlock()
		r.next = first - 1 // the note takes the number of the last line that is gone
		return append(note.AppendLine(nil, r.next, time.Now()), '\n'), nil, nil
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
		n, err := store.ReadAt(data, off)
		if l.overwritten(c) {
			return r.look()
		}
		if n < size {
			return nil, nil, fmt.Errorf("cannot read events: %w", errors.Join(err, l.gave()))
		}
	}
	fresh := data[r.read:]
	r.read = len(data)
	return fresh, nil, nil
}

// first returns the number of the first line that is kept. l.mu is held.
func (l *Log) first() int64 {
	if len(l.chunks) == 0 {
		return l.seq + 1
	}
	return l.chunks[0].first
}

// chunkOf returns the chunk that holds the line. l.mu is held.
func (l *Log) chunkOf(seq int64) *chunk {
	i := sort.Search(len(l.chunks), func(i int) bool { return l.chunks[i].first > seq })
	return l.chunks[max(i-1, 0)]
}

// overwritten reports whether a ring dropped the chunk.
func (l *Log) overwritten(c *chunk) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return c.dropped
}

// gave returns ErrEvicted where the log was given up.
func (l *Log) gave() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.evicted {
		return ErrEvicted
	}
	return nil
}
