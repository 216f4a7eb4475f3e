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
// does nothing. It reports medians.
func BenchmarkStart(b *testing.B) {
	r, err := local.New(b.Context(), local.Options{Dir: b.TempDir(), Program: program, Level: "namespace"})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	networks := []string{"full", "none"}
	var bare, kills []time.Duration
	starts := map[string][]time.Duration{}
	for i := 0; b.Loop(); i++ {
		mode := networks[i%2]
		before := time.Now()
		if err := exec.Command("/bin/true").Run(); err != nil {
			b.Fatal(err)
		}
		bare = append(bare, time.Since(before))
		before = time.Now()
		m, err := r.Start(b.Context(), fleet.Spec{ID: fmt.Sprintf("sb_%d", i), Network: fleet.Network{Mode: mode}})
		if err != nil {
			b.Fatal(err)
		}
		starts[mode] = append(starts[mode], time.Since(before))
		before = time.Now()
		if err := m.Kill(); err != nil {
			b.Fatal(err)
		}
		kills = append(kills, time.Since(before))
	}
	for name, all := range map[string][]time.Duration{"true": bare, "full": starts["full"], "none": starts["none"], "kill": kills} {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "ms/"+name)
		b.ReportMetric(float64(all[0].Microseconds())/1000, "min-ms/"+name)
	}
}
