package fleet

import (
	"errors"
	"slices"
	"sync"
	"time"
)

// Stats counts what has happened since Open, but for Live.
type Stats struct {
	Live          map[State]int    // sandboxes there are now
	Created       int64            // as many as CreateSeconds counts
	Failed        int64            // creates, but for those over a limit
	Refused       map[string]int64 // creates over a limit, by LimitError.Limit
	Ends          map[Reason]int64 // sandboxes that have ended
	CreateSeconds Histogram
}

// Histogram counts durations in seconds.
type Histogram struct {
	Bounds []float64 // upper bounds, ascending
	Counts []int64   // of durations up to each bound, each with all below
	Count  int64
	Sum    float64
}

// NewHistogram returns one that has counted nothing yet.
func NewHistogram(bounds ...float64) Histogram {
	return Histogram{Bounds: bounds, Counts: make([]int64, len(bounds))}
}

// Observe counts a duration. It is not safe for concurrent use.
func (h *Histogram) Observe(took time.Duration) {
	seconds := took.Seconds()
	for i, bound := range h.Bounds {
		if seconds <= bound {
			h.Counts[i]++
		}
	}
	h.Count++
	h.Sum += seconds
}

var createBounds = []float64{0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30}

// counts is what Stats counts.
type counts struct {
	mu      sync.Mutex
	failed  int64
	refused map[string]int64
	ends    map[Reason]int64
	create  Histogram
}

func newCounts() *counts {
	return &counts{refused: map[string]int64{}, ends: map[Reason]int64{}, create: NewHistogram(createBounds...)}
}

func (c *counts) created(took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.create.Observe(took)
}

func (c *counts) fail() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed++
}

// refuse counts what a limit refuses; other errors are none of its.
func (c *counts) refuse(err error) {
	var limit *LimitError
	if !errors.As(err, &limit) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused[limit.Limit]++
}

func (c *counts) end(r Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ends[r]++
}

// Stats tells the fleet's counts. All states and reasons are in it.
func (f *Fleet) Stats() Stats {
	stats := Stats{Live: map[State]int{Creating: 0, Running: 0, Paused: 0, Ending: 0}, Refused: map[string]int64{}, Ends: map[Reason]int64{}}
	f.mu.Lock()
	for _, s := range f.sandboxes {
		stats.Live[s.state]++
	}
	f.mu.Unlock()
	f.counts.mu.Lock()
	defer f.counts.mu.Unlock()
	for _, r := range Reasons {
		stats.Ends[r] = f.counts.ends[r]
	}
	for _, limit := range limits {
		stats.Refused[limit] = f.counts.refused[limit]
	}
	stats.Created, stats.Failed, stats.CreateSeconds = f.counts.create.Count, f.counts.failed, f.counts.create
	stats.CreateSeconds.Counts = slices.Clone(stats.CreateSeconds.Counts)
	return stats
}

// Metric is something that a Runtime counts or measures, for an operator.
type Metric struct {
	Name    string // as Prometheus wants it, without the program's name: "spares", "starts_total"
	Help    string // a sentence
	Counter bool   // it only grows, from the Runtime's beginning on; else it is a gauge
	Label   string // "" where there is one value, whose key is ""
	Values  map[string]float64
}

// Metrics returns what the runtime tells of itself, where it is one that has
//
//	Metrics() []Metric
func (f *Fleet) Metrics() []Metric {
	if r, ok := f.o.Runtime.(interface{ Metrics() []Metric }); ok {
		return r.Metrics()
	}
	return nil
}
