package fleet_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/fleet"
)

// host is a fake Runtime: a machine that outlives fleets, with sandboxes on it. Their
// agents are HTTP servers in this process.
type host struct {
	start func(ctx context.Context, s fleet.Spec) error // before a machine starts; nil: nothing
	after func(m *machine)                              // when one has, before anybody is told; nil: nothing

	mu       sync.Mutex
	machines map[string]*machine // all that are there
	started  int
	swept    int
}

// newHost returns a host whose sandboxes end with the test.
func newHost(t *testing.T) *host {
	h := &host{machines: map[string]*machine{}}
	t.Cleanup(func() {
		if err := h.Sweep(func(string) bool { return false }); err != nil {
			t.Error(err)
		}
	})
	return h
}

func (h *host) Start(ctx context.Context, s fleet.Spec) (fleet.Machine, error) {
	if h.start != nil {
		if err := h.start(ctx, s); err != nil {
			return nil, err
		}
	}
	m := &machine{host: h, id: s.ID, began: time.Now(), spec: s, conns: make(chan net.Conn), done: make(chan struct{}), thawed: make(chan struct{})}
	close(m.thawed)
	m.server = &http.Server{Handler: m}
	h.mu.Lock()
	h.machines[s.ID] = m
	h.started++
	h.mu.Unlock()
	go m.server.Serve(m) //nolint: ends with Close
	if h.after != nil {
		h.after(m)
	}
	return m, nil
}

func (h *host) Adopt(_ context.Context, id string, record json.RawMessage) (fleet.Machine, error) {
	m := h.machine(id)
	if m == nil {
		return nil, fleet.ErrGone
	}
	if string(record) != string(m.Record()) {
		return nil, fmt.Errorf("the record of %s is %s", id, record)
	}
	return m, nil
}

func (h *host) Sweep(keep func(id string) bool) error {
	h.mu.Lock()
	var left []*machine
	for id, m := range h.machines {
		if !keep(id) {
			left = append(left, m)
		}
	}
	h.swept += len(left)
	h.mu.Unlock()
	for _, m := range left {
		m.crash(fleet.Exit{Signal: "SIGKILL"})
		h.remove(m)
	}
	return nil
}

func (h *host) Close() error { return nil }

// Complete knows all templates but "none", and leaves limits to Start.
func (h *host) Complete(s fleet.Spec) (fleet.Spec, error) {
	if s.Template == "none" {
		return s, fleet.ErrUnknownTemplate
	}
	s.Template, s.Cwd = cmp.Or(s.Template, "default"), cmp.Or(s.Cwd, "/home/user")
	s.Network.Mode = cmp.Or(s.Network.Mode, "full")
	return s, nil
}

func (h *host) machine(id string) *machine {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.machines[id]
}

func (h *host) remove(m *machine) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.machines, m.id)
}

func (h *host) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.machines)
}

// machine is a sandbox of a host, and the listener of its agent.
type machine struct {
	host   *host
	id     string
	spec   fleet.Spec
	server *http.Server
	conns  chan net.Conn
	done   chan struct{}

	kill     func() error                                      // before it is killed; nil: nothing
	freeze   func(ctx context.Context, what string) error      // before it is paused or resumed; nil: nothing
	activity func(w http.ResponseWriter, r *http.Request)      // nil: idle for ever
	closing  func(w http.ResponseWriter, r *http.Request)      // nil: it is done at once
	serve    func(w http.ResponseWriter, r *http.Request) bool // all else

	began        time.Time
	works        atomic.Bool  // it uses CPU
	measured     atomic.Int32 // times
	unmeasurable error

	asked  atomic.Int32 // for its activity
	closes atomic.Value // the query of the last request to close
	kills  atomic.Int32 // that were let through

	mu     sync.Mutex
	exit   fleet.Exit
	ended  bool
	thawed chan struct{} // closed unless it is paused
	froze  bool
}

func (m *machine) Record() json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"init":%q}`, m.id))
}

func (m *machine) Limits() fleet.Limits       { return fleet.Limits{Memory: 1 << 30, CPUs: 1, Pids: 100} }
func (m *machine) Isolation() fleet.Isolation { return fleet.Isolation{Level: "namespace"} }
func (m *machine) Done() <-chan struct{}      { return m.done }

func (m *machine) Exit() fleet.Exit {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.exit
}

// Usage is told of one that has run code for a tenth of its life if it works, and never else.
func (m *machine) Usage() (fleet.Usage, error) {
	m.measured.Add(1)
	u := fleet.Usage{Memory: 20 << 20, CPU: -1, Pids: 3, Disk: -1}
	if m.works.Load() {
		u.CPU = time.Since(m.began) / 10
	}
	return u, m.unmeasurable
}

func (m *machine) Dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case m.conns <- theirs:
		return ours, nil
	case <-m.done:
	case <-ctx.Done():
	}
	ours.Close()
	theirs.Close()
	return nil, errors.New("nobody listens")
}

// crash ends the agent.
func (m *machine) crash(e fleet.Exit) {
	m.mu.Lock()
	first := !m.ended
	m.ended = true
	if first {
		m.exit = e
	}
	m.mu.Unlock()
	if first {
		close(m.done)
		m.server.Close()
	}
}

func (m *machine) Kill() error {
	if m.kill != nil {
		if err := m.kill(); err != nil {
			return err
		}
	}
	m.kills.Add(1)
	m.crash(fleet.Exit{Signal: "SIGKILL"})
	m.host.remove(m)
	return nil
}

func (m *machine) Pause(ctx context.Context) error  { return m.set(ctx, "pause") }
func (m *machine) Resume(ctx context.Context) error { return m.set(ctx, "resume") }

func (m *machine) set(ctx context.Context, what string) error {
	if m.freeze != nil {
		if err := m.freeze(ctx, what); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case what == "pause" && !m.froze:
		m.froze, m.thawed = true, make(chan struct{})
	case what == "resume" && m.froze:
		m.froze = false
		close(m.thawed)
	}
	return nil
}

func (m *machine) frozen() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.froze
}

func (m *machine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	thawed := m.thawed
	m.mu.Unlock()
	select {
	case <-thawed:
	case <-r.Context().Done():
		return
	}
	switch {
	case r.URL.Path == "/v1/activity":
		m.asked.Add(1)
		if m.activity == nil {
			io.WriteString(w, `{"busy":false,"idle_seconds":1e9}`)
			return
		}
		m.activity(w, r)
	case r.URL.Path == "/v1/close":
		m.closes.Store(r.Method + " " + r.URL.RequestURI())
		if m.closing != nil {
			m.closing(w, r)
		}
	case m.serve == nil || !m.serve(w, r):
		http.NotFound(w, r)
	}
}

// The listener.

func (m *machine) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.done:
		return nil, net.ErrClosed
	}
}

func (m *machine) Close() error   { return nil }
func (m *machine) Addr() net.Addr { return &net.UnixAddr{Name: m.id} }

// open opens a fleet that the test closes.
func open(t *testing.T, h *host, o fleet.Options) *fleet.Fleet {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	o.Runtime = h
	f, err := fleet.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return f
}

// create creates a sandbox and returns it with its machine.
func create(t *testing.T, f *fleet.Fleet, h *host, o fleet.CreateOptions) (fleet.Info, *machine) {
	t.Helper()
	info, _, err := f.Create(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	m := h.machine(info.ID)
	if m == nil {
		t.Fatal("there is no machine")
	}
	return info, m
}

// wantGone wants a sandbox to have ended for a reason, and to tell so.
func wantGone(t *testing.T, f *fleet.Fleet, id string, want fleet.Reason) {
	t.Helper()
	_, err := f.Get(id)
	var gone *fleet.GoneError
	if !errors.As(err, &gone) || !errors.Is(err, fleet.ErrGone) {
		t.Errorf("Get of an ended sandbox: %v", err)
		return
	}
	if gone.ID != id || gone.Reason != want || gone.At.IsZero() {
		t.Errorf("it is gone as %+v, want %s", gone, want)
	}
	if _, _, err := f.Use(id); !errors.Is(err, fleet.ErrGone) {
		t.Errorf("Use of an ended sandbox: %v", err)
	}
}

// handle returns a running sandbox, of which no request is in flight.
func handle(t *testing.T, f *fleet.Fleet, id string) *fleet.Sandbox {
	t.Helper()
	release, s, err := f.Use(id)
	if err != nil {
		t.Fatal(err)
	}
	release()
	return s
}
