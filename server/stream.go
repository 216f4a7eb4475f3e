package server

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/journal"
)

const (
	ndjson      = "application/x-ndjson"
	eventStream = "text/event-stream"

	// settle is how long a line may wait for more to go out with: a short run is sent,
	// and wakes its client, once.
	settle = 5 * time.Millisecond

	// headWait is how long the head of a stream may wait for the first line, which may
	// be an error: on a loaded machine it takes its time.
	headWait = 50 * time.Millisecond

	batch = 32 << 10 // bytes of lines that are sent at once
)

// WantsSSE reports whether the client asks for server-sent events rather than NDJSON.
func WantsSSE(r *http.Request) bool {
	for _, accept := range r.Header.Values("Accept") {
		for one := range strings.SplitSeq(accept, ",") {
			typ, _, _ := strings.Cut(one, ";")
			switch strings.ToLower(strings.TrimSpace(typ)) {
			case eventStream:
				return true
			case ndjson:
				return false
			}
		}
	}
	return false
}

// Follow answers with a stream of the lines after number after, as NDJSON or as
// server-sent events, until the lines end, the client is gone, or a write makes no
// progress for too long. Lines that come within a few milliseconds are sent
// together. Each time that nothing was sent for a while it sends a ping, which has
// the number of the last line.
//
// Where the lines begin with an error it returns it and has written nothing; a
// later error becomes an end line. The head of the answer does not wait for the
// first line. Follow reports whether the client stayed to the end.
func Follow(w http.ResponseWriter, r *http.Request, o Options, after int64, lines func(ctx context.Context, after int64) iter.Seq2[executor.Line, error]) (bool, error) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	s := &stream{w: w, rc: http.NewResponseController(w), o: o, sse: WantsSSE(r), last: after, cancel: cancel}
	s.setHeaders()
	if r.Method == http.MethodHead {
		return true, nil
	}
	id := w.Header().Get(requestIDHeader)
	s.open()
	defer s.close()
	for line, err := range lines(ctx, after) {
		if err != nil && ctx.Err() != nil {
			break
		}
		if err != nil {
			return s.fail(err, id)
		}
		s.line(line)
	}
	return s.finish() && ctx.Err() == nil, nil
}

// stream is an answer that grows. Its timer sends pings from a goroutine of its own.
type stream struct {
	w      http.ResponseWriter
	rc     *http.ResponseController
	o      Options
	sse    bool
	cancel context.CancelFunc // ends the lines once the client is gone

	mu     sync.Mutex
	timer  *time.Timer
	buf    *[]byte // not yet sent
	begun  bool    // the head is out
	due    bool    // the timer is about to send what is in buf
	sent   time.Time
	closed bool
	err    error // why nothing can be sent any more
	last   int64 // number of the last line
}

func (s *stream) open() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf = buffers.Get().(*[]byte)
	s.due = true
	s.timer = time.AfterFunc(headWait, s.quiet)
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, batch+batch/4); return &b }}

func (s *stream) setHeaders() {
	h := s.w.Header()
	h.Set("Content-Type", ndjson)
	if s.sse {
		h.Set("Content-Type", eventStream)
	}
	if s.o.Epoch != "" {
		h.Set("X-Epoch", s.o.Epoch)
	}
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would hold lines back
}

// line takes a line, to be sent soon, with those that are ready then.
func (s *stream) line(l executor.Line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = l.Seq
	first := !s.begun && len(*s.buf) == 0
	s.put(l.JSON, s.id(l))
	switch {
	case len(*s.buf) >= batch:
		s.send(!l.More)
	case (first || !s.due) && l.Type != executor.End: // which finish sends
		s.due = true
		s.timer.Reset(settle)
	}
}

// id returns what a server-sent event has as its id.
func (s *stream) id(l executor.Line) string {
	if !s.sse || l.ID != "" {
		return l.ID
	}
	return strconv.FormatInt(l.Seq, 10)
}

// put frames a line. Long ones are sent from where they are.
func (s *stream) put(line []byte, id string) {
	if s.sse && id != "" {
		*s.buf = append(append(append(*s.buf, "id: "...), id...), '\n')
	}
	if s.sse {
		*s.buf = append(*s.buf, "data: "...)
	}
	if len(line) <= batch {
		*s.buf = append(*s.buf, line...)
	} else {
		s.send(false)
		s.write(line)
	}
	*s.buf = append(*s.buf, '\n')
	if s.sse {
		*s.buf = append(*s.buf, '\n')
	}
}

// send writes what is buffered and flushes it, if asked.
func (s *stream) send(flush bool) {
	s.write(*s.buf)
	*s.buf = (*s.buf)[:0]
	if flush && s.err == nil {
		s.check(s.rc.Flush())
	}
	s.begun, s.due, s.sent = true, !flush, time.Now()
	if flush {
		s.timer.Reset(s.o.Ping)
	} else {
		s.timer.Reset(settle)
	}
}

func (s *stream) write(p []byte) {
	if len(p) > 0 && s.err == nil {
		_, err := s.w.Write(p)
		s.check(err)
	}
}

func (s *stream) check(err error) {
	if err != nil && s.err == nil {
		s.err = err
		s.cancel()
	}
}

// quiet runs when something is due, or when nothing was for a while.
func (s *stream) quiet() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.err != nil || !s.due && time.Since(s.sent) < s.o.Ping {
		return // it waited for a line that was being sent
	}
	if !s.due {
		s.put(s.ping(), "")
	}
	s.send(true)
}

func (s *stream) ping() []byte {
	if s.o.PingLine != "" {
		return []byte(s.o.PingLine)
	}
	return fmt.Appendf(nil, `{"seq":%d,"type":%q,"time":%q}`, s.last, api.Ping, now())
}

// fail ends the stream with the error of its lines.
func (s *stream) fail(err error, requestID string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.begun && len(*s.buf) == 0 {
		s.closed = true
		return false, err
	}
	told := describe(err, requestID)
	if told.Code == api.Internal {
		s.o.Log.Error("stream failed", "request", requestID, "error", err)
	}
	s.put(EndLine(s.last, api.Cut, told).JSON, "")
	s.send(true)
	return true, nil
}

// finish sends what was kept for a line that did not come, and reports whether all was sent.
func (s *stream) finish() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.send(false) // the end of the answer flushes it
	return s.err == nil
}

// EndLine returns the end line that is the server's own word: last is the number
// of the last line before it.
func EndLine(last int64, status executor.Status, err *api.Error) executor.Line {
	raw, _ := json.Marshal(api.StreamEnd{Seq: last, Type: executor.End, Time: journal.Time{Time: time.Now()}, Status: status, Error: err})
	return executor.Line{Seq: last, Type: executor.End, JSON: raw}
}

func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.timer.Stop()
	*s.buf = (*s.buf)[:0] // nobody else's to read
	buffers.Put(s.buf)
	s.buf = nil
}

func now() string { return time.Now().UTC().Format("2006-01-02T15:04:05.000000Z") }
