package server

import (
	"context"
	"sync"
)

// Turns have those wait who want the same, so that it is made once. The zero value is ready, and its methods are safe for
// concurrent use.
type Turns struct {
	mu   sync.Mutex
	held map[string]chan struct{} // closed when the turn is over
}

// Take returns what gives the turn back. The error is that of ctx.
func (t *Turns) Take(ctx context.Context, what string) (give func(), err error) {
	for {
		t.mu.Lock()
		other := t.held[what]
		if other == nil {
			mine := make(chan struct{})
			if t.held == nil {
				t.held = map[string]chan struct{}{}
			}
			t.held[what] = mine
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				defer t.mu.Unlock()
				delete(t.held, what)
				close(mine)
			}, nil
		}
		t.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
