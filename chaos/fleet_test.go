package chaos

import (
	"context"
	"flag"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var many = flag.Int("sandboxes", 40, "how many sandboxes of a server to create, use and end")

var clients = flag.Int("clients", 10, "how many clients the server has at the same time")

// TestFleet has clients create, use and end sandboxes of the real server, while kernels, agents
// and the server are killed, which is started again on what it left. What was answered is
// complete, no sandbox is lost, and nothing is left behind.
//
//	go test ./chaos -v -run Fleet -sandboxes 1000 -seed 7
func TestFleet(t *testing.T) {
	sow(t)
	path := build(t)
	s := newService(t, path)
	count := &tally{of: map[string]int{}}
	begin := time.Now()

	s.start("keep")
	s.warm()
	fresh := s.settled()
	maps.Copy(fresh, s.goroutines())
	f := &crowd{t: t, service: s, count: count}
	f.live(*many-*many/4, true)
	s.kill() // what is alive is taken back once more
	s.endAll()
	t.Logf("with kills of the server: %v, in %.0f s", count, time.Since(begin).Seconds())

	s.kill() // so that it has nothing but what a fresh one has
	s.warm()
	f.live(*many/4, false)
	s.endAll()
	s.expect(fresh)
	for _, more := range s.goroutines().more(fresh) {
		t.Errorf("the server has more than at its start: %s", more)
	}
	t.Logf("all: %v, in %.0f s", count, time.Since(begin).Seconds())
	f.atLeast(count)

	s.stop()
	s.start("end") // ends what it finds, once it is stopped
	f.leave(3)
	s.stop()
	s.expectNothing()
}

// sow decides all random choices, prints by what, and takes in orphans: they come to us, whatever they
// did to their environment, so that none can hide.
func sow(t *testing.T) {
	if python == "" {
		t.Fatal("K2_TEST_PYTHON must name a Python interpreter that has ipykernel")
	}
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", *seed)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
}

// crowd is the clients of a service.
type crowd struct {
	t       *testing.T
	service *service
	count   *tally
	next    atomic.Uint64
}

// live has the clients create so many sandboxes, and each do something with it.
func (c *crowd) live(n int, servers bool) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Minute)
	defer cancel()
	end := c.next.Load() + uint64(n)
	var work sync.WaitGroup
	for range *clients {
		work.Go(func() {
			for i := c.next.Add(1); i <= end && !c.t.Failed(); i = c.next.Add(1) {
				l := &life{crowd: c, n: i, rng: dice(1<<40 | i), servers: servers}
				if err := l.live(ctx); err != nil {
					c.t.Errorf("sandbox %d (%s), after %s: %v", i, l.id, strings.Join(l.past, ", "), err)
				}
			}
		})
	}
	work.Wait()
	c.next.Store(end)
}

// leave creates sandboxes that are left alone while they work.
func (c *crowd) leave(n int) {
	for range n {
		l := &life{crowd: c, n: c.next.Add(1), rng: dice(1)}
		if err := l.create(c.t.Context()); err != nil {
			c.t.Errorf("a sandbox to be left alone: %v", err)
			return
		}
		if _, err := l.submit(c.t.Context(), "while True: print('x')"); err != nil {
			c.t.Error(err)
		}
	}
}

// atLeast sees that the test did what it is for, where it was long enough for that.
func (c *crowd) atLeast(count *tally) {
	if *many < 100 {
		return
	}
	for _, what := range []string{"SIGKILL of the server", "SIGKILL of the agent", "SIGKILL of the kernel", "taken up again"} {
		if count.get(what) == 0 {
			c.t.Errorf("never: %s", what)
		}
	}
}

// oneOf draws one.
func oneOf[T any](rng *rand.Rand, all []T) T { return all[rng.IntN(len(all))] }
