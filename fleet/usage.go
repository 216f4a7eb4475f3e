package fleet

import (
	"slices"
	"sync"
	"time"
)

// A sandbox is measured every 5 s while something happens in it, and else every minute, so that idle ones cost
// nothing; and when somebody asks.
const (
	sampleEvery = 5 * time.Second
	idleRounds  = 12          // of sampleEvery, from one sample of an idle sandbox to the next
	idleCPUs    = 0.01        // cores that an idle sandbox uses at most
	sampleFresh = time.Second // a sample that is no older is taken for one of now
	maxSamples  = 720         // of a sandbox, the newest
)

// Sample is what a sandbox used at a time.
type Sample struct {
	At time.Time // UTC
	Usage
	CPUs float64 // cores in use, on average since the sample before or the start; negative where that is not known
}

// samples are those of one sandbox.
type samples struct {
	mu    sync.Mutex
	all   []Sample // ascending
	rest  int      // rounds until the next one of an idle sandbox
	quiet bool     // it was idle at the last one
}

// History tells what a sandbox has used after a time, the newest sample last, which is one of now. At most the newest
// 720 are kept, and lost with the fleet. It is no activity. Errors are those of Get, ErrState of a
// sandbox that is being created, and the runtime's.
func (f *Fleet) History(id string, since time.Time) ([]Sample, error) {
	s, err := f.measured(id)
	if err != nil {
		return nil, err
	}
	return s.samples.after(since), nil
}

// Usage tells what a sandbox uses now, as the newest sample of History.
func (f *Fleet) Usage(id string) (Sample, error) {
	s, err := f.measured(id)
	if err != nil {
		return Sample{}, err
	}
	return s.samples.newest(), nil
}

// measured returns a sandbox that has a sample of now.
func (f *Fleet) measured(id string) (*Sandbox, error) {
	s, err := f.find(id)
	if err != nil {
		return nil, err
	}
	m, _, err := s.measurable()
	if err != nil {
		return nil, err
	}
	return s, s.samples.take(m, s.Info().CreatedAt, sampleFresh)
}

// measurable returns the machine of a sandbox that is not ending, and whether a client uses it.
func (s *Sandbox) measurable() (m Machine, used bool, err error) {
	s.fleet.mu.Lock()
	defer s.fleet.mu.Unlock()
	if err := s.usable(); err != nil && s.state != Paused {
		return nil, false, err
	}
	return s.machine, s.requests > 0 || time.Since(s.active) < sampleEvery, nil
}

// sample measures sandboxes until the fleet is closed.
func (f *Fleet) sample() {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		select {
		case <-f.quit:
			return
		case <-tick.C:
		}
		for _, s := range f.all() {
			f.round(s)
		}
	}
}

// all returns the sandboxes that there are.
func (f *Fleet) all() []*Sandbox {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]*Sandbox, 0, len(f.sandboxes))
	for _, s := range f.sandboxes {
		all = append(all, s)
	}
	return all
}

// round measures the sandbox where it is its turn.
func (f *Fleet) round(s *Sandbox) {
	m, used, err := s.measurable()
	if err != nil || !s.samples.due(used) {
		return
	}
	if err := s.samples.take(m, s.Info().CreatedAt, 0); err != nil {
		f.o.Log.Debug("cannot measure sandbox", "sandbox", s.id, "error", err)
	}
}

// due is asked once a round.
func (h *samples) due(used bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rest--
	if !used && h.quiet && h.rest > 0 {
		return false
	}
	h.rest = idleRounds
	return true
}

// take takes a sample, unless there is one that is fresh.
func (h *samples) take(m Machine, began time.Time, fresh time.Duration) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := Sample{At: began}
	if n := len(h.all); n > 0 {
		before = h.all[n-1]
	}
	now := utc(time.Now())
	took := now.Sub(before.At)
	if len(h.all) > 0 && took <= fresh && took >= 0 {
		return nil
	}
	u, err := m.Usage()
	if err != nil {
		return err
	}
	next := Sample{At: now, Usage: u, CPUs: -1}
	if u.CPU >= 0 && before.CPU >= 0 && took > 0 {
		next.CPUs = max(0, (u.CPU-before.CPU).Seconds()/took.Seconds())
	}
	if len(h.all) == maxSamples {
		h.all = slices.Delete(h.all, 0, 1)
	}
	h.all, h.quiet = append(h.all, next), next.CPUs <= idleCPUs
	return nil
}

// after returns the samples that were taken after a time.
func (h *samples) after(since time.Time) []Sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	first := slices.IndexFunc(h.all, func(s Sample) bool { return s.At.After(since) })
	if first < 0 {
		return nil
	}
	return slices.Clone(h.all[first:])
}

func (h *samples) newest() Sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.all[len(h.all)-1]
}
