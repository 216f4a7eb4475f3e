package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Gate is a handler whose work another one can take over with no request that fails: Shut lets no more in, and waits for
// those that are inside; Open lets all in again, to the same or to another one. Its methods are safe for concurrent use.
type Gate struct {
	mu    sync.Mutex
	next  http.Handler
	shut  chan struct{}   // closed when it is open again; nil: it is
	in    map[*visit]bool // requests that may still need what next has
	empty chan<- struct{} // closed when there are none; nil: nobody waits for that
}

// visit is a request on its way through a gate.
type visit struct {
	gate  *Gate
	r     *http.Request
	since time.Time
	away  int  // it is with a sandbox's agent, or its answer is on its way: so many times
	left  bool // it has been answered

	reading *body // that has begun to come and has not ended; nil: none
}

type visitKey struct{}

// NewGate returns a gate to a handler, which is open.
func NewGate(next http.Handler) *Gate { return &Gate{next: next, in: map[*visit]bool{}} }

// ServeHTTP waits while the gate is shut.
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v, next, err := g.enter(r)
	if err != nil {
		return // the client has left
	}
	defer g.leave(v)
	next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), visitKey{}, v)))
}

func (g *Gate) enter(r *http.Request) (*visit, http.Handler, error) {
	v := &visit{gate: g, r: r, since: time.Now()}
	for {
		g.mu.Lock()
		shut := g.shut
		if shut == nil {
			g.in[v] = true
			defer g.mu.Unlock()
			return v, g.next, nil
		}
		g.mu.Unlock()
		select {
		case <-shut:
		case <-r.Context().Done():
			return nil, nil, r.Context().Err()
		}
	}
}

func (g *Gate) leave(v *visit) {
	g.mu.Lock()
	defer g.mu.Unlock()
	v.left = true
	delete(g.in, v)
	g.settle()
}

// settle tells who waits that nobody is inside.
func (g *Gate) settle() {
	if g.empty != nil && len(g.in) == 0 {
		close(g.empty)
		g.empty = nil
	}
}

// Inside says that a request is with a sandbox's agent, for as long as that takes, until done is called: so long it needs
// nothing of this process but to be passed on. ctx is the request's, and may be another's.
func Inside(ctx context.Context) (done func()) {
	v := visitOf(ctx)
	if v == nil {
		return func() {}
	}
	v.gate.move(v, 1)
	return sync.OnceFunc(func() { v.gate.move(v, -1) })
}

// visitOf returns the visit of a request; nil where there is no gate.
func visitOf(ctx context.Context) *visit {
	v, _ := ctx.Value(visitKey{}).(*visit)
	return v
}

// answers says that the answer has begun: to send it on needs nothing of what is behind the gate.
func (v *visit) answers() {
	if v != nil {
		v.gate.move(v, 1)
	}
}

// reads says that a body is on its way; nil: none is any more.
func (v *visit) reads(b *body) {
	if v != nil {
		v.gate.mu.Lock()
		defer v.gate.mu.Unlock()
		v.reading = b
	}
}

func (g *Gate) move(v *visit, by int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if v.left { // what it began goes on without it
		return
	}
	v.away += by
	if v.away == 0 {
		g.in[v] = true
		return
	}
	delete(g.in, v)
	g.settle()
}

// giveUpTime is how long requests may take to fail whose bodies are given up.
const giveUpTime = 5 * time.Second

// Shut lets no more requests in, which wait, and returns when those that are inside have been answered, or are with a
// sandbox's agent, or their answers are on their way. Where ctx is late, and all that are left wait for their bodies, these fail: nothing
// has been done for them. Else, and where ctx is cancelled, the gate is open again, and the error names them.
func (g *Gate) Shut(ctx context.Context) error {
	empty := make(chan struct{})
	g.mu.Lock()
	if g.shut != nil {
		g.mu.Unlock()
		return errors.New("the gate is shut already")
	}
	g.shut, g.empty = make(chan struct{}), empty
	g.settle()
	g.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) && g.giveUp() {
		select {
		case <-empty:
			return nil
		case <-time.After(giveUpTime):
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.empty == nil { // just now
		return nil
	}
	err := fmt.Errorf("%d requests have not been answered in time: %s", len(g.in), g.slowest())
	close(g.shut)
	g.shut, g.empty = nil, nil
	return err
}

// giveUp has the requests that are inside fail, if all of them wait for their bodies.
func (g *Gate) giveUp() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for v := range g.in {
		if v.reading == nil {
			return false
		}
	}
	for v := range g.in {
		v.reading.giveUp()
	}
	return true
}

// maxTold is how many requests an error names.
const maxTold = 5

func (g *Gate) slowest() string {
	var all []*visit
	for v := range g.in {
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b *visit) int { return a.since.Compare(b.since) })
	var told []string
	for _, v := range all[:min(len(all), maxTold)] {
		told = append(told, fmt.Sprintf("%s %.100s, for %.1f s", v.r.Method, v.r.URL.Path, time.Since(v.since).Seconds()))
	}
	return strings.Join(told, "; ")
}

// Open lets requests in, to a handler. It is for a gate that is shut.
func (g *Gate) Open(next http.Handler) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.next = next
	close(g.shut)
	g.shut = nil
}
