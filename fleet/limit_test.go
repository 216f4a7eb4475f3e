package fleet_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/k2sandbox/k2sandbox/fleet"
)

func limited(t *testing.T, f *fleet.Fleet, owner string) *fleet.LimitError {
	t.Helper()
	_, _, err := f.Create(t.Context(), fleet.CreateOptions{Owner: owner})
	var limit *fleet.LimitError
	if !errors.As(err, &limit) || !errors.Is(err, fleet.ErrLimit) || limit.RetryAfter <= 0 {
		t.Fatalf("Create: %v", err)
	}
	return limit
}

func TestQuotaOfSandboxes(t *testing.T) {
	h := newHost(t)
	f := open(t, h, fleet.Options{Max: 4, Quota: func(owner string) fleet.Quota {
		if owner == "small" {
			return fleet.Quota{Sandboxes: 2}
		}
		return fleet.Quota{}
	}})
	first, _ := create(t, f, h, fleet.CreateOptions{Owner: "small"})
	create(t, f, h, fleet.CreateOptions{Owner: "small"})
	limited(t, f, "small")
	create(t, f, h, fleet.CreateOptions{Owner: "big"})
	create(t, f, h, fleet.CreateOptions{Owner: "big"})
	limited(t, f, "big") // the server's own
	if err := f.Kill(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	create(t, f, h, fleet.CreateOptions{Owner: "small"})
	if f.Stats().Failed != 0 {
		t.Error("what is over a limit counts as failed")
	}
}

// One that is being created takes a place, and gives it back where it fails.
func TestQuotaCountsStarts(t *testing.T) {
	h := newHost(t)
	starts, on := make(chan bool), make(chan bool)
	h.start = func(context.Context, fleet.Spec) error { starts <- true; <-on; return errors.New("no") }
	f := open(t, h, fleet.Options{Quota: func(string) fleet.Quota { return fleet.Quota{Sandboxes: 1} }})
	done := make(chan error)
	go func() { done <- second2(f.Create(t.Context(), fleet.CreateOptions{})) }()
	<-starts
	limited(t, f, "")
	close(on)
	if err := <-done; err == nil {
		t.Error("it has started")
	}
	h.start = nil
	create(t, f, h, fleet.CreateOptions{})
}

func TestQuotaOfRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		quota := fleet.Quota{Rate: 0.5, Burst: 2}
		f := open(t, h, fleet.Options{Quota: func(string) fleet.Quota { return quota }})
		create(t, f, h, fleet.CreateOptions{Owner: "a"})
		create(t, f, h, fleet.CreateOptions{Owner: "a"})
		for range 3 { // asking does not cost
			if got := limited(t, f, "a").RetryAfter; got != 2*time.Second {
				t.Errorf("RetryAfter is %v", got)
			}
		}
		create(t, f, h, fleet.CreateOptions{Owner: "b"})
		time.Sleep(2 * time.Second)
		create(t, f, h, fleet.CreateOptions{Owner: "a"})
		limited(t, f, "a")
		quota.Rate = 100 // it is changed while the server runs
		create(t, f, h, fleet.CreateOptions{Owner: "a"})
	})
}

// What the machine has no room for is refused as what is over a quota is, and leaves nothing.
func TestTheMachinesLimits(t *testing.T) {
	h := newHost(t)
	h.start = func(context.Context, fleet.Spec) error {
		return &fleet.LimitError{Limit: fleet.LimitMemory, What: "2 MiB are left", RetryAfter: time.Second}
	}
	f := open(t, h, fleet.Options{Max: 1})
	for range 3 {
		if got := limited(t, f, "a"); got.Limit != fleet.LimitMemory || got.RetryAfter != time.Second {
			t.Errorf("got %+v", got)
		}
	}
	if s := f.Stats(); s.Refused[fleet.LimitMemory] != 3 || s.Failed != 0 || s.Live[fleet.Creating] != 0 {
		t.Errorf("got %+v", s)
	}
	h.start = nil
	create(t, f, h, fleet.CreateOptions{})
	if got := limited(t, f, "a").Limit; got != fleet.LimitSandboxes {
		t.Errorf("got %s", got)
	}
}
