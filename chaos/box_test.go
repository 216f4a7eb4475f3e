package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// box is a sandbox that gets into trouble.
type box struct {
	t        *testing.T
	id       uint64
	count    *tally
	host     host
	contexts int
	ending   string
	sudden   time.Duration // its end, whatever goes on; 0: when all is done

	url     string
	client  http.Client
	started chan struct{} // closed when the host's start has returned
	ended   atomic.Bool   // failures mean nothing any more
}

func newBox(t *testing.T, id uint64, path string, count *tally) *box {
	rng := dice(id)
	b := &box{t: t, id: id, count: count, host: &embedded{}, contexts: 1 + rng.IntN(4), started: make(chan struct{})}
	if rng.IntN(2) == 0 {
		b.host = &program{path: path}
	}
	ways := b.host.endings()
	b.ending = ways[rng.IntN(len(ways))]
	if rng.IntN(2) == 0 {
		b.sudden = time.Millisecond + upTo(rng, 4*time.Second)
	}
	b.client.Transport = &http.Transport{}
	return b
}

// fail reports a failure, unless the sandbox is about to end.
func (b *box) fail(format string, args ...any) {
	if !b.ended.Load() {
		b.t.Errorf("sandbox %#x (%T): %s", b.id, b.host, fmt.Sprintf(format, args...))
	}
}

// live is the life of the sandbox from its start to its end.
func (b *box) live() {
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	starting, abandon := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); b.work(ctx, starting) }()

	sudden := ctx.Done()
	if b.sudden > 0 {
		soon, cancel := context.WithTimeout(ctx, b.sudden)
		defer cancel()
		sudden = soon.Done()
	}
	select {
	case <-done:
	case <-sudden:
		if ctx.Err() != nil {
			b.fail("it hangs")
			pprof.Lookup("goroutine").WriteTo(os.Stderr, 2)
		}
		b.count.add("in the middle")
	}
	b.ended.Store(true)
	abandon()
	<-b.started
	b.count.add(b.ending)
	if err := b.host.end(b.ending); err != nil {
		b.t.Errorf("sandbox %#x: cannot end: %v", b.id, err)
	}
	cancel()
	<-done
	b.client.CloseIdleConnections()
}

// work starts the sandbox and has all its contexts suffer at once.
func (b *box) work(ctx, starting context.Context) {
	var err error
	b.count.add("kernels")
	b.url, err = b.host.start(starting)
	close(b.started)
	if err != nil {
		b.fail("cannot start: %v", err)
		return
	}
	var work sync.WaitGroup
	for i := range uint64(b.contexts) {
		work.Go(func() {
			if err := b.suffer(ctx, dice(b.id|i+1), i == 0); err != nil {
				b.fail("context %d: %v", i, err)
			}
		})
	}
	work.Wait()
}

// suffer is the life of a context.
func (b *box) suffer(ctx context.Context, rng *rand.Rand, first bool) error {
	v := &victim{box: b, rng: rng, context: "default"}
	if !first {
		if err := v.create(ctx); err != nil || v.context == "" {
			return err
		}
	}
	for range 1 + rng.IntN(2) {
		name := fates[rng.IntN(len(fates))]
		if name == "delete" && first {
			name = "restart"
		}
		b.count.add(name)
		over, err := v.meet(ctx, name)
		if err != nil {
			return fmt.Errorf("%s of %s: %w", name, v.work.name, err)
		}
		if over {
			return nil
		}
	}
	return nil
}

// create makes a context of its own. One in four times its kernel, or the client that
// asks for it, goes while it starts; there may be no context then.
func (v *victim) create(ctx context.Context) error {
	v.count.add("kernels")
	mark := fmt.Sprintf("K2_CHAOS=%x", v.rng.Uint64())
	wait := upTo(v.rng, 800*time.Millisecond)
	asking, leave := context.WithCancel(ctx)
	defer leave()
	trouble := v.rng.IntN(8)
	did := make(chan struct{})
	go func() {
		defer close(did)
		if trouble > 1 {
			return
		}
		pause(asking, wait)
		if trouble == 0 {
			v.count.add("client gone during a start")
			leave()
		} else if pid := marked(mark); pid != 0 {
			v.count.add("SIGKILL during a start")
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}()
	var made struct {
		ContextID string `json:"context_id"`
	}
	err := v.post(asking, "/v1/contexts", map[string]any{"language": "python", "envs": map[string]string{"K2_CHAOS": mark[9:]}}, &made)
	<-did
	v.context = made.ContextID
	if err != nil && trouble <= 1 {
		return nil
	}
	if err == nil && trouble == 1 {
		return v.lives(ctx, "kernel_died") // the run before anybody knew, perhaps
	}
	return err
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
