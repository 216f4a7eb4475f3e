package fleet_test

import (
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/k2sandbox/k2sandbox/fleet"
)

func TestHistoryOfASandboxThatWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		f := open(t, h, fleet.Options{DefaultTimeout: 24 * time.Hour})
		info, m := create(t, f, h, fleet.CreateOptions{})
		m.works.Store(true)
		time.Sleep(22 * time.Second)
		got, err := f.History(info.ID, time.Time{})
		if err != nil || len(got) != 5 {
			t.Fatalf("got %+v, %v", got, err)
		}
		for i, s := range got {
			if want := []time.Duration{5, 10, 15, 20, 22}[i] * time.Second; s.At.Sub(info.CreatedAt) != want || s.Memory != 20<<20 || math.Abs(s.CPUs-0.1) > 1e-9 {
				t.Errorf("sample %d: %+v", i, s)
			}
		}
		if again, err := f.History(info.ID, got[3].At); err != nil || len(again) != 1 || again[0] != got[4] {
			t.Errorf("after the last but one: %+v, %v", again, err)
		}
		if none, err := f.History(info.ID, got[4].At); err != nil || len(none) != 0 {
			t.Errorf("after the last: %+v, %v", none, err)
		}
		time.Sleep(2 * time.Hour)
		if all, err := f.History(info.ID, time.Time{}); err != nil || len(all) != 720 || time.Since(all[0].At) > time.Hour+5*time.Second {
			t.Errorf("after two hours: %d from %v on, %v", len(all), all[0].At, err)
		}
	})
}

// What does nothing costs nothing to speak of, and a request is something.
func TestIdleSandboxesAreSeldomMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		f := open(t, h, fleet.Options{DefaultTimeout: 24 * time.Hour})
		info, m := create(t, f, h, fleet.CreateOptions{})
		time.Sleep(time.Hour + time.Second) // between two rounds
		if got := m.measured.Load(); got != 60 {
			t.Errorf("measured %d times in an hour", got)
		}
		release, _, err := f.Use(info.ID)
		if err != nil {
			t.Fatal(err)
		}
		before := m.measured.Load()
		time.Sleep(time.Minute)
		release()
		if got := m.measured.Load() - before; got != 12 {
			t.Errorf("measured %d times in a minute with a request", got)
		}
	})
}

// Who only looks does not keep a sandbox alive.
func TestHistoryIsNoActivity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		f := open(t, h, fleet.Options{})
		info, m := create(t, f, h, fleet.CreateOptions{})
		for range 59 {
			time.Sleep(5 * time.Second)
			if _, err := f.History(info.ID, time.Time{}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(6 * time.Second)
		if _, err := f.History(info.ID, time.Time{}); !errors.Is(err, fleet.ErrGone) {
			t.Errorf("got %v", err)
		}
		measured := m.measured.Load()
		time.Sleep(time.Hour)
		if got := m.measured.Load(); got != measured {
			t.Errorf("measured %d times after its end", got-measured)
		}
	})
}

func TestHistoryOfAPausedSandboxAndOfOneThatCannotBeMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		f := open(t, h, fleet.Options{})
		info, m := create(t, f, h, fleet.CreateOptions{})
		if _, err := f.Pause(t.Context(), info.ID); err != nil {
			t.Fatal(err)
		}
		if got, err := f.History(info.ID, time.Time{}); err != nil || len(got) != 1 || got[0].CPUs >= 0 || got[0].Disk != -1 {
			t.Errorf("got %+v, %v", got, err)
		}
		m.unmeasurable = errors.New("no")
		time.Sleep(2 * time.Second)
		if _, err := f.History(info.ID, time.Time{}); !errors.Is(err, m.unmeasurable) {
			t.Errorf("got %v", err)
		}
	})
}
