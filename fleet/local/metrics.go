package local

import (
	"sync/atomic"

	"github.com/k2sandbox/k2sandbox/fleet"
)

// counts is what is counted of starts.
type counts struct{ waited, fresh, forked, cold atomic.Int64 }

// kernel counts the first kernel of a sandbox.
func (c *counts) kernel(forked bool) {
	if forked {
		c.forked.Add(1)
	} else {
		c.cold.Add(1)
	}
}

// Metrics tells what there is to know of how sandboxes start here.
func (r *Runtime) Metrics() []fleet.Metric {
	running, waiting := r.starts.load()
	all := []fleet.Metric{
		gauge("starts_running", "Sandboxes that are starting, as many at a time as this machine is good for.", running),
		gauge("starts_waiting", "Starts that wait for their turn, in which API keys follow one another.", waiting),
		{Name: "starts_total", Help: "Sandboxes that were started, by whether their process had been waiting or was made for them.", Counter: true, Label: "process",
			Values: map[string]float64{"spare": float64(r.counts.waited.Load()), "new": float64(r.counts.fresh.Load())}},
		{Name: "first_kernels_total", Help: "First kernels of sandboxes, by whether they were forked from a zygote or started cold.", Counter: true, Label: "start",
			Values: map[string]float64{"forked": float64(r.counts.forked.Load()), "cold": float64(r.counts.cold.Load())}},
	}
	if r.spares != nil {
		ready, wanted := r.spares.load()
		all = append(all, gauge("spares", "Processes that wait to be somebody's sandbox.", ready), gauge("spares_wanted", "Processes that are to wait.", wanted))
	}
	if z := r.zygote; z != nil {
		up := 0
		if z.up.Load() {
			up = 1
		}
		all = append(all,
			gauge("zygote_up", "Whether the process runs that Python's kernels are forked from.", up),
			fleet.Metric{Name: "zygote_starts_total", Help: "Times that this process was started; more than one is a death.", Counter: true, Values: map[string]float64{"": float64(z.starts.Load())}},
			fleet.Metric{Name: "zygote_forks_total", Help: "Forks into sandboxes; kernels of those where one failed start cold.", Counter: true, Label: "outcome",
				Values: map[string]float64{"ok": float64(z.forked.Load()), "failed": float64(z.refused.Load())}})
	}
	return append(all, r.imageMetrics()...)
}

// imageMetrics tells what the store of images has; nothing where that cannot be read.
func (r *Runtime) imageMetrics() []fleet.Metric {
	if r.options.Store == nil {
		return nil
	}
	templates, err := r.options.Store.List()
	if err != nil {
		return nil
	}
	layers := map[string]bool{}
	for _, t := range templates {
		for _, l := range t.Layers {
			layers[l.DiffID] = true
		}
	}
	return []fleet.Metric{
		gauge("templates", "Templates of images in the store.", len(templates)),
		gauge("template_layers", "Layers of these, of which each is there once.", len(layers)),
	}
}

func gauge(name, help string, n int) fleet.Metric {
	return fleet.Metric{Name: name, Help: help, Values: map[string]float64{"": float64(n)}}
}

// load tells how many wait, and how many are to.
func (s *spares) load() (ready, wanted int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ready), len(s.asked)
}
