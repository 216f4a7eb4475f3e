package main

import (
	"net/http"
	"strconv"
	"sync"
	"time"
)

// lease calls a function once nobody has renewed it in time. Time is counted in parts: while the sandbox is frozen no more
// than one of them passes, so that one that is resumed has the rest.
type lease struct {
	lapse func()

	mu    sync.Mutex
	timer *time.Timer
	part  time.Duration
	left  int // parts
	over  bool
}

const (
	leasePath  = "/v1/lease" // of the server alone, which never forwards a client there
	leaseParts = 16
	maxLease   = 10 * 365 * 24 * time.Hour
)

func newLease(d time.Duration, lapse func()) *lease {
	l := &lease{lapse: lapse}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = time.AfterFunc(d/leaseParts, l.pass)
	l.part, l.left = d/leaseParts, leaseParts
	return l
}

// renew has the lease last for so long from now.
func (l *lease) renew(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over {
		l.part, l.left = d/leaseParts, leaseParts
		l.timer.Reset(l.part)
	}
}

// end ends it, and calls nothing.
func (l *lease) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	l.timer.Stop()
}

// touch has it last at least as long from now as it did from when it was renewed.
func (l *lease) touch() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left = leaseParts + 1 // one of which has begun
}

func (l *lease) pass() {
	l.mu.Lock()
	if l.over {
		l.mu.Unlock()
		return
	}
	if l.left--; l.left > 0 {
		l.timer.Reset(l.part)
		l.mu.Unlock()
		return
	}
	l.over = true
	l.mu.Unlock()
	l.lapse()
}

// handler renews the lease by every request, all of which are the server's, and for how long it says: POST with ?seconds=.
func (l *lease) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != leasePath {
			l.touch()
			next.ServeHTTP(w, r)
			return
		}
		seconds, err := strconv.ParseFloat(r.URL.Query().Get("seconds"), 64)
		if r.Method != http.MethodPost || err != nil || !(seconds > 0 && seconds <= maxLease.Seconds()) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		l.renew(time.Duration(seconds * float64(time.Second)))
		w.WriteHeader(http.StatusNoContent)
	})
}
