package local_test

import (
	"fmt"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/fleet/local"
)

// BenchmarkStart starts and kills sandboxes whose agent does nothing, in turn with a program that
// does nothing: those that have waited to be started, and, with a limit that nobody has asked for before, others.
// It reports medians and the least.
func BenchmarkStart(b *testing.B) {
	r, err := local.New(b.Context(), local.Options{Dir: b.TempDir(), Program: program, Level: "namespace"})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	kinds := []string{"waited", "fresh"}
	var bare, kills []time.Duration
	starts := map[string][]time.Duration{}
	for i := 0; b.Loop(); i++ {
		kind, limits := kinds[i%2], fleet.Limits{}
		if kind == "fresh" {
			limits.Files = int64(5000 + i)
		}
		before := time.Now()
		if err := exec.Command("/bin/true").Run(); err != nil {
			b.Fatal(err)
		}
		bare = append(bare, time.Since(before))
		before = time.Now()
		m, err := r.Start(b.Context(), fleet.Spec{ID: fmt.Sprintf("sb_%d", i), Limits: limits})
		if err != nil {
			b.Fatal(err)
		}
		starts[kind] = append(starts[kind], time.Since(before))
		before = time.Now()
		if err := m.Kill(); err != nil {
			b.Fatal(err)
		}
		kills = append(kills, time.Since(before))
	}
	for name, all := range map[string][]time.Duration{"true": bare, "waited": starts["waited"], "fresh": starts["fresh"], "kill": kills} {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "ms/"+name)
		b.ReportMetric(float64(all[0].Microseconds())/1000, "min-ms/"+name)
	}
}
