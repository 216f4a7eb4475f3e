// Package journal keeps numbered events as lines of JSON, which any number of
// readers replay from any number on and follow while the journal grows. What a run
// said, what a process wrote and what happened to a sandbox are each a journal.
package journal

import (
	"errors"
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
	done    chan struct{} // closed by End
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
	begin   int64 // bytes of all lines before it
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
	return &Log{o: o, done: make(chan struct{})}
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

// End appends the last event and closes the log, in one: who has read the event finds Done closed. It is called once.
func (l *Log) End(e Entry) {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.tellCuts()
	l.mu.Lock()
	l.appendLocked(e)
	l.closed = true
	close(l.done)
	l.signal()
	l.mu.Unlock()
	l.shrink()
}

// Done is closed when the event of End can be read.
func (l *Log) Done() <-chan struct{} { return l.done }

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
	l.appendLocked(e)
	l.signal()
}

func (l *Log) appendLocked(e Entry) {
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
}

// room returns the chunk that takes a line of about n bytes: a long line gets one
// to itself, so that it is not copied when the chunk grows.
func (l *Log) room(n int) *chunk {
	if len(l.chunks) > 0 {
		if c := l.chunks[len(l.chunks)-1]; c.data != nil && c.size+n < fullChunk {
			return c
		}
	}
	if n >= fullChunk {
		n = 0 // it grows once, to what it takes: no memory is cleared for that
	}
	c := &chunk{first: l.seq, begin: l.lost + l.size, data: make([]byte, 0, n+1024)}
	l.chunks = append(l.chunks, c)
	return c
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
