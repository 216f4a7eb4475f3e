package envd

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// defaultKeepalive is how long a stream is silent where the client says nothing of it.
const defaultKeepalive = 90 * time.Second

// stream is an answer of many messages. Its methods are safe for concurrent use. It begins with
// the first message.
type stream struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	every time.Duration // of silence, before a keepalive

	mu        sync.Mutex
	begun     bool
	closed    bool
	err       error // why nothing can be sent any more
	keepalive []byte
	timer     *time.Timer
	missing   int64 // bytes that the client did not get, which the end tells
}

func newStream(w http.ResponseWriter, r *http.Request) *stream {
	s := &stream{w: w, rc: http.NewResponseController(w), every: defaultKeepalive}
	if given, err := strconv.Atoi(r.Header.Get("Keepalive-Ping-Interval")); err == nil && given > 0 && given <= 24*60*60 {
		s.every = time.Duration(given) * time.Second
	}
	return s
}

// keep has a message sent each time that nothing was for a while.
func (s *stream) keep(message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keepalive = []byte(message)
	s.timer = time.AfterFunc(s.every, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.closed {
			_ = s.put(0, s.keepalive, true) // the next message tells where that fails
		}
	})
}

// send sends a message: at once, or with the next that is.
func (s *stream) send(message []byte, now bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.put(0, message, now)
}

// put sends an envelope. s.mu is held.
func (s *stream) put(flags byte, message []byte, now bool) error {
	if s.err != nil {
		return s.err
	}
	if !s.begun {
		s.begun = true
		s.w.Header().Set("Content-Type", streamType)
		s.w.Header().Set("Cache-Control", "no-store")
		s.w.Header().Set("X-Accel-Buffering", "no") // nginx would hold messages back
		s.w.WriteHeader(http.StatusOK)
	}
	frame := make([]byte, 5, 5+len(message))
	frame[0] = flags
	binary.BigEndian.PutUint32(frame[1:], uint32(len(message)))
	_, s.err = s.w.Write(append(frame, message...))
	if s.err == nil && now {
		s.err = s.rc.Flush()
	}
	if s.timer != nil {
		s.timer.Reset(s.every)
	}
	return s.err
}

// end sends the last message, which says how the stream ends. A client that is gone is told nothing.
func (s *stream) end(err error) {
	var last struct {
		Error    *rpcError           `json:"error,omitempty"`
		Metadata map[string][]string `json:"metadata,omitempty"`
	}
	if err != nil {
		last.Error = explain(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.missing > 0 {
		last.Metadata = map[string][]string{"K2-Missing-Bytes": {strconv.FormatInt(s.missing, 10)}}
	}
	raw, _ := json.Marshal(last) // strings
	_ = s.put(endOfStream, raw, true)
	s.closed = true
}

// miss notes that the client does not get that many bytes.
func (s *stream) miss(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.missing += n
}

// stop has no more be sent.
func (s *stream) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
}

// cut ends the answer so that no client takes it for whole.
func cut() { panic(http.ErrAbortHandler) }

// over returns why a call whose context is done ends: by its time, or as the client left.
func over(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return errorf(deadlineExceeded, "the time of the request is over")
	}
	return errorf(canceled, "the client has left")
}
