package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
)

// SetNetwork has a sandbox reach something else from now on. Errors are those of Get, a *GoneError of a sandbox that is
// ending, ErrState of one that is being created, a *api.Error for what makes no sense, and the runtime's, such as ErrUnsupported.
func (f *Fleet) SetNetwork(ctx context.Context, id string, n Network) (Info, error) {
	asked := api.NetworkRequest{Mode: api.NetworkMode(n.Mode), Allow: n.Allow}
	if err := asked.Validate(); err != nil {
		return Info{}, err
	}
	if n.Mode = string(asked.Chosen()); n.Mode == "" {
		return Info{}, api.Invalid("mode", "expected one of %q", api.NetworkModes)
	}
	s, release, err := f.turnAt(ctx, id)
	if err != nil {
		return Info{}, err
	}
	defer release()
	m, _, err := s.measurable()
	if err != nil {
		return Info{}, err
	}
	networked, ok := m.(Networked)
	if !ok {
		return Info{}, fmt.Errorf("cannot change the network: %w", ErrUnsupported)
	}
	if err := networked.SetNetwork(n); err != nil {
		return Info{}, fmt.Errorf("cannot change the network: %w", err)
	}
	f.mu.Lock()
	s.record.Network, s.record.Machine = n, m.Record()
	info, written := s.info(), f.registry.put(s.record)
	f.mu.Unlock()
	return info, <-written
}

// refusals are what a sandbox's network refuses, on the way into its timeline: some at a time, so that code inside cannot
// fill it.
type refusals struct {
	s      *Sandbox
	all    <-chan Refusal
	come   <-chan Refusal // all, while they are listened to
	rested <-chan time.Time
}

const (
	refusalsPath = "/v1/refusals" // POST with api.Refusals
	refusalRest  = time.Second    // from one of these to the next
)

func newRefusals(s *Sandbox) *refusals {
	r := &refusals{s: s}
	if m, ok := s.machine.(Networked); ok {
		r.all = m.Refusals()
	}
	r.listen()
	return r
}

func (r *refusals) listen() { r.come, r.rested = r.all, nil }

// tell tells the agent of refusals: the first, and what else has come. Then it rests.
func (r *refusals) tell(first Refusal) {
	told := api.Refusals{}
	for next, more := first, true; more; {
		told.Add(next)
		select {
		case next = <-r.all:
		default:
			more = false
		}
	}
	r.come, r.rested = nil, time.After(refusalRest)
	body, err := json.Marshal(told)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	go func() {
		defer cancel()
		select {
		case <-r.s.machine.Done():
		case <-r.s.gone:
		case <-r.s.fleet.quit:
		case <-ctx.Done():
		}
	}()
	if _, err := r.s.send(ctx, http.MethodPost, refusalsPath, bytes.NewReader(body)); err != nil {
		r.s.fleet.o.Log.Debug("cannot tell a sandbox what it was refused", "sandbox", r.s.id, "error", err)
	}
}
