package fleet_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
)

// All times here are those of a bubble's clock, which stands still while anything runs.

// lives returns how long it takes until nothing is left of the sandbox.
func lives(s *fleet.Sandbox) time.Duration {
	began := time.Now()
	select {
	case <-s.Done():
	case <-time.After(24 * time.Hour):
	}
	return time.Since(began).Round(time.Second)
}

func TestIdleTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		f := open(t, h, fleet.Options{})
		info, m := create(t, f, h, fleet.CreateOptions{})
		if got := lives(handle(t, f, info.ID)); got != 300*time.Second {
			t.Errorf("it lived for %v", got)
		}
		wantGone(t, f, info.ID, fleet.TimedOut)
		if m.asked.Load() != 1 || m.kills.Load() != 1 || m.closes.Load() != nil {
			t.Errorf("its agent was asked %d times, told %v for nobody to hear, and killed %d times", m.asked.Load(), m.closes.Load(), m.kills.Load())
		}
	})
}

func TestRequestsAreActivity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		f := open(t, h, fleet.Options{})
		info, _ := create(t, f, h, fleet.CreateOptions{Timeout: time.Minute})
		release, _, err := f.Use(info.ID)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour) // in flight
		got, err := f.Get(info.ID)
		if err != nil || got.State != fleet.Running || time.Until(got.ExpiresAt) != time.Minute || time.Since(got.LastActiveAt) != 0 {
			t.Errorf("with a request in flight: %+v, %v", got, err)
		}
		release()
		time.Sleep(59 * time.Second)
		if got := lives(handle(t, f, info.ID)); got != time.Minute {
			t.Errorf("it lived for %v after the last request", got)
		}
	})
}

func TestSetTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		f := open(t, h, fleet.Options{MaxTimeout: time.Hour})
		info, _ := create(t, f, h, fleet.CreateOptions{Timeout: time.Minute})
		time.Sleep(30 * time.Second)
		for _, bad := range []time.Duration{-1, time.Hour + 1} {
			_, err := f.SetTimeout(info.ID, bad)
			var told *api.Error
			if !errors.As(err, &told) || told.Details["field"] != "timeout" {
				t.Errorf("SetTimeout(%v): %v", bad, err)
			}
		}
		got, err := f.SetTimeout(info.ID, 10*time.Second)
		if err != nil || got.Timeout != 10*time.Second || time.Until(got.ExpiresAt) != 10*time.Second {
			t.Errorf("SetTimeout: %+v, %v", got, err)
		}
		if got := lives(handle(t, f, info.ID)); got != 10*time.Second {
			t.Errorf("it lived for %v", got)
		}
		if _, err := f.SetTimeout(info.ID, time.Second); !errors.Is(err, fleet.ErrGone) {
			t.Errorf("SetTimeout of an ended one: %v", err)
		}
	})
}

// Code that runs keeps a sandbox; its time begins when that ended.
func TestAgentIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		f := open(t, h, fleet.Options{})
		info, m := create(t, f, h, fleet.CreateOptions{Timeout: time.Minute})
		ends := time.Now().Add(150 * time.Second) // of the code
		m.activity = func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"busy":%v,"idle_seconds":%v}`, time.Now().Before(ends), max(0, time.Since(ends).Seconds()))
		}
		if got := lives(handle(t, f, info.ID)); got != 210*time.Second {
			t.Errorf("it lived for %v", got)
		}
		if m.asked.Load() != 4 { // at 60, 120, 180 and 210 s
			t.Errorf("its agent was asked %d times", m.asked.Load())
		}
	})
}

// An agent that tells nonsense, or nothing, does not live longer for it than the questions take.
func TestHostileActivity(t *testing.T) {
	say := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }
	}
	for name, activity := range map[string]http.HandlerFunc{
		"nothing":  say(""),
		"an array": say(`[1]`),
		"no field": say(`{}`),
		"one":      say(`{"busy":true}`),
		"negative": say(`{"busy":false,"idle_seconds":-1e9}`),
		"huge":     say(`{"busy":false,"idle_seconds":1e308}`),
		"too huge": say(`{"busy":false,"idle_seconds":1e999}`),
		"a string": say(`{"busy":"yes","idle_seconds":0}`),
		"long":     say(`{"busy":true,"idle_seconds":0}` + strings.Repeat(" ", 5000)),
		"status":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"hangs":    func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"headers": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 1<<20))
			io.WriteString(w, `{"busy":true,"idle_seconds":0}`)
		},
		"endless": func(w http.ResponseWriter, r *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 1024)); err != nil {
					return
				}
			}
		},
		"informs": func(w http.ResponseWriter, r *http.Request) {
			for range 2000 {
				w.WriteHeader(http.StatusProcessing)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				f := open(t, h, fleet.Options{})
				info, m := create(t, f, h, fleet.CreateOptions{Timeout: time.Minute})
				m.activity = activity
				if got := lives(handle(t, f, info.ID)); got > 80*time.Second {
					t.Errorf("it lived for %v", got)
				}
				wantGone(t, f, info.ID, fleet.TimedOut)
			})
		})
	}
}

// A request that comes while the agent is asked saves the sandbox.
func TestRequestWhileAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		f := open(t, h, fleet.Options{})
		info, m := create(t, f, h, fleet.CreateOptions{Timeout: time.Minute})
		var once sync.Once
		asking := make(chan bool)
		m.activity = func(w http.ResponseWriter, _ *http.Request) {
			once.Do(func() { asking <- true; asking <- true })
			io.WriteString(w, `{"busy":false,"idle_seconds":60}`)
		}
		s := handle(t, f, info.ID)
		<-asking
		handle(t, f, info.ID)
		<-asking
		if got := lives(s); got != time.Minute {
			t.Errorf("it lived for %v", got)
		}
	})
}

func TestCrashWhileAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		f := open(t, h, fleet.Options{})
		info, m := create(t, f, h, fleet.CreateOptions{})
		m.activity = func(http.ResponseWriter, *http.Request) { m.crash(fleet.Exit{Signal: "SIGKILL", OOM: true}) }
		<-handle(t, f, info.ID).Done()
		wantGone(t, f, info.ID, fleet.OutOfMemory)
	})
}

// The ended are remembered for a day, and then the registry has nothing of them.
func TestEndedAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		dir := t.TempDir()
		f := open(t, h, fleet.Options{Dir: dir})
		info, token, err := f.Create(t.Context(), fleet.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Kill(t.Context(), info.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24*time.Hour - time.Second)
		wantGone(t, f, info.ID, fleet.Killed)
		time.Sleep(2 * time.Second)
		if _, err := f.Get(info.ID); !errors.Is(err, fleet.ErrNotFound) || f.Token(info.ID, token) {
			t.Errorf("after a day: %v", err)
		}
		if page, err := f.List(fleet.ListOptions{State: fleet.Ended}); err != nil || len(page.Sandboxes) != 0 {
			t.Errorf("listed: %+v, %v", page, err)
		}
		time.Sleep(time.Hour)
		if err := f.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		f = open(t, h, fleet.Options{Dir: dir, Keep: 48 * time.Hour})
		if _, err := f.Get(info.ID); !errors.Is(err, fleet.ErrNotFound) {
			t.Errorf("the registry still has it: %v", err)
		}
	})
}

func TestMaxKept(t *testing.T) {
	h := newHost(t)
	f := open(t, h, fleet.Options{MaxKept: 2})
	var ids []string
	for range 3 {
		info, _ := create(t, f, h, fleet.CreateOptions{})
		if err := f.Kill(t.Context(), info.ID); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, info.ID)
	}
	if _, err := f.Get(ids[0]); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("the oldest of 3: %v", err)
	}
	wantGone(t, f, ids[1], fleet.Killed)
	wantGone(t, f, ids[2], fleet.Killed)
}

// What only looks at a sandbox does not keep it.
func TestALookIsNoActivity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		f := open(t, h, fleet.Options{})
		info, _ := create(t, f, h, fleet.CreateOptions{Timeout: time.Minute})
		for range 5 {
			time.Sleep(10 * time.Second)
			if s, err := f.Look(info.ID); err != nil || s.ID() != info.ID {
				t.Fatal(s, err)
			}
		}
		if _, err := f.Pause(t.Context(), info.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Look(info.ID); !errors.Is(err, fleet.ErrPaused) {
			t.Errorf("paused: %v", err)
		}
		if _, err := f.Resume(t.Context(), info.ID); err != nil {
			t.Fatal(err)
		}
		release, _, err := f.Use(info.ID)
		if err != nil {
			t.Fatal(err)
		}
		release()
		time.Sleep(50 * time.Second)
		if _, err := f.Look(info.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(15 * time.Second)
		synctest.Wait()
		if _, err := f.Look(info.ID); !errors.Is(err, fleet.ErrGone) {
			t.Errorf("after its timeout: %v", err)
		}
		if _, err := f.Look("sb_nobody"); !errors.Is(err, fleet.ErrNotFound) {
			t.Errorf("nobody's: %v", err)
		}
	})
}
