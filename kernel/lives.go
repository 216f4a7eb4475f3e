package kernel

import (
	"iter"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// Lives yields what becomes of the kernel's process from now on: its *wire.Death,
// then nil once another answers in its place, and so on until the kernel is closed,
// which is no death to tell of. A loop that is slow may miss lives in between.
func (k *Kernel) Lives() iter.Seq[*wire.Death] {
	return func(yield func(*wire.Death) bool) {
		for l := k.current(); ; {
			select {
			case <-l.over:
			case <-k.alive.Done():
				return
			}
			if k.alive.Err() != nil || !yield(l.deathOrNil()) {
				return
			}
			next := k.successor(l)
			if next == nil || !yield(nil) {
				return
			}
			l = next
		}
	}
}

// successor waits for the life after l; nil where the kernel is closed before.
func (k *Kernel) successor(l *life) *life {
	for {
		k.mu.Lock()
		next, changed := k.life, k.changed
		k.mu.Unlock()
		if next != l {
			return next
		}
		select {
		case <-changed:
		case <-k.alive.Done():
			return nil
		}
	}
}
