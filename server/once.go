package server

import (
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
)

// Bounds of what a Once remembers.
const (
	maxOnce  = 4096
	keepOnce = 10 * time.Minute
)

// Once makes it safe to send a request again whose answer was lost: one whose Idempotency-Key was
// there before begins nothing, and gets what the first one began. Keys are remembered for ten minutes,
// the newest 4096 of them, and are each caller's own. The zero value is ready to use.
type Once[T any] struct {
	mu    sync.Mutex
	keys  map[string]*begun[T]
	order []*begun[T] // the oldest first
}

// begun is what a request began, or is about to.
type begun[T any] struct {
	key  string
	body [sha256.Size]byte
	at   time.Time

	done  chan struct{} // closed once it has begun, or failed
	value T             // read after done, if ok
	ok    bool
}

// Do returns what begin returns or, where the request is sent again, what it returned then; what fails
// begins nothing. payload is the request's, which has to be the same for a key.
func (o *Once[T]) Do(r *http.Request, payload any, begin func() (T, error)) (T, error) {
	var none T
	keys := r.Header.Values("Idempotency-Key")
	if len(keys) == 0 {
		return begin()
	}
	given := keys[0]
	if given == "" || len(given) > 255 || strings.ContainsFunc(given, func(c rune) bool { return c < ' ' || c > '~' }) {
		return none, api.Invalid("Idempotency-Key", "is not 1 to 255 printable ASCII characters")
	}
	text, err := json.Marshal(payload)
	if err != nil {
		return none, err
	}
	mine := &begun[T]{key: CallerOf(r).Key + "\n" + given, body: sha256.Sum256(text), at: time.Now(), done: make(chan struct{})}
	for {
		first := o.claim(mine)
		if first == mine {
			defer o.settle(mine)
			mine.value, err = begin()
			mine.ok = err == nil
			return mine.value, err
		}
		if first.body != mine.body {
			told := api.Invalid("Idempotency-Key", "was sent with another request before")
			told.Code = api.Unprocessable
			return none, told
		}
		select {
		case <-first.done:
		case <-r.Context().Done():
			return none, r.Context().Err()
		}
		if first.ok {
			return first.value, nil
		}
	}
}

// claim returns what was begun with the key of b, or remembers b and returns it.
func (o *Once[T]) claim(b *begun[T]) *begun[T] {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.order) > 0 && (len(o.order) >= maxOnce || b.at.Sub(o.order[0].at) > keepOnce) {
		o.forget(o.order[0])
		o.order = o.order[1:]
	}
	if first := o.keys[b.key]; first != nil {
		return first
	}
	if o.keys == nil {
		o.keys = map[string]*begun[T]{}
	}
	o.keys[b.key] = b
	o.order = append(o.order, b)
	return b
}

// settle lets those go on that wait for b. A panic on the way is a failure, too.
func (o *Once[T]) settle(b *begun[T]) {
	if !b.ok {
		o.mu.Lock()
		o.forget(b)
		o.mu.Unlock()
	}
	close(b.done)
}

// forget drops a key, unless somebody else has it by now.
func (o *Once[T]) forget(b *begun[T]) {
	if o.keys[b.key] == b {
		delete(o.keys, b.key)
	}
}
