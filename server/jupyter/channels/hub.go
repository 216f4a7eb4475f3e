package channels

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

const (
	maxSessions = 256  // of a kernel, those that wait for their clients included
	maxPending  = 4096 // requests of a kernel's clients of which an answer is expected

	// A kernel that dies so many times in a row, each time before it has lived so long, stays dead.
	maxDeaths = 5
	stable    = 10 * time.Second
)

// hub joins the clients of one kernel. What the kernel publishes it hears once and gives to each client's session.
type hub struct {
	*Channels
	context *executor.Context
	kernel  *kernel.Kernel
	deaf    func() // stops hearing the kernel

	mu       sync.Mutex
	sessions map[string]*session // by session_id, or one of our own
	pending  map[string]*request // by msg_id
	speaker  string              // the session of the kernel's process
	gone     bool                // the kernel was closed
}

// request is one of a client's, until its reply and its idle have come.
type request struct {
	with          <-chan struct{} // is closed with the kernel that it was sent to; nil: to none yet
	session       *session
	channel       wire.Channel
	kind          string
	header        []byte
	replied, idle bool
}

func newHub(c *Channels, context *executor.Context, k *kernel.Kernel) *hub {
	h := &hub{Channels: c, context: context, kernel: k, sessions: map[string]*session{}, pending: map[string]*request{}}
	h.deaf = k.Hear(h.hear)
	return h
}

// hear gives what the kernel publishes to all. It does not wait.
func (h *hub) hear(m wire.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.speaker = m.Session()
	if len(h.sessions) == 0 {
		return
	}
	if m.Type() == "status" && m.Get("execution_state").String() == "idle" {
		h.settleLocked(m.ParentID(), func(r *request) { r.idle = true })
	}
	h.broadcastLocked(newParcel(m))
}

func (h *hub) broadcastLocked(p *parcel) {
	for _, s := range h.sessions {
		s.push(p)
	}
}

// expect notes a request, of which the client hears whatever becomes of the kernel. It reports whether the kernel may be
// sent it: another with the msg_id may be under way, whose answers would be taken for this one's.
func (h *hub) expect(s *session, m *wire.Message) bool {
	if !strings.HasSuffix(m.Type(), "_request") {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	r := &request{session: s, channel: m.Channel, kind: m.Type(), header: m.Header}
	if h.pending[m.ID()] != nil {
		h.replyLocked(r, failed("RequestFailed", errTwice))
		return false
	}
	if len(h.pending) < maxPending {
		h.pending[m.ID()] = r
	}
	return true
}

var errTwice = errors.New("header.msg_id: a request with it is under way")

// failed is the content of a reply that says what is wrong.
func failed(name string, err error) map[string]any {
	return map[string]any{"status": "error", "ename": name, "evalue": err.Error(), "traceback": []string{name + ": " + err.Error()}}
}

func (h *hub) replyLocked(r *request, content map[string]any) {
	r.session.push(newParcel(compose(h.speaker, r.channel, strings.TrimSuffix(r.kind, "_request")+"_reply", r.header, content)))
}

// lose replies to the requests of a client whose sockets have failed, by which the kernel's own replies would have come. What
// it publishes comes all the same.
func (h *hub) lose(s *session, err error) {
	var death *wire.Death
	if errors.As(err, &death) {
		return // which ends all requests
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, r := range h.pending {
		if r.session != s || r.replied {
			continue
		}
		h.replyLocked(r, failed("RequestFailed", fmt.Errorf("the reply is lost: %w", err)))
		if r.replied = true; r.idle {
			delete(h.pending, id)
		}
	}
}

// replied notes the reply to a request.
func (h *hub) replied(m *wire.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.settleLocked(m.ParentID(), func(r *request) { r.replied = true })
}

func (h *hub) settleLocked(id string, note func(*request)) {
	if r := h.pending[id]; r != nil {
		if note(r); r.replied && r.idle {
			delete(h.pending, id)
		}
	}
}

// watch tells the clients what becomes of the kernel, and puts another in place of one that died, until it is closed.
func (h *hub) watch() {
	born, deaths := time.Now(), 0
	for death := range h.kernel.Lives() {
		if death == nil {
			born = time.Now()
			continue
		}
		if deaths++; time.Since(born) > stable {
			deaths = 1
		}
		h.died(death)
		if !death.Requested {
			h.revive(death, deaths)
		}
	}
	h.end()
}

// sends notes by which client a request is about to be sent.
func (h *hub) sends(id string, c *kernel.Client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.pending[id]; r != nil {
		r.with = c.Done()
	}
}

// died answers the requests that the kernel has left open, and not those that are for the next one, which can be there
// before this is known.
func (h *hub) died(death *wire.Death) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, r := range h.pending {
		select {
		case <-r.with:
			delete(h.pending, id)
			h.answerLocked(r, death)
		default:
		}
	}
}

// refuse answers a request that could not be sent.
func (h *hub) refuse(id string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.pending[id]; r != nil {
		delete(h.pending, id)
		h.answerLocked(r, err)
	}
}

// answerLocked ends a request that no kernel will answer any more: as aborted where that was asked for, else with
// the error, which cells show.
func (h *hub) answerLocked(r *request, err error) {
	reply := map[string]any{"status": "aborted"}
	var death *wire.Death
	if !errors.As(err, &death) || !death.Requested {
		name := "RequestFailed"
		if death != nil {
			name = "KernelDied"
		}
		reply = failed(name, err)
		if r.kind == "execute_request" && !r.replied {
			shown := maps.Clone(reply)
			delete(shown, "status")
			h.broadcastLocked(newParcel(compose(h.speaker, wire.IOPub, "error", r.header, shown)))
		}
	}
	if !r.replied {
		h.replyLocked(r, reply)
	}
	if !r.idle {
		h.broadcastLocked(newParcel(compose(h.speaker, wire.IOPub, "status", r.header, map[string]any{"execution_state": "idle"})))
	}
}

// revive tells that the kernel died and is being replaced, as Jupyter's servers do, or that it is not.
func (h *hub) revive(death *wire.Death, deaths int) {
	if deaths > maxDeaths {
		h.o.Log.Warn("kernel died too often and is not restarted", "context", h.context.ID(), "deaths", deaths, "error", death)
		h.tell("dead")
		return
	}
	h.mu.Lock()
	alone := len(h.sessions) == 0
	h.mu.Unlock()
	if alone {
		return // the next run, or client, revives it
	}
	h.tell("restarting")
	if err := h.context.Revive(); err != nil {
		h.o.Log.Warn("cannot replace a kernel that died", "context", h.context.ID(), "error", err)
		h.tell("dead")
	}
}

// tell publishes a state of the kernel that it cannot tell itself.
func (h *hub) tell(state string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.broadcastLocked(newParcel(compose(h.speaker, wire.IOPub, "status", nil, map[string]any{"execution_state": state})))
}

// end tells all clients that the kernel has ended for good, and cuts them.
func (h *hub) end() {
	h.deaf()
	h.tell("dead")
	h.mu.Lock()
	h.gone = true
	sessions := h.sessions
	h.sessions = map[string]*session{}
	h.mu.Unlock()
	for _, s := range sessions {
		s.end()
	}
}

// session returns the session of a client that is about to connect, which counts as connected.
func (h *hub) session(id string) (*session, error) {
	s, evicted, err := h.admit(id)
	if evicted != nil {
		evicted.end()
	}
	return s, err
}

// admit finds or makes a session; for a new one it may take out that whose client has been away for longest.
func (h *hub) admit(id string) (s, evicted *session, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gone {
		return nil, nil, fmt.Errorf("context %q: %w", h.context.ID(), agent.ErrNotFound)
	}
	if s := h.sessions[id]; s != nil && s.hold() {
		return s, nil, nil
	}
	if len(h.sessions) >= maxSessions {
		if evicted = h.longestAwayLocked(); evicted == nil {
			return nil, nil, api.Errorf(api.LimitReached, "the kernel has %d clients, which is the most", maxSessions)
		}
		delete(h.sessions, evicted.id)
	}
	s = newSession(h, id)
	h.sessions[s.id] = s
	return s, evicted, nil
}

// longestAwayLocked returns the session whose client has been away for longest; nil where all are there.
func (h *hub) longestAwayLocked() *session {
	var longest *session
	for _, s := range h.sessions {
		if since := s.away(); !since.IsZero() && (longest == nil || since.Before(longest.away())) {
			longest = s
		}
	}
	return longest
}

// connections counts the clients that are there.
func (h *hub) connections() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, s := range h.sessions {
		if s.away().IsZero() {
			n++
		}
	}
	return n
}

// forget takes a session out that has ended.
func (h *hub) forget(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sessions[s.id] == s {
		delete(h.sessions, s.id)
	}
	for id, r := range h.pending {
		if r.session == s {
			delete(h.pending, id)
		}
	}
}
