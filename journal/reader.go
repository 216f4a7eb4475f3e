package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"sort"
	"time"

	"github.com/tidwall/gjson"
)

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
	read int   // bytes of at that were read
	seen int64 // bytes of the log up to there
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
		note := cut{l.o.Ring, l.lost - r.seen}
		r.seen = l.lost
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
	r.seen = c.begin + int64(r.read)
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
