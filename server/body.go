package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
)

// Body returns the body of a request that is a stream. Each read may take as long as
// a write of an answer may, so that a client that stalls holds nothing for ever. The
// errors that it reads are for the client. The time of the first read begins now: what
// is not read, the server reads itself before it answers. Where a goroutine reads, Close
// has that end, which a handler has to wait for.
func Body(w http.ResponseWriter, r *http.Request, o Options) io.ReadCloser {
	b := newBody(w, r, o)
	b.extend()
	return b
}

func newBody(w http.ResponseWriter, r *http.Request, o Options) *body {
	return &body{r: r, control: http.NewResponseController(w), patience: o.WriteTimeout, visit: visitOf(r.Context())}
}

type body struct {
	r        *http.Request
	control  *http.ResponseController
	patience time.Duration
	visit    *visit // nil: it has come through no gate

	mu       sync.Mutex
	givenUp  bool      // another process takes over, which it holds up
	extended time.Time // when the deadline was last moved
	closed   bool
	ended    bool // its end was read
	reads    sync.WaitGroup
	reading  int // reads there are
}

var errGivenUp = api.Errorf(api.Unavailable, "the server is being upgraded, for which the body has come too slowly: send the request again")

// giveUp ends the read that is under way.
func (b *body) giveUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.givenUp = true
	_ = b.control.SetReadDeadline(time.Now()) // where the connection can
}

// closeGrace is how long a read may take to end by itself.
const closeGrace = 100 * time.Millisecond

// begin gives the next read its time, if there may be one.
func (b *body) begin() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.ended:
		return io.EOF
	case b.closed:
		return http.ErrBodyReadAfterClose
	case b.givenUp:
		return errGivenUp
	}
	b.extend()
	b.reading++
	b.reads.Add(1)
	return nil
}

func (b *body) done() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reading--
	b.reads.Done()
}

// Close returns once nothing is read any more. A read that does not end by itself is ended; of one that finds
// the end of the body the server watches the connection from then on, which a deadline would end for all requests to come.
func (b *body) Close() error {
	b.mu.Lock()
	b.closed = true
	reading := b.reading > 0
	b.mu.Unlock()
	if !reading {
		return nil
	}
	ended := make(chan struct{})
	go func() { b.reads.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(closeGrace):
		_ = b.control.SetReadDeadline(time.Now()) // where the connection can
		<-ended
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return nil
}

// extend moves the deadline of reads. Not every connection can.
func (b *body) extend() {
	if now := time.Now(); now.Sub(b.extended) > b.patience/64 {
		b.extended = now
		_ = b.control.SetReadDeadline(now.Add(b.patience))
	}
}

func (b *body) Read(p []byte) (int, error) {
	if err := b.begin(); err != nil {
		return 0, err
	}
	defer b.done()
	b.visit.reads(b)
	n, err := b.r.Body.Read(p)
	if err != nil {
		b.visit.reads(nil)
	}
	if err == io.EOF {
		b.mu.Lock()
		b.ended = true
		b.mu.Unlock()
		_ = b.control.SetReadDeadline(time.Time{}) // the server still watches for the client's leaving
	}
	var timeout interface{ Timeout() bool }
	switch {
	case err == nil || err == io.EOF:
		return n, err
	case errors.As(err, &timeout) && timeout.Timeout():
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.givenUp {
			return n, errGivenUp
		}
		return n, api.Errorf(api.DeadlineExceeded, "the body made no progress for %v", b.patience)
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(b.r.Context().Err(), context.Canceled):
		return n, api.Errorf(api.ClientClosed, "the body ends too early: %v", err)
	}
	return n, api.Errorf(api.InvalidRequest, "cannot read the body: %v", err)
}
