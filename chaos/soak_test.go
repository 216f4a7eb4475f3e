//go:build soak

package chaos

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var (
	lasts = flag.Duration("lasts", 2*time.Hour, "how long the soak lasts")
	grows = flag.Float64("grows", 64, "MiB an hour by which the memory of a server may grow, at most")
)

// TestSoak has clients do all that TestFleet's do, for long, and says what became of it in a table. The server is killed
// in the first part of the time, upgraded in the middle, and left alone in the last part, in which its memory stays what it is.
//
//	make soak DURATION=2h CLIENTS=20 SOAKED=2000
func TestSoak(t *testing.T) {
	sow(t)
	s := newService(t, build(t))
	s.strict = true
	count := &tally{of: map[string]int{}}
	s.start("keep")
	s.warm()
	fresh := s.settled()
	maps.Copy(fresh, s.goroutines())

	begin := time.Now()
	ctx, cancel := context.WithDeadline(t.Context(), begin.Add(*lasts+patience))
	defer cancel()
	f := &crowd{t: t, service: s, count: count}
	watch := &memories{service: s, begin: begin}
	var around sync.WaitGroup
	over, end := context.WithCancel(ctx)
	around.Go(func() { watch.keep(over) })
	around.Go(func() { f.disturb(over, begin) })
	f.soak(ctx, begin)
	end()
	around.Wait()
	took := time.Since(begin)

	s.endAll()
	s.warm()
	s.expect(fresh)
	for _, more := range s.goroutines().more(fresh) {
		t.Errorf("the server has more than at its start: %s", more)
	}
	s.stop()
	s.start("end")
	f.leave(3)
	s.stop()
	s.expectNothing()
	fmt.Print(report(t, count, watch, took))
}

// soak has the clients create all sandboxes, evenly over the time, each of which lives until its client's next one.
func (c *crowd) soak(ctx context.Context, begin time.Time) {
	each := *lasts / time.Duration(max(1, *many)) // from one create to the next
	var work sync.WaitGroup
	for range *clients {
		work.Go(func() {
			for i := c.next.Add(1); i <= uint64(*many) && !c.t.Failed(); i = c.next.Add(1) {
				starts := begin.Add(time.Duration(i-1) * each)
				pause(ctx, time.Until(starts))
				l := &life{crowd: c, n: i, rng: dice(1<<41 | i), until: starts.Add(time.Duration(*clients) * each)}
				if l.until.After(begin.Add(*lasts)) {
					l.until = begin.Add(*lasts)
				}
				if err := l.live(ctx); err != nil {
					c.t.Errorf("sandbox %d (%s), after %s: %v", i, l.id, strings.Join(l.past[max(0, len(l.past)-20):], ", "), err)
				}
			}
		})
	}
	work.Wait()
}

// disturb does to the server what is to be done to it, at parts of the time.
func (c *crowd) disturb(ctx context.Context, begin time.Time) {
	kill := func() { c.count.add("SIGKILL of the server"); c.service.kill() }
	stop := func() { c.count.add("SIGTERM of the server"); c.service.again(syscall.SIGTERM) }
	upgrade := func() { c.count.add("upgrade"); c.service.upgrade() }
	for _, what := range []struct {
		at float64
		do func()
	}{{0.05, kill}, {0.12, kill}, {0.20, stop}, {0.28, kill}, {0.35, kill}, {0.50, upgrade}, {0.55, kill}, {0.60, kill}} {
		pause(ctx, time.Until(begin.Add(time.Duration(what.at*float64(*lasts)))))
		if ctx.Err() != nil || c.t.Failed() {
			return
		}
		what.do()
	}
}

// memories are what the processes of a server have used of memory, in turn.
type memories struct {
	service *service
	begin   time.Time
	all     []memory
}

// memory is that of one process, and how many descriptors it had.
type memory struct {
	pid   int64
	at    []time.Duration
	bytes []float64
	files []int
}

func (m *memories) keep(ctx context.Context) {
	for ctx.Err() == nil {
		if pid := m.service.pid.Load(); len(m.all) == 0 || m.all[len(m.all)-1].pid != pid {
			m.all = append(m.all, memory{pid: pid})
		}
		last := &m.all[len(m.all)-1]
		if now := resident(last.pid); now > 0 {
			files, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", last.pid))
			last.at, last.bytes, last.files = append(last.at, time.Since(m.begin)), append(last.bytes, now), append(last.files, len(files))
		}
		pause(ctx, max(*lasts/1000, 200*time.Millisecond))
	}
}

// resident returns the bytes of memory that a process has, 0 where it has ended.
func resident(pid int64) float64 {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(status)) {
		var kib float64
		if _, err := fmt.Sscanf(line, "VmRSS: %f kB", &kib); err == nil {
			return kib * 1024
		}
	}
	return 0
}

// slope is by how much it grows in an hour, by least squares, once it has its first third behind it.
func (m memory) slope() float64 {
	var n, sx, sy, sxx, sxy float64
	for i := len(m.at) / 3; i < len(m.at); i++ {
		x, y := m.at[i].Hours(), m.bytes[i]
		n, sx, sy, sxx, sxy = n+1, sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	if d := n*sxx - sx*sx; d > 0 {
		return (n*sxy - sx*sy) / d
	}
	return 0
}

// report tells what happened, as tables of Markdown.
func report(t *testing.T, count *tally, watch *memories, took time.Duration) string {
	var out strings.Builder
	fmt.Fprintf(&out, "\n| what | how often |\n|---|---|\n")
	for _, what := range slices.Sorted(maps.Keys(count.of)) {
		fmt.Fprintf(&out, "| %s | %d |\n", what, count.of[what])
	}
	fmt.Fprintf(&out, "\n| server's process | from | to | MiB at first | at the end | at most | MiB an hour, after its first third | descriptors at first | at the end | at most |\n|---|---|---|---|---|---|---|---|---|---|\n")
	const mib = 1 << 20
	for i, m := range watch.all {
		if len(m.at) < 3 {
			continue
		}
		from, to := m.at[0], m.at[len(m.at)-1]
		fmt.Fprintf(&out, "| %d | %v | %v | %.1f | %.1f | %.1f | %+.2f | %d | %d | %d |\n", i+1, from.Round(time.Second), to.Round(time.Second),
			m.bytes[0]/mib, m.bytes[len(m.bytes)-1]/mib, slices.Max(m.bytes)/mib, m.slope()/mib, m.files[0], m.files[len(m.files)-1], slices.Max(m.files))
		if to-from > 20*time.Minute && m.slope() > *grows*mib { // in less it is not told from chance
			t.Errorf("the memory of the server's process %d grows by %.0f MiB an hour", i+1, m.slope()/mib)
		}
	}
	return fmt.Sprintf("\nSoak of %v, %d clients, %d sandboxes, seed %d: %s\n", took.Round(time.Second), *clients, *many, *seed, map[bool]string{true: "FAILED", false: "passed"}[t.Failed()]) + out.String()
}

// upgrade has a new process take over.
func (s *service) upgrade() {
	s.mu.Lock()
	defer s.mu.Unlock()
	out, err := s.askUpgrade()
	for err != nil && strings.Contains(out, "have not been answered in time") { // on a machine that is too busy; nothing has changed
		out, err = s.askUpgrade()
	}
	var pid int
	if _, bad := fmt.Sscanf(out, "process %d has taken over\n", &pid); err != nil || bad != nil {
		s.t.Errorf("not upgraded: %v, %s", err, out)
		return
	}
	heir, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		s.t.Errorf("the new server has ended: %v\n%s", err, s.said)
		return
	}
	if s.heir < 0 {
		cmd := s.cmd
		s.old.Go(func() { cmd.Wait() })
	} else {
		unix.Close(s.heir)
	}
	s.heir = heir
	s.pid.Store(int64(pid))
}

func (s *service) askUpgrade() (string, error) {
	var out bytes.Buffer
	cmd := exec.Command(s.path, "upgrade", "--state-dir", s.dir)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := s.begin(cmd, func(pid int) { s.command = pid })
	if err == nil {
		err = cmd.Wait()
	}
	return out.String(), err
}
