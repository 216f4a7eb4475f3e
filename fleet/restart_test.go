package fleet_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/k2sandbox/k2sandbox/fleet"
)

func TestCloseLeavesAndOpenTakesBack(t *testing.T) {
	h, dir := newHost(t), t.TempDir()
	f := open(t, h, fleet.Options{Dir: dir})
	runs, token, err := f.Create(t.Context(), fleet.CreateOptions{Metadata: map[string]string{"a": "b"}, Owner: "key", Timeout: time.Minute, Template: "host"})
	if err != nil {
		t.Fatal(err)
	}
	paused, _ := create(t, f, h, fleet.CreateOptions{})
	crashes, crasher := create(t, f, h, fleet.CreateOptions{})
	killed, _ := create(t, f, h, fleet.CreateOptions{})
	if _, err := f.SetTimeout(runs.ID, 2*time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Pause(t.Context(), paused.ID); err != nil {
		t.Fatal(err)
	}
	if err := f.Kill(t.Context(), killed.ID); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"Create": second2(f.Create(t.Context(), fleet.CreateOptions{})), "Use": third(f.Use(runs.ID)), "Kill": f.Kill(t.Context(), runs.ID),
		"Get": second(f.Get(runs.ID)), "List": second(f.List(fleet.ListOptions{})), "Pause": second(f.Pause(t.Context(), runs.ID)), "SetTimeout": second(f.SetTimeout(runs.ID, 0)),
	} {
		if !errors.Is(err, fleet.ErrClosed) {
			t.Errorf("%s after Close: %v", what, err)
		}
	}
	if h.count() != 3 {
		t.Errorf("%d machines are left, want 3", h.count())
	}
	crasher.crash(fleet.Exit{Code: 1}) // while no server is there
	h.remove(crasher)

	f = open(t, h, fleet.Options{Dir: dir})
	got, err := f.Get(runs.ID)
	if err != nil || got.State != fleet.Running || got.Owner != "key" || got.Metadata["a"] != "b" || got.Timeout != 2*time.Minute || !got.CreatedAt.Equal(runs.CreatedAt) || got.Template != "host" || got.Limits != runs.Limits {
		t.Errorf("taken back: %+v, %v; was %+v", got, err, runs)
	}
	if !f.Token(runs.ID, token) {
		t.Error("its token does not open it")
	}
	if got, err := f.Get(paused.ID); err != nil || got.State != fleet.Paused || !h.machine(paused.ID).frozen() {
		t.Errorf("the paused one: %+v, %v", got, err)
	}
	wantGone(t, f, crashes.ID, fleet.Lost)
	wantGone(t, f, killed.ID, fleet.Killed)
	s := handle(t, f, runs.ID)
	h.machine(runs.ID).crash(fleet.Exit{}) // it is watched again
	<-s.Done()
	wantGone(t, f, runs.ID, fleet.Crashed)
	if h.swept != 0 {
		t.Errorf("%d were swept", h.swept)
	}
}

// Release leaves sandboxes that would end with Close, and who is in one is told when it has ended.
func TestReleaseLeaves(t *testing.T) {
	h, dir := newHost(t), t.TempDir()
	f := open(t, h, fleet.Options{Dir: dir, EndOnClose: true})
	info, m := create(t, f, h, fleet.CreateOptions{})
	release, s, err := f.Use(info.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Sweep(); err != nil || h.swept != 0 {
		t.Errorf("%d were swept, %v", h.swept, err)
	}
	if err := f.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := f.Sweep(); !errors.Is(err, fleet.ErrClosed) {
		t.Errorf("Sweep after Release: %v", err)
	}
	next := open(t, h, fleet.Options{Dir: dir})
	if got, err := next.Get(info.ID); err != nil || got.State != fleet.Running || h.count() != 1 {
		t.Errorf("%+v, %v; %d machines", got, err, h.count())
	}
	away := s.Away()
	m.crash(fleet.Exit{})
	<-away
	<-s.Done()
	if err := s.Gone(t.Context()); !errors.Is(err, fleet.ErrGone) {
		t.Errorf("got %v", err)
	}
	release()
	if err := f.Close(t.Context()); err != nil { // does nothing
		t.Error(err)
	}
}

func TestEndOnClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, dir := newHost(t), t.TempDir()
		f := open(t, h, fleet.Options{Dir: dir, EndOnClose: true, Grace: time.Hour})
		info, m := create(t, f, h, fleet.CreateOptions{})
		stuck, hangs := create(t, f, h, fleet.CreateOptions{})
		hangs.closing = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := f.Close(ctx); err != nil {
			t.Fatal(err)
		}
		if h.count() != 0 || m.closes.Load() != "POST /v1/close?reason=closed" {
			t.Errorf("%d are left; the agent was told %v", h.count(), m.closes.Load())
		}
		f = open(t, h, fleet.Options{Dir: dir})
		wantGone(t, f, info.ID, fleet.Closed)
		wantGone(t, f, stuck.ID, fleet.Closed)
	})
}

// Close does not wait for ever for a runtime that does not end a sandbox; the next
// Open finds it.
func TestCloseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, dir := newHost(t), t.TempDir()
		f, err := fleet.Open(fleet.Options{Dir: dir, Runtime: h, EndOnClose: true})
		if err != nil {
			t.Fatal(err)
		}
		info, m := create(t, f, h, fleet.CreateOptions{})
		on := make(chan bool)
		m.kill = func() error { <-on; return errors.New("device or resource busy") }
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := f.Close(ctx); err == nil {
			t.Error("Close says that all is well")
		}
		close(on)
		synctest.Wait()
		m.kill = nil
		f = open(t, h, fleet.Options{Dir: dir})
		if _, err := f.Get(info.ID); err != nil {
			t.Errorf("after the restart: %v", err)
		}
	})
}

// What could not be removed is swept by the next server, and is told as it ended.
func TestCloseAfterFailedKill(t *testing.T) {
	h, dir := newHost(t), t.TempDir()
	f, err := fleet.Open(fleet.Options{Dir: dir, Runtime: h})
	if err != nil {
		t.Fatal(err)
	}
	info, m := create(t, f, h, fleet.CreateOptions{})
	m.kill = func() error { return errors.New("device or resource busy") }
	if err := f.Kill(t.Context(), info.ID); err == nil {
		t.Error("Kill says that all is well")
	}
	if err := f.Close(t.Context()); err == nil {
		t.Error("Close says that all is well")
	}
	f = open(t, h, fleet.Options{Dir: dir})
	wantGone(t, f, info.ID, fleet.Killed)
	if h.count() != 0 || h.swept != 1 {
		t.Errorf("%d are left, %d were swept", h.count(), h.swept)
	}
}

func TestCloseWhileCreating(t *testing.T) {
	h := newHost(t)
	starts := make(chan bool)
	h.start = func(ctx context.Context, _ fleet.Spec) error { close(starts); <-ctx.Done(); return nil } // it starts all the same
	f := open(t, h, fleet.Options{})
	done := make(chan error)
	go func() { done <- second2(f.Create(t.Context(), fleet.CreateOptions{})) }()
	<-starts
	if err := f.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, fleet.ErrClosed) {
		t.Errorf("Create: %v", err)
	}
	if h.started != 1 || h.count() != 0 {
		t.Errorf("%d started, %d left", h.started, h.count())
	}
}

func TestOneServerHasTheRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, dir := newHost(t), t.TempDir()
		open(t, h, fleet.Options{Dir: dir})
		if f, err := fleet.Open(fleet.Options{Dir: dir, Runtime: h}); err == nil {
			f.Close(t.Context())
			t.Error("a second fleet opens the registry")
		}
		if _, err := fleet.Open(fleet.Options{Dir: "/dev/null", Runtime: h}); err == nil {
			t.Error("a file is a directory")
		}
	})
}

func TestRegistryIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	open(t, newHost(t), fleet.Options{Dir: dir})
	for name, want := range map[string]os.FileMode{".": 0o700, "registry.db": 0o600} {
		stat, err := os.Stat(filepath.Join(dir, name))
		if err != nil || stat.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, stat.Mode(), err)
		}
	}
}

// death is what a SIGKILL of the server leaves: the registry as it is at this
// moment, and the host.
func death(t *testing.T, h *host, dir string) *fleet.Fleet {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "registry.db"))
	if err != nil {
		t.Fatal(err)
	}
	next := t.TempDir()
	if err := os.WriteFile(filepath.Join(next, "registry.db"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	return open(t, h, fleet.Options{Dir: next})
}

func TestServerDiesWhileCreating(t *testing.T) {
	h, dir := newHost(t), t.TempDir()
	reached, on := make(chan string), make(chan bool)
	h.after = func(m *machine) { reached <- m.id; <-on }
	f := open(t, h, fleet.Options{Dir: dir})
	done := make(chan error)
	go func() { done <- second2(f.Create(t.Context(), fleet.CreateOptions{})) }()
	id := <-reached
	f2 := death(t, h, dir)
	if _, err := f2.Get(id); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("the half-made one: %v", err)
	}
	if h.swept != 1 || h.count() != 0 {
		t.Errorf("%d were swept, %d are left", h.swept, h.count())
	}
	close(on)
	<-done
}

func TestServerDiesWhileKilling(t *testing.T) {
	for _, when := range []string{"before", "after"} {
		t.Run(when, func(t *testing.T) {
			h, dir := newHost(t), t.TempDir()
			f := open(t, h, fleet.Options{Dir: dir})
			info, m := create(t, f, h, fleet.CreateOptions{})
			var once sync.Once // the server that died is not really dead
			reached, on := make(chan bool), make(chan bool)
			m.kill = func() error {
				once.Do(func() {
					if when == "after" { // all is gone, and nobody has been told
						m.crash(fleet.Exit{Signal: "SIGKILL"})
						h.remove(m)
					}
					close(reached)
					<-on
				})
				return nil
			}
			done := make(chan error)
			go func() { done <- f.Kill(t.Context(), info.ID) }()
			<-reached
			f2 := death(t, h, dir)
			if when == "after" {
				wantGone(t, f2, info.ID, fleet.Lost)
			} else if got, err := f2.Get(info.ID); err != nil || got.State != fleet.Running {
				t.Errorf("one that was not killed yet: %+v, %v", got, err)
			}
			close(on)
			<-done
		})
	}
}
