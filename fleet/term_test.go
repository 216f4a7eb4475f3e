package fleet_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
)

func TestTermEndsWhateverHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		f := open(t, h, fleet.Options{})
		info, m := create(t, f, h, fleet.CreateOptions{Term: time.Minute, Labels: map[string]string{"a": "b"}})
		if !info.Term || info.Labels["a"] != "b" || time.Until(info.ExpiresAt) != time.Minute {
			t.Errorf("got %+v", info)
		}
		release, s, err := f.Use(info.ID)
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		if got := lives(s); got != time.Minute {
			t.Errorf("it lived for %v", got)
		}
		wantGone(t, f, info.ID, fleet.TimedOut)
		if m.asked.Load() != 0 {
			t.Error("its agent was asked what it does")
		}
	})
}

func TestSetTerm(t *testing.T) {
	for name, test := range map[string]struct {
		before  fleet.CreateOptions
		set     fleet.Term
		expires time.Duration
		term    bool
	}{
		"longer":                  {fleet.CreateOptions{Term: time.Minute}, fleet.Term{Lasts: time.Hour}, time.Hour, true},
		"shorter":                 {fleet.CreateOptions{Term: time.Hour}, fleet.Term{Lasts: time.Minute}, time.Minute, true},
		"extended":                {fleet.CreateOptions{Term: time.Minute}, fleet.Term{Lasts: time.Hour, Extend: true}, time.Hour, true},
		"not extended":            {fleet.CreateOptions{Term: time.Hour}, fleet.Term{Lasts: time.Minute, Extend: true}, time.Hour, true},
		"of one with a timeout":   {fleet.CreateOptions{Timeout: time.Hour}, fleet.Term{Lasts: time.Minute}, time.Minute, true},
		"a longer timeout":        {fleet.CreateOptions{Timeout: time.Minute}, fleet.Term{Lasts: time.Hour, Extend: true}, time.Hour, false},
		"a timeout, not extended": {fleet.CreateOptions{Timeout: time.Hour}, fleet.Term{Lasts: time.Minute, Extend: true}, time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				f := open(t, h, fleet.Options{})
				info, _ := create(t, f, h, test.before)
				info, err := f.SetTerm(info.ID, test.set)
				if err != nil || time.Until(info.ExpiresAt) != test.expires || info.Term != test.term {
					t.Errorf("%+v, %v", info, err)
				}
				if got := lives(handle(t, f, info.ID)); got != test.expires {
					t.Errorf("it lived for %v", got)
				}
			})
		})
	}
}

func TestSetTermRefuses(t *testing.T) {
	h := newHost(t)
	f := open(t, h, fleet.Options{})
	info, _ := create(t, f, h, fleet.CreateOptions{Term: time.Hour})
	for _, lasts := range []time.Duration{-1, 25 * time.Hour} {
		var told *api.Error
		if _, err := f.SetTerm(info.ID, fleet.Term{Lasts: lasts}); !errors.As(err, &told) || told.Code != api.InvalidRequest {
			t.Errorf("%v: %v", lasts, err)
		}
	}
	if _, err := f.SetTerm("sb_none", fleet.Term{}); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("of none: %v", err)
	}
	if _, err := f.Pause(t.Context(), info.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := f.SetTerm(info.ID, fleet.Term{Lasts: time.Hour}); !errors.Is(err, fleet.ErrPaused) {
		t.Errorf("of a paused one: %v", err)
	}
}

func TestTimeoutVoidsTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		f := open(t, h, fleet.Options{})
		info, _ := create(t, f, h, fleet.CreateOptions{Term: time.Minute})
		info, err := f.SetTimeout(info.ID, time.Hour)
		if err != nil || info.Term {
			t.Fatalf("%+v, %v", info, err)
		}
		if got := lives(handle(t, f, info.ID)); got != time.Hour {
			t.Errorf("it lived for %v", got)
		}
	})
}

func TestAutoPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		f := open(t, h, fleet.Options{PausedTimeout: 3 * time.Hour})
		info, m := create(t, f, h, fleet.CreateOptions{Term: time.Minute, AutoPause: true})
		for range 2 {
			if _, err := f.SetTerm(info.ID, fleet.Term{}); err != nil { // its time is over
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			if got, err := f.Get(info.ID); err != nil || got.State != fleet.Paused || !m.frozen() {
				t.Fatalf("%+v, %v", got, err)
			}
			got, err := f.Resume(t.Context(), info.ID)
			if err != nil || time.Until(got.ExpiresAt) != time.Minute || !got.Term {
				t.Fatalf("it has until %v: %+v, %v", time.Until(got.ExpiresAt), got, err)
			}
		}
		no := false
		if _, err := f.SetTerm(info.ID, fleet.Term{Lasts: time.Second, AutoPause: &no}); err != nil {
			t.Fatal(err)
		}
		if got := lives(handle(t, f, info.ID)); got != time.Second {
			t.Errorf("it lived for %v", got)
		}
		wantGone(t, f, info.ID, fleet.TimedOut)
	})
}

// A sandbox that cannot be paused ends; one that gets more time while it is paused goes on.
func TestAutoPauseFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		f := open(t, h, fleet.Options{})
		info, m := create(t, f, h, fleet.CreateOptions{Timeout: time.Minute, AutoPause: true})
		m.freeze = func(context.Context, string) error { return fleet.ErrUnsupported }
		if got := lives(handle(t, f, info.ID)); got != time.Minute {
			t.Errorf("it lived for %v", got)
		}
		later, m := create(t, f, h, fleet.CreateOptions{Term: time.Hour, AutoPause: true})
		m.freeze = func(_ context.Context, what string) error {
			if what == "pause" {
				if _, err := f.SetTerm(later.ID, fleet.Term{Lasts: time.Hour}); err != nil {
					t.Error(err)
				}
			}
			return nil
		}
		if _, err := f.SetTerm(later.ID, fleet.Term{Lasts: time.Minute}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if got, err := f.Get(later.ID); err != nil || got.State != fleet.Running || got.ExpiresAt.Before(time.Now()) {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

func TestTermOutlivesTheServer(t *testing.T) {
	h, dir := newHost(t), t.TempDir()
	f := open(t, h, fleet.Options{Dir: dir})
	info, _ := create(t, f, h, fleet.CreateOptions{Term: time.Hour, AutoPause: true, Labels: map[string]string{"a": "b"}})
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	f = open(t, h, fleet.Options{Dir: dir})
	got, err := f.Get(info.ID)
	if err != nil || !got.Term || !got.ExpiresAt.Equal(info.ExpiresAt) || !got.AutoPause || got.Labels["a"] != "b" {
		t.Errorf("got %+v, %v; want the term of %+v", got, err, info)
	}
}
