package fleet_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/k2sandbox/k2sandbox/fleet"
)

func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		f := open(t, h, fleet.Options{PausedTimeout: time.Hour})
		info, m := create(t, f, h, fleet.CreateOptions{Timeout: time.Minute})
		s := handle(t, f, info.ID)
		for range 2 {
			got, err := f.Pause(t.Context(), info.ID)
			if err != nil || got.State != fleet.Paused || !m.frozen() {
				t.Fatalf("Pause: %+v, %v", got, err)
			}
		}
		if _, _, err := f.Use(info.ID); !errors.Is(err, fleet.ErrPaused) || !errors.Is(err, fleet.ErrState) {
			t.Errorf("Use: %v", err)
		}
		time.Sleep(10 * time.Minute) // longer than its timeout, which does not hold now
		for range 2 {
			got, err := f.Resume(t.Context(), info.ID)
			if err != nil || got.State != fleet.Running || m.frozen() {
				t.Fatalf("Resume: %+v, %v", got, err)
			}
		}
		if _, err := f.Pause(t.Context(), info.ID); err != nil {
			t.Fatal(err)
		}
		<-s.Done()
		wantGone(t, f, info.ID, fleet.TimedOut)
		if _, err := f.Resume(t.Context(), info.ID); !errors.Is(err, fleet.ErrGone) {
			t.Errorf("Resume of an ended one: %v", err)
		}
	})
}

func TestPauseFails(t *testing.T) {
	h := newHost(t)
	f := open(t, h, fleet.Options{})
	info, m := create(t, f, h, fleet.CreateOptions{})
	var asked []string
	m.freeze = func(_ context.Context, what string) error {
		asked = append(asked, what)
		if what == "pause" {
			return fleet.ErrUnsupported
		}
		return nil
	}
	if _, err := f.Pause(t.Context(), info.ID); !errors.Is(err, fleet.ErrUnsupported) {
		t.Errorf("Pause: %v", err)
	}
	if got, err := f.Get(info.ID); err != nil || got.State != fleet.Running {
		t.Errorf("then: %+v, %v", got, err)
	}
	if !slices.Equal(asked, []string{"pause", "resume"}) {
		t.Errorf("the machine was asked to %v", asked)
	}
}

// A kill ends a pause that hangs, and has the agent of a paused sandbox say good-bye.
func TestKillWhilePausing(t *testing.T) {
	h := newHost(t)
	f := open(t, h, fleet.Options{KillGrace: time.Minute})
	info, m := create(t, f, h, fleet.CreateOptions{})
	hangs := make(chan bool)
	m.freeze = func(ctx context.Context, what string) error {
		if what == "resume" {
			return nil
		}
		close(hangs)
		<-ctx.Done()
		return ctx.Err()
	}
	paused := make(chan error)
	go func() { paused <- second(f.Pause(t.Context(), info.ID)) }()
	<-hangs
	if err := f.Kill(t.Context(), info.ID); err != nil {
		t.Error(err)
	}
	if err := <-paused; err == nil {
		t.Error("it was paused")
	}

	info, m = create(t, f, h, fleet.CreateOptions{})
	release, _, err := f.Use(info.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if _, err := f.Pause(t.Context(), info.ID); err != nil {
		t.Fatal(err)
	}
	if err := f.Kill(t.Context(), info.ID); err != nil {
		t.Error(err)
	}
	if m.closes.Load() != "POST /v1/close?reason=killed" || h.count() != 0 {
		t.Errorf("the agent was told %v; %d are left", m.closes.Load(), h.count())
	}
}

func TestAway(t *testing.T) {
	h := newHost(t)
	f := open(t, h, fleet.Options{})
	info, _ := create(t, f, h, fleet.CreateOptions{})
	s := handle(t, f, info.ID)
	away := func() bool {
		select {
		case <-s.Away():
			return true
		default:
			return false
		}
	}
	for _, step := range []struct {
		do   func() error
		want bool
	}{
		{func() error { return nil }, false},
		{func() error { return second(f.Pause(t.Context(), info.ID)) }, true},
		{func() error { return second(f.Pause(t.Context(), info.ID)) }, true},
		{func() error { return second(f.Resume(t.Context(), info.ID)) }, false},
		{func() error { return second(f.Resume(t.Context(), info.ID)) }, false},
		{func() error { return second(f.Pause(t.Context(), info.ID)) }, true},
		{func() error { return f.Kill(t.Context(), info.ID) }, true},
	} {
		if err := step.do(); err != nil || away() != step.want {
			t.Errorf("away: %v, %v; want %v", away(), err, step.want)
		}
	}
	info, _ = create(t, f, h, fleet.CreateOptions{})
	s = handle(t, f, info.ID)
	if err := f.Kill(t.Context(), info.ID); err != nil || !away() {
		t.Errorf("away: %v, %v", away(), err)
	}
}
