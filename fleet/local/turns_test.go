package local

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
)

// One who waits for a place that many of another's wait for does not wait for all of those.
func TestOwnersTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newTurns(2)
		var got []string
		for range 2 {
			if err := q.take(t.Context(), "ada"); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error)
		go func() { left <- q.take(ctx, "bob") }()
		synctest.Wait()
		for _, owner := range []string{"ada", "ada", "ada", "bob", "eve", "bob"} {
			go func() {
				if err := q.take(t.Context(), owner); err != nil {
					t.Error(err)
				}
				got = append(got, owner)
			}()
			synctest.Wait()
		}
		cancel()
		if err := <-left; err != context.Canceled {
			t.Errorf("who does not wait any more: %v", err)
		}
		for range 6 {
			q.give()
			synctest.Wait()
		}
		if want := []string{"bob", "ada", "eve", "bob", "ada", "ada"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		q.give()
		q.give()
		if q.free != 2 || len(q.owners)+len(q.waiting) != 0 {
			t.Errorf("%d places are free, %v wait", q.free, q.owners)
		}
	})
}

// A place that comes to one who has just left is another's.
func TestPlacesAreNotLost(t *testing.T) {
	q := newTurns(1)
	for range 1000 {
		if err := q.take(t.Context(), "ada"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		tried := make(chan error)
		go func() { tried <- q.take(ctx, "bob") }()
		go cancel()
		q.give()
		if err := <-tried; err == nil {
			q.give()
		}
		if q.free != 1 {
			t.Fatalf("%d places are free", q.free)
		}
	}
}
