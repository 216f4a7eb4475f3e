package executor_test

import (
	"context"
	"errors"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// sent has the fake hear of a request that somebody else has sent.
func (k *fake) sent(id string) executor.Request {
	inbox := make(chan turnOf, 100)
	k.mu.Lock()
	k.asks[id] = inbox
	k.mu.Unlock()
	messages := func(ctx context.Context) iter.Seq2[wire.Message, error] {
		return func(yield func(wire.Message, error) bool) {
			defer func() {
				k.mu.Lock()
				defer k.mu.Unlock()
				delete(k.asks, id)
			}()
			for {
				select {
				case t := <-inbox:
					if !yield(t.m, t.err) || t.err != nil {
						return
					}
				case <-ctx.Done():
					yield(wire.Message{}, ctx.Err())
					return
				}
			}
		}
	}
	return executor.Request{ID: id, Messages: messages, Flush: k.flush}
}

// flush waits until the kernel has come to what was sent last.
func (k *fake) flush(ctx context.Context) error {
	select {
	case <-k.flushed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func observe(t *testing.T, c *executor.Context, k *fake, id string) *executor.Execution {
	t.Helper()
	e, err := c.Observe(k.sent(id), executor.Cell{Code: id})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestObservedRunIsARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake(nil)
		c := start(t, k)
		first, second := observe(t, c, k, "a"), observe(t, c, k, "b")
		if s := c.Status(); s.State != "busy" || s.Running != first.ID() || s.Queued != 1 {
			t.Errorf("the context is %+v", s)
		}
		if s := first.Summary(); s.State != executor.Queued {
			t.Errorf("the run is %+v", s)
		}
		k.begin("a")
		k.print("a", "hello")
		synctest.Wait()
		if s := first.Summary(); s.State != executor.Running || s.StartedAt == nil || *s.ExecutionCount != 7 {
			t.Errorf("the run is %+v", s)
		}
		k.ok("a")
		expect(t, first, "start stdout end:ok")
		k.begin("b")
		synctest.Wait()
		if err := c.Signal(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-k.interrupts
		k.pub("b", "error", `{"ename":"KeyboardInterrupt","evalue":"","traceback":[]}`)
		k.reply("b", `{"status":"error","ename":"KeyboardInterrupt","evalue":"","traceback":[]}`)
		k.idle("b")
		expect(t, second, "start error end:interrupted")
		if s := c.Status(); s.State != "idle" || s.Queued != 0 || s.ExecutionCount != 7 {
			t.Errorf("the context is %+v", s)
		}
		k.print("a", "late")
		for line, err := range c.Background(t.Context(), 0) {
			event, err2 := executor.DecodeLine(line)
			if err != nil || err2 != nil || event.ExecutionID != first.ID() || event.Text != "late" {
				t.Errorf("late output is %+v: %v, %v", event, err, err2)
			}
			break
		}
	})
}

// A turn begins, and with it its time, when what others have sent before has ended.
func TestTurnsComeAfterWhatIsObserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake(func(k *fake, req wire.Request) { k.begin(req.ID); k.ok(req.ID) })
		c := start(t, k)
		other := observe(t, c, k, "a")
		k.begin("a")
		own := submit(t, c, executor.Cell{Code: "1", Timeout: 1})
		synctest.Wait()
		if s := own.Summary(); s.State != executor.Queued {
			t.Errorf("the turn is %+v", s)
		}
		k.ok("a")
		expect(t, other, "start end:ok")
		<-own.Done()
		if len(k.interrupts) > 0 || k.restarts > 0 {
			t.Error("what others ran was interrupted")
		}
	})
}

// A kernel can take what others send before a turn that it was sent first: that is not interrupted in its place.
func TestTimeoutWaitsForWhatTheKernelTookBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := make(chan string, 1)
		k := newFake(func(_ *fake, req wire.Request) { asked <- req.ID })
		c := start(t, k)
		own := submit(t, c, executor.Cell{Code: "1", Timeout: time.Second})
		id := <-asked
		other := observe(t, c, k, "a")
		k.begin("a")
		interrupt := make(chan error, 2)
		for range 2 { // the second while the first waits
			go func() { interrupt <- own.Interrupt(t.Context()) }()
			synctest.Wait()
		}
		time.Sleep(time.Hour)
		if len(k.interrupts) > 0 || k.restarts > 0 {
			t.Fatalf("what others run had %d interrupts, %d restarts", len(k.interrupts), k.restarts)
		}
		k.ok("a")
		expect(t, other, "start end:ok")
		k.begin(id)
		synctest.Wait()
		if len(k.interrupts) != 3 {
			t.Errorf("%d interrupts, of a timeout and two calls", len(k.interrupts))
		}
		k.reply(id, `{"status":"error","ename":"KeyboardInterrupt","evalue":"","traceback":[]}`)
		k.idle(id)
		expect(t, own, "start error end:timeout")
		for range 2 {
			if err := <-interrupt; err != nil && !errors.Is(err, executor.ErrFinished) {
				t.Errorf("cannot interrupt: %v", err)
			}
		}
	})
}

// Whoever comes first replaces a kernel that ended with a run, and that state was lost is told once.
func TestStateLostIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake(func(k *fake, req wire.Request) {
			k.begin(req.ID)
			k.reply(req.ID, `{"status":"ok","payload":[{"source":"ask_exit","keepkernel":false}]}`)
			k.idle(req.ID)
		})
		k.deaf = true
		c := start(t, k)
		if end := expect(t, submit(t, c, executor.Cell{Code: "1"}), "start end:ok"); !end.StateLost {
			t.Error("the run that the kernel ended with does not tell")
		}
		synctest.Wait() // for the turn to wait for the end of the process
		k.script = func(k *fake, req wire.Request) { k.begin(req.ID); k.ok(req.ID) }
		k.mu.Lock()
		k.death, k.asks = &wire.Death{}, nil
		k.mu.Unlock()
		if err := c.Revive(); err != nil {
			t.Fatal(err)
		}
		k.mu.Lock()
		k.asks = map[string]chan turnOf{}
		k.mu.Unlock()
		if end := expect(t, submit(t, c, executor.Cell{Code: "2"}), "start end:ok"); end.StateLost {
			t.Error("the next run tells again")
		}
		k.die(&wire.Death{Code: 3})
		if end := expect(t, submit(t, c, executor.Cell{Code: "3"}), "start end:ok"); !end.StateLost {
			t.Error("nobody tells of another death")
		}
	})
}

func TestObservedRunThatTheKernelNeverTook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake(func(k *fake, req wire.Request) { k.begin(req.ID); k.ok(req.ID) })
		c := start(t, k)
		lost := observe(t, c, k, "a")
		own := submit(t, c, executor.Cell{Code: "1"})
		time.Sleep(time.Hour) // of the bubble: it could be that the kernel is busy
		if s := lost.Summary(); s.State != executor.Queued {
			t.Errorf("the run is %+v", s)
		}
		close(k.flushed)
		expect(t, lost, "start error end:error")
		expect(t, own, "start end:ok")
	})
}

func TestObservedRunsEndWithTheKernelAndTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake(nil)
		c := start(t, k)
		e := observe(t, c, k, "a")
		k.begin("a")
		k.die(&wire.Death{Code: 3})
		if end := expect(t, e, "start end:kernel_died"); end.Exit.Code != 3 || !end.StateLost {
			t.Errorf("the end is %+v", end)
		}
		if err := c.Revive(); err != nil || k.restarts != 1 {
			t.Errorf("revived with %v, %d restarts", err, k.restarts)
		}
		e, queued := observe(t, c, k, "b"), observe(t, c, k, "c")
		k.begin("b")
		if err := c.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		expect(t, e, "start end:aborted")
		expect(t, queued, "start end:aborted")
		e = observe(t, c, k, "d")
		k.begin("d")
		synctest.Wait()
		c.Close(executor.SandboxKilled)
		expect(t, e, "start end:sandbox_killed")
		if _, err := c.Observe(k.sent("e"), executor.Cell{}); !errors.Is(err, executor.ErrClosed) {
			t.Errorf("observed in a closed context: %v", err)
		}
	})
}
