package server

import (
	"bufio"
	"io"
	"math"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/trace"
)

// piece is how many bytes a client has to take within the write timeout.
const piece = 256 << 10

// response notes the status of an answer, and lets no client hold up its writes
// for ever: each piece has its own time, so that a long answer may take long as
// long as it moves.
type response struct {
	http.ResponseWriter
	control  *http.ResponseController
	patience time.Duration
	extended time.Time // when the deadline was last moved
	status   int
	caller   Caller
	visit    *visit   // nil: it has come through no gate, or what it does is not over with the answer's begin
	asked    *payload // nil: the request has no body, or its protocol knows where each ends
	duplex   bool     // the answer may begin before that was read

	span   trace.Span // nil: there is none
	failed api.Code   // what it was answered with, in place of what was wanted
	cut    bool       // it ended before its end
}

func (w *response) WriteHeader(status int) {
	w.begin(status)
	w.extend()
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(p []byte) (int, error) {
	w.begin(http.StatusOK)
	written := 0
	for {
		w.extend()
		n, err := w.ResponseWriter.Write(p[written:min(written+piece, len(p))])
		written += n
		if err != nil || written == len(p) {
			return written, err
		}
	}
}

// ReadFrom has the connection send a file by itself where it can (sendfile), a piece
// at a time.
func (w *response) ReadFrom(src io.Reader) (int64, error) {
	from, whole := w.ResponseWriter.(io.ReaderFrom), &io.LimitedReader{R: src, N: math.MaxInt64}
	if limited, ok := src.(*io.LimitedReader); ok {
		whole = limited // one within another hides the file
	}
	if from == nil {
		return io.Copy(struct{ io.Writer }{w}, src)
	}
	w.begin(http.StatusOK)
	var sent int64
	for whole.N > 0 {
		w.extend()
		next := io.LimitedReader{R: whole.R, N: min(piece, whole.N)}
		n, err := from.ReadFrom(&next)
		whole.N -= n
		sent += n
		if err != nil || n == 0 {
			return sent, err
		}
	}
	return sent, nil
}

// FlushError is for http.ResponseController.
func (w *response) FlushError() error {
	w.begin(http.StatusOK)
	w.extend()
	return w.control.Flush()
}

// EnableFullDuplex is for http.ResponseController.
func (w *response) EnableFullDuplex() error {
	w.duplex = true
	return w.control.EnableFullDuplex()
}

// begin notes the status of the answer, which begins. Where the request's body is not read to its end by then, though net/http
// leaves that to the handler, the connection is announced to be closed (RFC 9112 section 9.6): net/http finds the end only once
// it watches for the client's leaving no more, then panics where it waits for the next request, and takes for one what is late.
func (w *response) begin(status int) {
	if w.status != 0 {
		return
	}
	w.status = status
	w.visit.answers()
	if w.duplex && w.asked != nil && !w.asked.ended.Load() && status != http.StatusSwitchingProtocols {
		w.Header().Set("Connection", "close")
	}
}

// payload is the body of a request, of which it is known whether its end was read.
type payload struct {
	io.ReadCloser
	ended atomic.Bool
}

func (p *payload) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b)
	if err == io.EOF {
		p.ended.Store(true)
	}
	return n, err
}

// Hijack is for http.Hijacker.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, both, err := w.control.Hijack()
	if err == nil {
		w.begin(http.StatusSwitchingProtocols) // nothing else takes the connection away
	}
	return conn, both, err
}

// extend gives the next write its time. Not every connection can.
func (w *response) extend() {
	if now := time.Now(); now.Sub(w.extended) > w.patience/64 {
		w.extended = now
		_ = w.control.SetWriteDeadline(now.Add(w.patience))
	}
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }
