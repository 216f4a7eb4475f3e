// Package chaos starts sandboxes and ends them, their kernels and their clients at
// random points, and sees that the next run works and that nothing is left: no
// process, no socket, no file, no goroutine, no descriptor.
//
//	make chaos N=1000
//	go test ./chaos -v -kernels 40 -seed 7   # the same choices again
package chaos

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	kernels = flag.Int("kernels", 40, "how many kernels to start and kill, at least")
	seed    = flag.Uint64("seed", 0, "seed of the random choices; 0 takes the time")

	python = os.Getenv("K2_TEST_PYTHON") // an interpreter that has ipykernel
)

const (
	sandboxes = 4                // at the same time
	patience  = 2 * time.Minute  // with one sandbox: it hangs after that
	cleanup   = 30 * time.Second // that what was killed may take to go
)

func TestChaos(t *testing.T) {
	sow(t)
	program := build(t)
	place := t.TempDir()
	t.Setenv("TMPDIR", place)
	before := look(place)
	count := &tally{of: map[string]int{}}
	begin := time.Now()
	for n := uint64(0); count.get("kernels") < *kernels && !t.Failed(); n++ {
		var round sync.WaitGroup
		for i := range uint64(sandboxes) {
			b := newBox(t, n<<16|i<<8, program, count)
			round.Go(b.live)
		}
		round.Wait()
		before.expect(t)
	}
	t.Logf("%v, in %.0f s", count, time.Since(begin).Seconds())
}

// build builds the program whose processes are killed.
func build(t *testing.T) string {
	program := filepath.Join(t.TempDir(), "k2sandbox")
	cmd := exec.Command("go", "build", "-o", program, "../cmd/k2sandbox")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cannot build k2sandbox: %v\n%s", err, out)
	}
	return program
}

// dice returns the source of all random choices of one sandbox or context.
func dice(id uint64) *rand.Rand { return rand.New(rand.NewPCG(*seed, id)) }

// upTo returns a random time.
func upTo(rng *rand.Rand, d time.Duration) time.Duration { return time.Duration(rng.Int64N(int64(d))) }

// tally counts what happened.
type tally struct {
	mu sync.Mutex
	of map[string]int
}

func (c *tally) add(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of[what]++
}

func (c *tally) get(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.of[what]
}

func (c *tally) String() string {
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(c.of)) {
		parts = append(parts, fmt.Sprintf("%s %d", what, c.of[what]))
	}
	return strings.Join(parts, ", ")
}
