package server

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
)

// Idle is a handler that ends a server which nobody uses. Make one with NewIdle.
type Idle struct {
	next  http.Handler
	after time.Duration
	busy  func() bool

	mu    sync.Mutex
	open  int       // requests
	since time.Time // when the last one ended
	over  bool
}

// NewIdle returns a handler for a server that is to end when it had no requests, and busy
// was false, for a time. Requests go to next; once the time is over they are refused as
// unavailable, so that a request that was answered is followed by a whole time.
func NewIdle(next http.Handler, after time.Duration, busy func() bool) *Idle {
	return &Idle{next: next, after: after, busy: busy, since: time.Now()}
}

// Wait returns nil when the time is over, or the error of ctx.
func (i *Idle) Wait(ctx context.Context) error {
	tick := time.NewTicker(max(i.after/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if i.idle() {
			return nil
		}
	}
}

func (i *Idle) idle() bool {
	busy := i.busy()
	i.mu.Lock()
	defer i.mu.Unlock()
	if busy {
		i.since = time.Now()
	}
	i.over = i.open == 0 && !busy && time.Since(i.since) >= i.after
	return i.over
}

func (i *Idle) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !i.enter() {
		w.Header().Set("Connection", "close")
		WriteJSON(w, Statuses[api.Unavailable], api.ErrorBody{Error: *api.Errorf(api.Unavailable, "the server ends, as nobody has used it")})
		return
	}
	defer i.leave()
	i.next.ServeHTTP(w, r)
}

func (i *Idle) enter() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.over {
		i.open++
	}
	return !i.over
}

func (i *Idle) leave() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.open--
	i.since = time.Now()
}
