package fleet_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/k2sandbox/k2sandbox/fleet"
)

// storm is ten clients, who do anything at any time, and a host where anything happens.
type storm struct {
	h    *host
	mu   sync.Mutex
	ids  []string   // of all that Create returned
	made []*machine // all that ever started
}

func (s *storm) add(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids = append(s.ids, id)
}

// pick returns one of the newest, or one that is being created.
func (s *storm) pick(f *fleet.Fleet) string {
	if page, err := f.List(fleet.ListOptions{State: fleet.Creating, Limit: 1}); err == nil && len(page.Sandboxes) > 0 && rand.IntN(4) == 0 {
		return page.Sandboxes[0].ID
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ids) == 0 {
		return "sb_none"
	}
	return s.ids[max(0, len(s.ids)-1-rand.IntN(8))]
}

func (s *storm) machines() []*machine {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*machine(nil), s.made...)
}

func (s *storm) start(ctx context.Context, _ fleet.Spec) error {
	select {
	case <-time.After(rand.N(100 * time.Millisecond)):
	case <-ctx.Done():
		return ctx.Err()
	}
	if rand.IntN(10) == 0 {
		return errors.New("no luck")
	}
	return nil
}

// after gives a machine a character.
func (s *storm) after(m *machine) {
	busy := rand.IntN(2) == 0
	switch rand.IntN(6) {
	case 0:
		m.activity = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	case 1:
		m.closing = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	case 2:
		m.closing = func(http.ResponseWriter, *http.Request) { m.crash(fleet.Exit{}) } // as a good agent
	case 3:
		if busy {
			m.crash(fleet.Exit{OOM: true})
		}
	case 4:
		tries := 0
		m.kill = func() error {
			if tries++; tries < 3 {
				return errors.New("busy")
			}
			return nil
		}
	case 5:
		m.freeze = func(ctx context.Context, _ string) error {
			select {
			case <-time.After(rand.N(time.Second)):
			case <-ctx.Done():
			}
			return ctx.Err()
		}
	}
	s.mu.Lock()
	s.made = append(s.made, m)
	s.mu.Unlock()
	time.Sleep(rand.N(50 * time.Millisecond)) // nobody knows of it yet
}

// act does one thing to a fleet, and wants the answer to be one of those that there are.
func (s *storm) act(t *testing.T, f *fleet.Fleet) {
	ctx, cancel := context.WithTimeout(t.Context(), rand.N(time.Second))
	defer cancel()
	id := s.pick(f)
	var err error
	switch rand.IntN(12) {
	case 0, 1, 2:
		var info fleet.Info
		if info, _, err = f.Create(ctx, fleet.CreateOptions{Timeout: 1 + rand.N(5*time.Second)}); err == nil {
			s.add(info.ID)
		} else if err.Error() == "cannot start sandbox: no luck" {
			err = nil
		}
	case 3:
		err = f.Kill(ctx, id)
	case 4:
		err = f.CloseSandbox(ctx, id)
	case 5:
		_, err = f.Pause(ctx, id)
	case 6:
		_, err = f.Resume(ctx, id)
	case 7:
		_, err = f.SetTimeout(id, 1+rand.N(5*time.Second))
	case 8:
		_, err = f.List(fleet.ListOptions{State: fleet.States[rand.IntN(len(fleet.States))], Limit: 5})
	case 9:
		if m := s.h.machine(id); m != nil {
			m.crash(fleet.Exit{Signal: "SIGSEGV"})
		}
	default:
		var release func()
		if release, _, err = f.Use(id); err == nil {
			time.Sleep(rand.N(3 * time.Second))
			release()
		}
	}
	for _, fine := range []error{nil, fleet.ErrNotFound, fleet.ErrGone, fleet.ErrState, fleet.ErrClosed, fleet.ErrLimit, context.DeadlineExceeded} {
		if errors.Is(err, fine) {
			return
		}
	}
	if s := err.Error(); s != "cannot end sandbox: busy" {
		t.Errorf("unexpected: %v", err)
	}
}

// blow lets ten clients act so many times each.
func (s *storm) blow(t *testing.T, f *fleet.Fleet, times int) *sync.WaitGroup {
	var clients sync.WaitGroup
	for range 10 {
		clients.Go(func() {
			for range times {
				s.act(t, f)
			}
		})
	}
	return &clients
}

// check wants every id to answer, and every machine to be there or killed once.
func (s *storm) check(t *testing.T, f *fleet.Fleet) {
	t.Helper()
	there := map[string]bool{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range s.ids {
		info, err := f.Get(id)
		if err != nil && !errors.Is(err, fleet.ErrGone) {
			t.Errorf("Get(%s): %v", id, err)
		}
		there[id] = err == nil
		if running := s.h.machine(id) != nil; running != (err == nil) {
			t.Errorf("%s: its machine is there: %v; Get: %+v, %v", id, running, info, err)
		}
	}
	for _, m := range s.made {
		want := int32(1)
		if there[m.id] {
			want = 0
		}
		if got := m.kills.Load(); got != want {
			t.Errorf("%s was killed %d times, want %d", m.id, got, want)
		}
	}
}

func TestStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		s := &storm{h: h}
		h.start, h.after = s.start, s.after
		f := open(t, h, fleet.Options{Max: 30, Grace: time.Second, PausedTimeout: 5 * time.Second})
		s.blow(t, f, 80).Wait()
		time.Sleep(time.Hour) // every one times out
		s.check(t, f)
		if h.count() != 0 {
			t.Errorf("%d machines are left", h.count())
		}
		stats, ends := f.Stats(), int64(0)
		for _, n := range stats.Ends {
			ends += n
		}
		for state, n := range stats.Live {
			if n != 0 {
				t.Errorf("%d are %s", n, state)
			}
		}
		if len(s.made) < 20 || int(ends) < len(s.made) || int(stats.Created) != len(s.ids) {
			t.Errorf("%d started, %d created, %+v", len(s.made), len(s.ids), stats)
		}
		t.Logf("%d started, %d created: %+v", len(s.made), len(s.ids), stats)
	})
}

// The same, while the server is stopped and started again.
func TestStormOverRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		s := &storm{h: h}
		h.start, h.after = s.start, s.after
		o := fleet.Options{Dir: t.TempDir(), Runtime: h, Max: 30, Grace: time.Second, PausedTimeout: 5 * time.Second}
		for range 6 {
			f, err := fleet.Open(o)
			if err != nil {
				t.Fatal(err)
			}
			clients := s.blow(t, f, 30)
			time.Sleep(rand.N(20 * time.Second))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if err := f.Close(ctx); err != nil && err.Error() != "cannot end sandbox: busy" {
				t.Log(err) // some were ending, and could not at once
			}
			cancel()
			clients.Wait()
		}
		f := open(t, h, o)
		for _, id := range s.ids {
			if err := f.Kill(t.Context(), id); err != nil && !errors.Is(err, fleet.ErrGone) && err.Error() != "cannot end sandbox: busy" {
				t.Error(err)
			}
		}
		time.Sleep(time.Hour)
		if h.count() != 0 {
			t.Errorf("%d machines are left", h.count())
		}
		for _, id := range s.ids {
			if _, err := f.Get(id); !errors.Is(err, fleet.ErrGone) {
				t.Errorf("Get(%s): %v", id, err)
			}
		}
		for _, m := range s.machines() {
			if m.kills.Load() > 1 {
				t.Errorf("%s was killed %d times", m.id, m.kills.Load())
			}
		}
	})
}
