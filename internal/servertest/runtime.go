package servertest

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"sync"

	"github.com/k2sandbox/k2sandbox/fleet"
)

// Agent is what is in a sandbox: an http.Server, or what serves connections otherwise. Serve returns after Close.
type Agent interface {
	Serve(net.Listener) error
	Close() error
}

// Runtime is a fleet.Runtime whose sandboxes are an agent each, at a socket of its own. What a test's is to do
// otherwise, a type that embeds it does.
type Runtime struct {
	dir   string
	agent func(fleet.Spec) Agent

	mu  sync.Mutex
	all []*Machine
}

// NewRuntime returns a runtime with sockets in dir (see Dir), whose sandboxes get their agent by a call of agent.
func NewRuntime(dir string, agent func(fleet.Spec) Agent) *Runtime {
	return &Runtime{dir: dir, agent: agent}
}

// HTTP makes agents of handlers. A request to close is answered for them.
func HTTP(handler func(fleet.Spec) http.Handler) func(fleet.Spec) Agent {
	return func(s fleet.Spec) Agent {
		h := handler(s)
		return &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v1/close" {
				w.WriteHeader(http.StatusNoContent)
				return
			}
			h.ServeHTTP(w, r)
		})}
	}
}

// Start starts a *Machine.
func (r *Runtime) Start(_ context.Context, s fleet.Spec) (fleet.Machine, error) {
	ln, err := net.Listen("unix", filepath.Join(r.dir, s.ID))
	if err != nil {
		return nil, err
	}
	m := &Machine{Spec: s, Agent: r.agent(s), Used: fleet.Usage{Disk: -1}, Refused: make(chan fleet.Refusal, 100), ln: ln, done: make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, m)
	m.work.Go(func() { _ = m.Agent.Serve(ln) })
	return m, nil
}

// Adopt finds nothing.
func (*Runtime) Adopt(context.Context, string, json.RawMessage) (fleet.Machine, error) {
	return nil, fleet.ErrGone
}

// Sweep, Close and Complete do nothing.
func (*Runtime) Sweep(func(string) bool) error             { return nil }
func (*Runtime) Close() error                              { return nil }
func (*Runtime) Complete(s fleet.Spec) (fleet.Spec, error) { return s, nil }

// Get returns a sandbox that was started, by its id, or nil.
func (r *Runtime) Get(id string) *Machine {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.all {
		if m.Spec.ID == id {
			return m
		}
	}
	return nil
}

// Last returns what was asked for last.
func (r *Runtime) Last() fleet.Spec {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all[len(r.all)-1].Spec
}

// Machine is a sandbox of a Runtime.
type Machine struct {
	Spec    fleet.Spec
	Agent   Agent
	Used    fleet.Usage        // what Usage tells
	Refused chan fleet.Refusal // what Refusals returns

	ln   net.Listener
	work sync.WaitGroup
	done chan struct{}
	once sync.Once

	mu      sync.Mutex
	network fleet.Network
}

// Dial connects to the agent.
func (m *Machine) Dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", m.ln.Addr().String())
}

// Kill ends the agent.
func (m *Machine) Kill() error {
	m.once.Do(func() {
		m.Agent.Close()
		m.ln.Close() // which an agent that has not come to serve does not know
		m.work.Wait()
		close(m.done)
	})
	return nil
}

// SetNetwork notes a network, which Network tells.
func (m *Machine) SetNetwork(n fleet.Network) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.network = n
	return nil
}

// Network is what SetNetwork was asked for last.
func (m *Machine) Network() fleet.Network {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.network
}

// The other methods of a fleet.Machine and a fleet.Networked tell what the fields say, or do nothing.
func (m *Machine) Record() json.RawMessage        { return json.RawMessage(`{}`) }
func (m *Machine) Limits() fleet.Limits           { return m.Spec.Limits }
func (m *Machine) Isolation() fleet.Isolation     { return fleet.Isolation{Level: fleet.LevelNone} }
func (m *Machine) Done() <-chan struct{}          { return m.done }
func (m *Machine) Exit() fleet.Exit               { return fleet.Exit{Signal: "SIGKILL"} }
func (m *Machine) Pause(context.Context) error    { return nil }
func (m *Machine) Resume(context.Context) error   { return nil }
func (m *Machine) Usage() (fleet.Usage, error)    { return m.Used, nil }
func (m *Machine) Refusals() <-chan fleet.Refusal { return m.Refused }
