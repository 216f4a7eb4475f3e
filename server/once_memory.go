package server

import (
	"crypto/sha256"
	"time"
)

// Begun is a key that a Once remembers, and what was begun with it, for a Once of a process that follows.
type Begun[T any] struct {
	Key   string            `json:"key"` // with whose it is
	Body  [sha256.Size]byte `json:"body"`
	At    time.Time         `json:"at"`
	Value T                 `json:"value"`
}

// Memory returns what has been begun, the oldest first. What is about to be is not in it.
func (o *Once[T]) Memory() []Begun[T] {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []Begun[T]
	for _, b := range o.order {
		select {
		case <-b.done:
		default:
			continue
		}
		if b.ok && o.keys[b.key] == b {
			all = append(all, Begun[T]{b.key, b.body, b.at, b.value})
		}
	}
	return all
}

// Recall remembers what another Once has begun. It is said before the first Do.
func (o *Once[T]) Recall(all []Begun[T]) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.keys == nil {
		o.keys = map[string]*begun[T]{}
	}
	done := make(chan struct{})
	close(done)
	for _, b := range all[max(0, len(all)-maxOnce):] {
		old := &begun[T]{key: b.Key, body: b.Body, at: b.At, done: done, value: b.Value, ok: true}
		o.keys[old.key] = old
		o.order = append(o.order, old)
	}
}
