package fleet_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/k2sandbox/k2sandbox/fleet"
)

func TestCreateUseKill(t *testing.T) {
	h := newHost(t)
	var spec fleet.Spec
	h.after = func(m *machine) { spec = m.spec }
	f := open(t, h, fleet.Options{KillGrace: time.Minute})
	info, token, err := f.Create(t.Context(), fleet.CreateOptions{
		Template: "host", Cwd: "/srv", Envs: map[string]string{"A": "b"}, Metadata: map[string]string{"k": "v"},
		Timeout: time.Minute, Limits: fleet.Limits{Memory: 5 << 20}, Network: fleet.Network{Mode: "none"}, Owner: "key1",
	})
	if err != nil {
		t.Fatal(err)
	}
	if spec.ID != info.ID || spec.Template != "host" || spec.Cwd != "/srv" || spec.Envs["A"] != "b" || spec.Limits.Memory != 5<<20 || spec.Network.Mode != "none" {
		t.Errorf("the runtime was asked for %+v", spec)
	}
	if !strings.HasPrefix(info.ID, "sb_") || info.State != fleet.Running || info.Owner != "key1" || info.Metadata["k"] != "v" || info.Timeout != time.Minute {
		t.Errorf("created: %+v", info)
	}
	if info.Limits.Memory != 1<<30 || info.Isolation.Level != "namespace" || info.ExpiresAt.Sub(info.LastActiveAt) != time.Minute {
		t.Errorf("created: %+v, want what the machine says", info)
	}
	if !f.Token(info.ID, token) || f.Token(info.ID, token+"x") || f.Token(info.ID, "") || f.Token("sb_other", token) {
		t.Error("its token opens it alone, and nothing else opens it")
	}
	if got, err := f.Get(info.ID); err != nil || got.ID != info.ID || got.State != fleet.Running {
		t.Errorf("Get: %+v, %v", got, err)
	}
	m := h.machine(info.ID)
	m.serve = func(w http.ResponseWriter, r *http.Request) bool { io.WriteString(w, r.URL.Path); return true }
	release, s, err := f.Use(info.ID)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: s.Transport()}).Get("http://any/v1/x")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(resp.Body); string(text) != "/v1/x" || err != nil {
		t.Errorf("the agent answers %q, %v", text, err)
	}
	resp.Body.Close()
	release()
	release()                                         // does nothing
	if release, _, err = f.Use(info.ID); err != nil { // somebody reads
		t.Fatal(err)
	}
	defer release()
	if err := f.Kill(t.Context(), info.ID); err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	if h.count() != 0 || m.kills.Load() != 1 {
		t.Errorf("%d machines are left after %d kills", h.count(), m.kills.Load())
	}
	if got := m.closes.Load(); got != "POST /v1/close?reason=killed" {
		t.Errorf("the agent was told %v", got)
	}
	wantGone(t, f, info.ID, fleet.Killed)
	if err := f.Kill(t.Context(), info.ID); !errors.Is(err, fleet.ErrGone) {
		t.Errorf("a kill afterwards: %v", err)
	}
	if !f.Token(info.ID, token) {
		t.Error("its token does not open what is left of it")
	}
	if err := s.Gone(t.Context()); !errors.Is(err, fleet.ErrGone) {
		t.Errorf("Gone: %v", err)
	}
}

func TestUnknown(t *testing.T) {
	f := open(t, newHost(t), fleet.Options{})
	for _, id := range []string{"", "sb_x", "../../etc", strings.Repeat("x", 1<<20), "sb_\x00"} {
		for what, err := range map[string]error{
			"Get": second(f.Get(id)), "Kill": f.Kill(t.Context(), id), "CloseSandbox": f.CloseSandbox(t.Context(), id),
			"Pause": second(f.Pause(t.Context(), id)), "Resume": second(f.Resume(t.Context(), id)), "SetTimeout": second(f.SetTimeout(id, time.Second)),
		} {
			if !errors.Is(err, fleet.ErrNotFound) || len(err.Error()) > 300 {
				t.Errorf("%s of %.20q: %v", what, id, err)
			}
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestCloseIsGraceful(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		f := open(t, h, fleet.Options{})
		info, m := create(t, f, h, fleet.CreateOptions{})
		began, answer := make(chan bool), make(chan bool)
		m.closing = func(http.ResponseWriter, *http.Request) { close(began); <-answer }
		done := make(chan error)
		go func() { done <- f.CloseSandbox(t.Context(), info.ID) }()
		<-began
		if got, err := f.Get(info.ID); err != nil || got.State != fleet.Ending || got.Reason != fleet.Closed {
			t.Errorf("while it closes: %+v, %v", got, err)
		}
		if _, _, err := f.Use(info.ID); !errors.Is(err, fleet.ErrGone) {
			t.Errorf("Use while it closes: %v", err)
		}
		if m.kills.Load() != 0 {
			t.Error("it was killed before it had closed")
		}
		close(answer)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got := m.closes.Load(); got != "POST /v1/close?reason=closed" || m.kills.Load() != 1 {
			t.Errorf("the agent was told %v, and killed %d times", got, m.kills.Load())
		}
		wantGone(t, f, info.ID, fleet.Closed)
	})
}

// An agent that hangs, floods, or lies has its grace and no more.
func TestHostileFarewell(t *testing.T) {
	for name, closing := range map[string]http.HandlerFunc{
		"hangs": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"floods": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		},
		"drips": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				w.Write([]byte("x"))
				w.(http.Flusher).Flush()
				select {
				case <-time.After(time.Second):
				case <-r.Context().Done():
				}
			}
		},
		"redirects": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/v1/close", http.StatusFound) },
		"headers":   func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				f := open(t, h, fleet.Options{})
				for _, end := range []func(context.Context, string) error{f.CloseSandbox, f.Kill} {
					info, m := create(t, f, h, fleet.CreateOptions{})
					m.closing = closing
					if err := end(t.Context(), info.ID); err != nil {
						t.Error(err)
					}
					if h.count() != 0 {
						t.Error("it is not gone")
					}
				}
			})
		})
	}
}

// A kill does not wait for a close that is under way, and both get an answer.
func TestKillHastensClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		f := open(t, h, fleet.Options{Grace: time.Hour})
		info, m := create(t, f, h, fleet.CreateOptions{})
		began := make(chan bool)
		m.closing = func(_ http.ResponseWriter, r *http.Request) { close(began); <-r.Context().Done() }
		done := make(chan error)
		go func() { done <- f.CloseSandbox(t.Context(), info.ID) }()
		<-began
		at := time.Now() // of the bubble's clock
		if err := errors.Join(f.Kill(t.Context(), info.ID), <-done); err != nil {
			t.Error(err)
		}
		if time.Since(at) != 0 {
			t.Errorf("the kill waited %v", time.Since(at))
		}
		wantGone(t, f, info.ID, fleet.Closed)
	})
}

func TestTwoKills(t *testing.T) {
	h := newHost(t)
	f := open(t, h, fleet.Options{})
	info, m := create(t, f, h, fleet.CreateOptions{})
	killing, on := make(chan bool, 2), make(chan bool)
	m.kill = func() error { killing <- true; <-on; return nil }
	done := make(chan error)
	for range 2 {
		go func() { done <- f.Kill(t.Context(), info.ID) }()
	}
	<-killing
	stop, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Kill(stop, info.ID); !errors.Is(err, context.Canceled) {
		t.Errorf("a kill whose client has gone: %v", err)
	}
	close(on)
	for range 2 {
		if err := <-done; err != nil && !errors.Is(err, fleet.ErrGone) { // that one came late
			t.Error(err)
		}
	}
	if m.kills.Load() != 1 {
		t.Errorf("it was killed %d times", m.kills.Load())
	}
}

// What cannot be removed is told, stays Ending, and is tried again until it is gone.
func TestKillFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		f := open(t, h, fleet.Options{})
		info, m := create(t, f, h, fleet.CreateOptions{})
		s := handle(t, f, info.ID)
		left := 3
		m.kill = func() error {
			if left--; left >= 0 {
				return errors.New("device or resource busy")
			}
			return nil
		}
		for range 2 {
			if err := f.Kill(t.Context(), info.ID); err == nil || !strings.Contains(err.Error(), "busy") {
				t.Errorf("Kill: %v", err)
			}
		}
		if got, err := f.Get(info.ID); err != nil || got.State != fleet.Ending {
			t.Errorf("meanwhile: %+v, %v", got, err)
		}
		<-s.Done()
		wantGone(t, f, info.ID, fleet.Killed)
		if h.count() != 0 || f.Stats().Live[fleet.Ending] != 0 {
			t.Error("it is not gone")
		}
	})
}

func TestCrash(t *testing.T) {
	h := newHost(t)
	f := open(t, h, fleet.Options{})
	for reason, exit := range map[fleet.Reason]fleet.Exit{
		fleet.Crashed:     {Signal: "SIGSEGV"},
		fleet.OutOfMemory: {Signal: "SIGKILL", OOM: true},
	} {
		info, m := create(t, f, h, fleet.CreateOptions{})
		s := handle(t, f, info.ID)
		m.crash(exit)
		<-s.Done()
		wantGone(t, f, info.ID, reason)
		if m.kills.Load() != 1 || h.count() != 0 {
			t.Errorf("%s: %d kills, %d left", reason, m.kills.Load(), h.count())
		}
	}
	// One that was dead before Create returned.
	h.after = func(m *machine) { m.crash(fleet.Exit{Code: 1}) }
	info, _, err := f.Create(t.Context(), fleet.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if release, s, err := f.Use(info.ID); err == nil {
		release()
		<-s.Done()
	}
	if f.Kill(t.Context(), info.ID); h.count() != 0 {
		t.Error("it is not gone")
	}
	wantGone(t, f, info.ID, fleet.Crashed)
}

// Who asks while a sandbox ends is told that it is ending, or that it is gone.
func TestGetWhileItEnds(t *testing.T) {
	h := newHost(t)
	f := open(t, h, fleet.Options{})
	for range 50 {
		info, _ := create(t, f, h, fleet.CreateOptions{})
		var asked sync.WaitGroup
		for range 4 {
			asked.Go(func() {
				for {
					got, err := f.Get(info.ID)
					if err != nil {
						if !errors.Is(err, fleet.ErrGone) {
							t.Error(err)
						}
						return
					}
					if got.State == fleet.Ended {
						t.Error("it is told of as one that has ended")
					}
				}
			})
		}
		if err := f.Kill(t.Context(), info.ID); err != nil {
			t.Error(err)
		}
		asked.Wait()
	}
}

func second2[A, B any](_ A, _ B, err error) error { return err }
func third[A, B any](_ A, _ B, err error) error   { return err }
