package server

import (
	"net/http"
	"time"
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
}

func (w *response) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.extend()
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
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

// FlushError is for http.ResponseController.
func (w *response) FlushError() error {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	w.extend()
	return w.control.Flush()
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
