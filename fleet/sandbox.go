package fleet

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"sync"
	"time"
)

// Sandbox is a sandbox that has not ended when it was asked for. Its methods are safe
// for concurrent use, also after its end.
type Sandbox struct {
	fleet *Fleet
	id    string
	abort context.CancelFunc // ends the runtime's start

	machine   Machine    // nil until it has started; set once, as are the next three
	transport *transport // to its agent
	limits    Limits     // that hold
	isolation Isolation
	samples   samples

	turn    chan struct{} // is taken by what pauses, resumes or ends the machine
	hurry   chan struct{} // closed when its end is to wait for nothing
	hastens sync.Once
	ending  chan struct{} // closed from Ending on
	tried   chan struct{} // closed when the first try to end it is over; failed tells
	gone    chan struct{} // closed when it has ended
	failed  error         // of the first try; read after tried

	// Below is under the fleet's mutex.
	record   record
	state    State
	requests int       // in flight
	active   time.Time // when the last one ended
	pausedAt time.Time
	away     chan struct{} // see Away
	timer    *time.Timer   // of the inactivity
}

// Info tells about a sandbox.
type Info struct {
	ID       string
	Owner    string
	Template string
	Cwd      string // where code starts
	Metadata map[string]string
	State    State

	CreatedAt    time.Time     // UTC, as all times here
	LastActiveAt time.Time     // when a request last ended, or now where one is in flight
	ExpiresAt    time.Time     // when it will be over where nothing happens in it
	Timeout      time.Duration // of inactivity; of one with a term, how long that is
	Term         bool          // it ends at ExpiresAt, whatever happens
	AutoPause    bool
	Labels       map[string]string

	Limits    Limits
	Network   Network
	Isolation Isolation

	Reason  Reason    // of its end, from Ending on
	EndedAt time.Time // likewise
}

func newSandbox(f *Fleet, rec record) *Sandbox {
	s := &Sandbox{
		fleet: f, id: rec.ID, abort: func() {}, record: rec, state: Creating, active: time.Now(), limits: rec.Limits,
		turn: make(chan struct{}, 1), hurry: make(chan struct{}), ending: make(chan struct{}), tried: make(chan struct{}), gone: make(chan struct{}), away: make(chan struct{}),
	}
	s.timer = time.AfterFunc(time.Hour, func() { f.due(s) })
	s.timer.Stop()
	return s
}

// take gives the sandbox the machine that it lives in, and its term if it gets one now. It returns its record.
func (s *Sandbox) take(m Machine, term time.Duration) record {
	limits, isolation, rec := m.Limits(), m.Isolation(), m.Record()
	s.fleet.mu.Lock()
	defer s.fleet.mu.Unlock()
	s.machine, s.limits, s.isolation, s.record.Machine = m, limits, isolation, rec
	s.transport = newTransport(m.Dial)
	if term > 0 {
		s.record.EndsAt = utc(time.Now().Add(term))
	}
	return s.record
}

// ID returns the sandbox's id.
func (s *Sandbox) ID() string { return s.id }

// Info tells about the sandbox.
func (s *Sandbox) Info() Info {
	s.fleet.mu.Lock()
	defer s.fleet.mu.Unlock()
	return s.info()
}

// Transport sends requests to the agent, whatever host their URL names. What it answers is hostile. It follows no
// redirects, unpacks nothing and takes 64 KiB of headers; bodies and times are the
// caller's to bound.
func (s *Sandbox) Transport() http.RoundTripper { return s.transport }

// Gone waits until the sandbox begins to end, and returns its *GoneError; nil where ctx is
// over before. It tells a failed request whether the sandbox's end was the cause.
func (s *Sandbox) Gone(ctx context.Context) error {
	select {
	case <-s.ending:
	default:
		select {
		case <-s.ending:
		case <-ctx.Done():
			return nil
		}
	}
	s.fleet.mu.Lock()
	defer s.fleet.mu.Unlock()
	return s.record.gone()
}

// Away is closed when the sandbox is paused, or begins to end: then it answers nothing any more. After
// Resume there is a new one.
func (s *Sandbox) Away() <-chan struct{} {
	s.fleet.mu.Lock()
	defer s.fleet.mu.Unlock()
	return s.away
}

// Done is closed when nothing is left of the sandbox.
func (s *Sandbox) Done() <-chan struct{} { return s.gone }

// Get tells about a sandbox that has not ended. Errors are ErrNotFound, and a
// *GoneError of one that has, for Options.Keep.
func (f *Fleet) Get(id string) (Info, error) {
	s, err := f.find(id)
	if err != nil {
		return Info{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.state == Ended { // since it was found
		return Info{}, s.record.gone()
	}
	return s.info(), nil
}

// Use returns a running sandbox for one request, which counts as activity until release
// is called; that may be done more than once. Errors are those of Get, a *GoneError
// of a sandbox that is ending, ErrPaused, and ErrState of one that is being created.
func (f *Fleet) Use(id string) (release func(), s *Sandbox, err error) {
	if s, err = f.find(id); err != nil {
		return nil, nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := s.usable(); err != nil {
		return nil, nil, err
	}
	s.requests++
	var once sync.Once
	return func() { once.Do(s.release) }, s, nil
}

// Look is Use for a question to the agent that is no activity.
func (f *Fleet) Look(id string) (*Sandbox, error) {
	s, err := f.find(id)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return s, s.usable()
}

// InUse lists the sandboxes with requests in flight, also those that were left to another process.
func (f *Fleet) InUse() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	ids := []string{}
	for id, s := range f.sandboxes {
		if s.requests > 0 {
			ids = append(ids, id)
		}
	}
	return ids
}

func (s *Sandbox) usable() error {
	switch s.state {
	case Running:
		return nil
	case Paused:
		return ErrPaused
	case Creating:
		return errCreating
	}
	return s.record.gone()
}

func (s *Sandbox) release() {
	s.fleet.mu.Lock()
	defer s.fleet.mu.Unlock()
	s.requests--
	s.active = time.Now()
}

// asked reports whether requests to the agent are in flight.
func (s *Sandbox) asked() bool {
	s.fleet.mu.Lock()
	defer s.fleet.mu.Unlock()
	return s.requests > 0
}

// AccessToken returns the token that opens a sandbox alone. It is made of its id and
// of a secret that the registry has.
func (f *Fleet) AccessToken(id string) string { return "sbt_" + f.sign(id) }

// TrafficToken returns a token for those who are to reach the servers in a sandbox, and not all of it.
func (f *Fleet) TrafficToken(id string) string { return "sbp_" + f.sign("traffic "+id) }

func (f *Fleet) sign(text string) string {
	mac := hmac.New(sha256.New, f.registry.secret)
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil))
}

// Token reports whether a token is the access token of a sandbox, which may have ended.
func (f *Fleet) Token(id, token string) bool {
	if !hmac.Equal([]byte(token), []byte(f.AccessToken(id))) {
		return false
	}
	f.mu.Lock()
	known := f.sandboxes[id] != nil
	f.mu.Unlock()
	if !known {
		_, err := f.registry.get(id)
		known = err == nil
	}
	return known
}

// info is Info under the fleet's mutex.
func (s *Sandbox) info() Info {
	info := s.record.info()
	info.State, info.Limits, info.Isolation = s.state, s.limits, s.isolation
	info.LastActiveAt = utc(s.active)
	if s.requests > 0 {
		info.LastActiveAt = utc(time.Now())
	}
	if s.state == Running || s.state == Paused {
		info.ExpiresAt = utc(s.deadline())
	}
	return info
}

func (r record) info() Info {
	return Info{
		ID: r.ID, Owner: r.Owner, Template: r.Template, Cwd: r.Cwd, Metadata: r.Metadata, State: Ended,
		CreatedAt: r.CreatedAt, Timeout: r.Timeout, Term: !r.EndsAt.IsZero(), AutoPause: r.AutoPause, Labels: r.Labels, Limits: r.Limits, Network: r.Network,
		Reason: r.Reason, EndedAt: r.EndedAt,
	}
}

func (r record) gone() error {
	return &GoneError{ID: r.ID, Owner: r.Owner, Reason: r.Reason, At: r.EndedAt}
}

func utc(t time.Time) time.Time { return t.Round(0).UTC() }
