package channels

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tidwall/gjson"

	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// session is one client of a kernel over all its WebSockets, of which one at a time has it: the client's own sockets
// at the kernel, and the messages that wait to be sent to it. Those wait for a while when the client has left, if it has
// given a session_id to come back with.
type session struct {
	hub   *hub
	id    string
	named bool          // the id is the client's
	ready chan struct{} // holds a token where there is something to send, or to notice

	joining sync.Mutex // held while the client joins the kernel

	mu      sync.Mutex
	client  *kernel.Client // nil until the first request; it may have ended
	queue   []*parcel
	bytes   int64
	owner   *socket                        // nil: no client is there
	left    time.Time                      // when the last went; zero while one is there, or about to be
	expiry  *time.Timer                    // runs while none is there
	runs    map[string]*executor.Execution // of the client's, that have not ended, by msg_id
	asking  string                         // the msg_id of the one that last asked on stdin
	expired bool                           // it ends with the last of them
	over    bool
}

// newSession returns the session of a client that is about to connect.
func newSession(h *hub, id string) *session {
	s := &session{hub: h, id: id, named: id != "", ready: make(chan struct{}, 1), runs: map[string]*executor.Execution{}}
	if !s.named {
		s.id = wire.NewID()
	}
	return s
}

// hold keeps the session for a client that is about to connect; false where it has ended.
func (s *session) hold() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.expiry != nil {
		s.expiry.Stop()
	}
	s.left, s.expired = time.Time{}, false
	return !s.over
}

// attach gives the session to a socket, once the one that had it has let go.
func (s *session) attach(k *socket) {
	s.mu.Lock()
	before := s.owner
	s.owner, s.left, s.expired = k, time.Time{}, false
	if s.expiry != nil {
		s.expiry.Stop()
	}
	s.mu.Unlock()
	if before != nil {
		before.cut(closeReplaced, "another connection has this session_id now")
		<-before.stopped
	}
	s.signal()
}

// detach takes it back from a socket whose client is gone.
func (s *session) detach(k *socket) {
	s.mu.Lock()
	if s.owner != k {
		s.mu.Unlock()
		return
	}
	s.owner = nil
	s.mu.Unlock()
	s.release()
}

// release lets the session wait for its client, unless another is there.
func (s *session) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner != nil || s.over {
		return
	}
	s.left = time.Now()
	linger := s.hub.Bounds.Linger
	if !s.named {
		s.queue, s.bytes, linger = nil, 0, 0
	}
	s.trimLocked(s.hub.Bounds.Replay)
	s.expiry = time.AfterFunc(linger, s.expire)
}

// expire ends the session, but not before its runs, whose replies come to it.
func (s *session) expire() {
	s.mu.Lock()
	if s.left.IsZero() { // a client has come back
		s.mu.Unlock()
		return
	}
	s.expired = true
	last := len(s.runs) == 0
	s.mu.Unlock()
	if last {
		s.end()
	}
}

// end ends the session: its client is sent what waits, and is cut.
func (s *session) end() {
	s.mu.Lock()
	s.over = true
	if s.expiry != nil {
		s.expiry.Stop()
	}
	client, owner := s.client, s.owner
	s.mu.Unlock()
	if client != nil {
		client.Close()
	}
	s.hub.forget(s)
	s.signal()
	if owner != nil {
		owner.hurry()
	}
}

func (s *session) away() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.left
}

func (s *session) signal() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// push puts a message behind those that wait. It does not wait itself: a client that leaves too many is cut, and finds
// the newest when it comes back.
func (s *session) push(p *parcel) {
	s.mu.Lock()
	away := s.owner == nil && !s.left.IsZero()
	if s.over || away && !s.named {
		s.mu.Unlock()
		return
	}
	s.queue = append(s.queue, p)
	s.bytes += p.size()
	var slow *socket
	switch {
	case away:
		s.trimLocked(s.hub.Bounds.Replay)
	case s.bytes > s.hub.Bounds.Queue && len(s.queue) > 1:
		s.trimLocked(s.hub.Bounds.Replay)
		slow = s.owner
	}
	first := len(s.queue) == 1
	s.mu.Unlock()
	if slow != nil {
		slow.cut(closeSlow, "messages were lost, as they were read too slowly")
	}
	if first {
		s.signal()
	}
}

// trimLocked drops the oldest messages over a limit, but never the newest.
func (s *session) trimLocked(limit int64) {
	n := 0
	for ; s.bytes > limit && n < len(s.queue)-1; n++ {
		s.bytes -= s.queue[n].size()
	}
	clear(s.queue[:n])
	s.queue = s.queue[n:]
}

// next takes the first message out, for the socket that has the session. It returns nil where there is none, and over when
// there will be none any more.
func (s *session) next(k *socket) (p *parcel, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner != k || len(s.queue) == 0 {
		return nil, s.over
	}
	p = s.queue[0]
	s.queue[0] = nil
	s.queue = s.queue[1:]
	s.bytes -= p.size()
	return p, false
}

// putBack puts a message in front that could not be sent.
func (s *session) putBack(p *parcel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append([]*parcel{p}, s.queue...)
	s.bytes += p.size()
}

// send passes a message of the client on to the kernel. Where there is none to take it, the client gets the answer.
func (s *session) send(ctx context.Context, m *wire.Message) {
	s.hub.box.Touch()
	if !s.hub.expect(s, m) {
		return
	}
	client, err := s.join(ctx)
	if err == nil {
		err = s.submit(ctx, client, m)
	}
	if err != nil {
		s.hub.refuse(m.ID(), err)
	}
}

// submit sends a message by the client's sockets. Where one fails all end, with what the kernel may yet have answered by them:
// the next message takes others.
func (s *session) submit(ctx context.Context, client *kernel.Client, m *wire.Message) error {
	sent := make(chan error, 1)
	if err := s.observe(ctx, client, m, sent); err != nil {
		return err
	}
	s.answered(m) // first: the run may ask again as soon as it has the answer
	s.hub.sends(m.ID(), client)
	err := client.Send(ctx, m)
	sent <- err
	if err != nil && ctx.Err() == nil { // else nothing was sent
		client.Close()
		s.hub.lose(s, err)
	}
	return err
}

// join returns the client's place at the kernel, a new one after a restart. A kernel that is dead is replaced.
func (s *session) join(ctx context.Context) (*kernel.Client, error) {
	s.joining.Lock()
	defer s.joining.Unlock()
	if s.client != nil {
		select {
		case <-s.client.Done():
		default:
			return s.client, nil
		}
	}
	client, err := s.hub.kernel.Join(ctx, s.take)
	var death *wire.Death
	if errors.As(err, &death) {
		if err = s.hub.context.Revive(); err == nil {
			client, err = s.hub.kernel.Join(ctx, s.take)
		}
	}
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.client = client
	over := s.over
	s.mu.Unlock()
	if over {
		client.Close()
	}
	return client, nil
}

// take takes what the kernel says to this client alone.
func (s *session) take(m wire.Message) {
	if m.Channel == wire.Stdin {
		s.mu.Lock()
		s.asking = m.ParentID()
		s.mu.Unlock()
	} else {
		s.hub.replied(&m)
	}
	s.push(newParcel(m))
}

// observe has a run of the client's kept like all others. In a subshell it is not one of the kernel's turns, and is not.
// The error says why the kernel is not to be sent it.
func (s *session) observe(ctx context.Context, client *kernel.Client, m *wire.Message, sent <-chan error) error {
	if m.Channel != wire.Shell || m.Type() != "execute_request" || gjson.GetBytes(m.Header, "subshell_id").String() != "" {
		return nil
	}
	messages, err := client.Follow(ctx, m.ID(), sent)
	if err != nil {
		return err
	}
	e, err := s.hub.box.Observe(s.hub.context, executor.Request{ID: m.ID(), Messages: messages, Flush: client.Flush}, cellOf(m))
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.runs[m.ID()] = e
	s.mu.Unlock()
	go func() { // ends with the run
		<-e.Done()
		s.mu.Lock()
		delete(s.runs, m.ID())
		last := s.expired && len(s.runs) == 0
		s.mu.Unlock()
		if last {
			s.end()
		}
	}()
	return nil
}

// answered tells the run that waited for an answer on stdin of it.
func (s *session) answered(m *wire.Message) {
	if m.Channel != wire.Stdin {
		return
	}
	s.mu.Lock()
	e := s.runs[s.asking]
	s.mu.Unlock()
	if e != nil {
		e.Answered()
	}
}

func cellOf(m *wire.Message) executor.Cell {
	history, stdin := m.Get("store_history"), m.Get("allow_stdin")
	return executor.Cell{
		Code: m.Get("code").String(), Silent: m.Get("silent").Bool(),
		NoHistory: history.Exists() && !history.Bool(), AllowStdin: !stdin.Exists() || stdin.Bool(),
	}
}
