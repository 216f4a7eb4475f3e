package fleet

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// Sandboxes outlive their server, so that the next one takes them back. Where none comes each ends itself: its agent has a
// lease, which lasts for Options.Lease past the time at which the sandbox would be over anyway. It is renewed by every
// request, which the agent sees itself, told anew where that time changes, and told again and again where nobody asks
// anything. An agent that was taken over can withstand that.

const (
	leasePath    = "/v1/lease" // POST with ?seconds=
	leaseRounds  = 4           // in Options.Lease
	leaseRound   = 15 * time.Minute
	leasesAtOnce = 64
)

// lease is that of a sandbox that would be over in so long.
func (f *Fleet) lease(left time.Duration) time.Duration {
	if f.o.Lease == 0 {
		return 0
	}
	return max(left, 0) + f.o.Lease
}

// renew renews all leases, now and then, until the fleet is closed.
func (f *Fleet) renew() {
	tick := time.NewTicker(max(min(f.o.Lease/leaseRounds, leaseRound), time.Millisecond))
	defer tick.Stop()
	for {
		f.renewAll()
		select {
		case <-f.quit:
			return
		case <-tick.C:
		}
	}
}

func (f *Fleet) renewAll() {
	places := make(chan struct{}, leasesAtOnce)
	for _, s := range f.all() {
		select {
		case places <- struct{}{}:
		case <-f.quit:
			return
		}
		f.work.Go(func() {
			defer func() { <-places }()
			s.renew()
		})
	}
}

// moved has the lease follow the time at which the sandbox is over, where that is not what the agent was told. The fleet's mutex
// is held.
func (s *Sandbox) moved() {
	if f := s.fleet; f.o.Lease > 0 && !f.closed {
		f.work.Go(s.renew)
	}
}

// renew renews the lease of a sandbox that runs.
func (s *Sandbox) renew() {
	s.fleet.mu.Lock()
	running, left := s.state == Running, time.Until(s.deadline())
	s.fleet.mu.Unlock()
	if !running {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	if _, err := s.call(ctx, http.MethodPost, fmt.Sprintf("%s?seconds=%.3f", leasePath, s.fleet.lease(left).Seconds())); err != nil {
		s.fleet.o.Log.Debug("cannot renew the lease of a sandbox", "sandbox", s.id, "error", err)
	}
}
