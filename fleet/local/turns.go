package local

import (
	"context"
	"slices"
	"sync"
)

// turns let so many start at once, as more would only make all of them slower. Owners who wait get theirs in turn, however
// many each of them waits for. Its methods are safe for concurrent use.
type turns struct {
	mu      sync.Mutex
	places  int
	free    int
	owners  []string // who wait, the next one first
	waiting map[string][]chan struct{}
}

func newTurns(places int) *turns {
	return &turns{places: places, free: places, waiting: map[string][]chan struct{}{}}
}

// take waits for a place until ctx is done, which is its error.
func (t *turns) take(ctx context.Context, owner string) error {
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return nil
	}
	place := make(chan struct{})
	if t.waiting[owner] == nil {
		t.owners = append(t.owners, owner)
	}
	t.waiting[owner] = append(t.waiting[owner], place)
	t.mu.Unlock()
	select {
	case <-place:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.waiting[owner], place); i >= 0 {
		t.set(owner, slices.Delete(t.waiting[owner], i, i+1))
	} else { // it has come meanwhile
		t.pass()
	}
	return ctx.Err()
}

// give gives a place back.
func (t *turns) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pass()
}

func (t *turns) pass() {
	if len(t.owners) == 0 {
		t.free++
		return
	}
	owner := t.owners[0]
	close(t.waiting[owner][0])
	t.owners = append(t.owners[1:], owner)
	t.set(owner, t.waiting[owner][1:])
}

// set says who of an owner's wait.
func (t *turns) set(owner string, places []chan struct{}) {
	if t.waiting[owner] = places; len(places) == 0 {
		delete(t.waiting, owner)
		t.owners = slices.DeleteFunc(t.owners, func(o string) bool { return o == owner })
	}
}

// load tells how many have a place, and how many wait for one.
func (t *turns) load() (running, waiting int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, places := range t.waiting {
		waiting += len(places)
	}
	return t.places - t.free, waiting
}
