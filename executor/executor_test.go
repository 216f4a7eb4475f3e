package executor_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

func TestRunEndsWithReplyAndIdleInEitherOrder(t *testing.T) {
	for name, script := range map[string]func(k *fake, req wire.Request){
		"reply first": func(k *fake, req wire.Request) {
			k.begin(req.ID)
			k.reply(req.ID, `{"status":"ok"}`)
			k.print(req.ID, "hello")
			k.pub(req.ID, "execute_result", `{"data":{"text/plain":"2"},"metadata":{},"execution_count":7}`)
			k.idle(req.ID)
		},
		"idle first": func(k *fake, req wire.Request) {
			k.begin(req.ID)
			k.print(req.ID, "hello")
			k.pub(req.ID, "execute_result", `{"data":{"text/plain":"2"},"metadata":{},"execution_count":7}`)
			k.idle(req.ID)
			k.reply(req.ID, `{"status":"ok"}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := submit(t, start(t, newFake(script)), executor.Cell{Code: "1+1"})
				events := all(t, e)
				if got := types(events); got != "start stdout result end:ok" {
					t.Fatal(got)
				}
				if n := events[0].ExecutionCount; n == nil || *n != 7 {
					t.Errorf("start has count %v", n)
				}
				if events[1].Text != "hello" || string(events[2].Data.Raw()) != `{"text/plain":"2"}` || !events[2].IsMain {
					t.Errorf("got %+v", events[1:3])
				}
			})
		})
	}
}

func TestLostIdleIsToldByTheControlChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := submit(t, start(t, newFake(func(k *fake, req wire.Request) {
			k.begin(req.ID)
			k.reply(req.ID, `{"status":"ok"}`)
		})), executor.Cell{})
		if end := expect(t, e, "start end:ok"); !end.OutputLost {
			t.Error("the end does not say that output was lost")
		}
	})
}

// What comes slowly is not taken for all, however long the kernel's answer waits behind it.
func TestIdleBehindSlowOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake(func(k *fake, req wire.Request) {
			k.begin(req.ID)
			k.reply(req.ID, `{"status":"ok","execution_count":7}`)
			for range 10 {
				time.Sleep(3 * time.Second)
				k.print(req.ID, "x")
			}
			k.idle(req.ID)
		})
		k.deaf = true
		c := start(t, k)
		expect(t, submit(t, c, executor.Cell{}), "start"+strings.Repeat(" stdout", 10)+" end:ok")
	})
}

func TestLostReplyEndsAsError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := submit(t, start(t, newFake(func(k *fake, req wire.Request) {
			k.begin(req.ID)
			k.idle(req.ID)
		})), executor.Cell{})
		expect(t, e, "start error end:error")
	})
}

func TestRunMayTakeADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake(func(k *fake, req wire.Request) {
			k.begin(req.ID)
			time.Sleep(24 * time.Hour) // of the bubble
			k.ok(req.ID)
		})
		expect(t, submit(t, start(t, k), executor.Cell{}), "start end:ok")
	})
}

func TestStatusComesFromTheReply(t *testing.T) {
	raised := `{"ename":"ValueError","evalue":"no","traceback":["a","b"]`
	for name, c := range map[string]struct{ iopub, reply, want string }{
		"error on both":         {raised + "}", raised + `,"status":"error"}`, "start error end:error"},
		"only in the reply":     {"", raised + `,"status":"error"}`, "start error end:error"},
		"shown but handled":     {raised + "}", `{"status":"ok"}`, "start error end:ok"},
		"another in the reply":  {`{"ename":"X","evalue":"","traceback":[]}`, raised + `,"status":"error"}`, "start error error end:error"},
		"nameless in the reply": {raised + "}", `{"ename":"NoneType","evalue":"None","traceback":[],"status":"error"}`, "start error end:error"},
		"aborted":               {"", `{"status":"aborted"}`, "start end:aborted"},
		"page": {"", `{"status":"ok","payload":[{"source":"page","data":{"text/plain":"doc"}},{"source":"set_next_input"}]}`,
			"start result end:ok"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := submit(t, start(t, newFake(func(k *fake, req wire.Request) {
					k.begin(req.ID)
					if c.iopub != "" {
						k.pub(req.ID, "error", c.iopub)
					}
					k.reply(req.ID, c.reply)
					k.idle(req.ID)
				})), executor.Cell{})
				expect(t, e, c.want)
			})
		})
	}
}

// obey plays a cell that runs until it is interrupted.
func obey(k *fake, req wire.Request) {
	k.begin(req.ID)
	<-k.interrupts
	raised := `{"ename":"KeyboardInterrupt","evalue":"","traceback":[],"status":"error"}`
	k.pub(req.ID, "error", raised)
	k.reply(req.ID, raised)
	k.idle(req.ID)
}

// defy plays a cell that no interrupt ends.
func defy(k *fake, req wire.Request) { k.begin(req.ID) }

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake(obey)
		e := submit(t, start(t, k), executor.Cell{Timeout: 1})
		if end := expect(t, e, "start error end:timeout"); end.StateLost || k.restarts != 0 {
			t.Error("the kernel was restarted, though it heeded the interrupt")
		}
	})
}

func TestTimeoutKillsWhatDefiesInterrupts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake(defy)
		c := start(t, k)
		if end := expect(t, submit(t, c, executor.Cell{Timeout: 1}), "start end:timeout"); !end.StateLost {
			t.Error("the end does not say that the state is lost")
		}
		k.script = func(k *fake, req wire.Request) { k.begin(req.ID); k.ok(req.ID) }
		if end := expect(t, submit(t, c, executor.Cell{}), "start end:ok"); end.StateLost {
			t.Error("the next run says again that the state is lost")
		}
		if len(k.interrupts) != 3 {
			t.Errorf("%d interrupts were sent", len(k.interrupts))
		}
	})
}

func TestStopKillsWhatDefiesInterrupts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake(defy)
		c := start(t, k)
		running, queued := submit(t, c, executor.Cell{}), submit(t, c, executor.Cell{})
		queued.Stop()
		expect(t, queued, "start end:aborted")
		for range running.Lines(t.Context(), 0) {
			break // it runs
		}
		running.Stop()
		expect(t, running, "start end:aborted")
		k.script = func(k *fake, req wire.Request) { k.begin(req.ID); k.ok(req.ID) }
		if end := expect(t, submit(t, c, executor.Cell{}), "start end:ok"); !end.StateLost {
			t.Error("the next run does not say that the state is lost")
		}
		if end := expect(t, submit(t, c, executor.Cell{}), "start end:ok"); end.StateLost {
			t.Error("the run after it says so again")
		}
	})
}

func TestStopInterrupts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake(obey)
		e := submit(t, start(t, k), executor.Cell{})
		for range e.Lines(t.Context(), 0) {
			break // it runs
		}
		e.Stop()
		if end := expect(t, e, "start error end:interrupted"); end.StateLost || k.restarts != 0 {
			t.Error("the kernel was restarted, though it heeded the interrupt")
		}
		e.Stop()
	})
}

func TestTimeoutOfKernelThatIsNotOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake(defy)
		k.noRestart = errors.New("not ours")
		expect(t, submit(t, start(t, k), executor.Cell{Timeout: 1}), "start error end:timeout")
	})
}

func TestInterrupt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, newFake(obey))
		running, queued := submit(t, c, executor.Cell{}), submit(t, c, executor.Cell{})
		if err := queued.Interrupt(t.Context()); err != nil {
			t.Fatal(err)
		}
		expect(t, queued, "start end:aborted")
		for range running.Lines(t.Context(), 0) {
			break // it runs
		}
		if err := c.Interrupt(t.Context()); err != nil {
			t.Fatal(err)
		}
		expect(t, running, "start error end:interrupted")
		if err := running.Interrupt(t.Context()); !errors.Is(err, executor.ErrFinished) {
			t.Errorf("interrupt of an ended run: %v", err)
		}
	})
}

func TestLeavingTheLoopInterrupts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake(obey)
		c := start(t, k)
		for event, err := range c.Run(t.Context(), executor.Cell{}) {
			if err != nil || event.Type != executor.Start {
				t.Fatal(event, err)
			}
			break
		}
		k.script = func(k *fake, req wire.Request) { k.begin(req.ID); k.ok(req.ID) }
		expect(t, submit(t, c, executor.Cell{}), "start end:ok")
	})
}

func TestDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake(func(k *fake, req wire.Request) {
			k.begin(req.ID)
			k.print(req.ID, "last words")
			k.die(&wire.Death{Code: -1, Signal: "SIGSEGV", Stderr: "tail"})
		})
		c := start(t, k)
		end := expect(t, submit(t, c, executor.Cell{}), "start stdout end:kernel_died")
		if !end.StateLost || end.Exit == nil || end.Exit.Signal != "SIGSEGV" || end.Exit.Stderr != "tail" {
			t.Errorf("got %+v", end)
		}
		k.script = func(k *fake, req wire.Request) { k.begin(req.ID); k.ok(req.ID) }
		if end := expect(t, submit(t, c, executor.Cell{}), "start end:ok"); end.StateLost {
			t.Error("the next run says again that the state is lost")
		}
	})
}

func TestDeathBetweenRunsIsToldByTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake(func(k *fake, req wire.Request) { k.begin(req.ID); k.ok(req.ID) })
		c := start(t, k)
		for i := range 200 { // some die while the context still deals with the end of the run before
			expect(t, submit(t, c, executor.Cell{}), "start end:ok")
			k.die(&wire.Death{Code: 1})
			if end := expect(t, submit(t, c, executor.Cell{}), "start end:ok"); !end.StateLost {
				t.Fatalf("round %d: the end does not say that the state is lost", i)
			}
		}
	})
}

func TestKernelThatCannotBeRevived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake(nil)
		k.noRestart = errors.New("no python")
		k.die(&wire.Death{Code: 1})
		expect(t, submit(t, start(t, k), executor.Cell{}), "start error end:kernel_died")
	})
}

func TestExitRestartsBeforeTheNextRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake(func(k *fake, req wire.Request) {
			k.begin(req.ID)
			k.reply(req.ID, `{"status":"ok","payload":[{"source":"ask_exit","keepkernel":false}]}`)
			k.idle(req.ID)
			k.die(&wire.Death{})
		})
		c := start(t, k)
		if end := expect(t, submit(t, c, executor.Cell{}), "start end:ok"); !end.StateLost {
			t.Error("the end does not say that the state is lost")
		}
		k.script = func(k *fake, req wire.Request) { k.begin(req.ID); k.ok(req.ID) }
		expect(t, submit(t, c, executor.Cell{}), "start end:ok")
		if k.restarts != 1 {
			t.Errorf("%d restarts", k.restarts)
		}
	})
}

func TestRestartAbortsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := make(chan struct{}, 1)
		k := newFake(func(k *fake, req wire.Request) { k.begin(req.ID); began <- struct{}{} })
		c := start(t, k)
		running, queued := submit(t, c, executor.Cell{}), submit(t, c, executor.Cell{})
		<-began
		if err := c.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, e := range []*executor.Execution{running, queued} {
			if end := expect(t, e, "start end:aborted"); !end.StateLost {
				t.Error("the end does not say that the state is lost")
			}
		}
	})
}

func TestCloseEndsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := make(chan struct{}, 1)
		k := newFake(func(k *fake, req wire.Request) { k.begin(req.ID); began <- struct{}{} })
		c := start(t, k)
		running, queued := submit(t, c, executor.Cell{}), submit(t, c, executor.Cell{})
		<-began
		c.Close(executor.SandboxKilled)
		expect(t, running, "start end:sandbox_killed")
		expect(t, queued, "start end:sandbox_killed")
		if _, err := c.Submit(executor.Cell{}); !errors.Is(err, executor.ErrClosed) {
			t.Errorf("submit to a closed context: %v", err)
		}
	})
}

func TestQueueIsBoundedAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, release := make(chan struct{}, 3), make(chan struct{})
		var order []string
		k := newFake(func(k *fake, req wire.Request) {
			began <- struct{}{}
			<-release
			order = append(order, string(req.Content))
			k.begin(req.ID)
			k.ok(req.ID)
		})
		c := startWith(t, k, executor.Options{QueueLimit: 2})
		first := submit(t, c, executor.Cell{Code: "1"})
		<-began
		second, third := submit(t, c, executor.Cell{Code: "2"}), submit(t, c, executor.Cell{Code: "3"})
		if _, err := c.Submit(executor.Cell{}); !errors.Is(err, executor.ErrQueueFull) {
			t.Fatalf("the queue takes a third: %v", err)
		}
		close(release)
		for _, e := range []*executor.Execution{first, second, third} {
			<-e.Done()
		}
		for i, code := range []string{`"code":"1"`, `"code":"2"`, `"code":"3"`} {
			if !strings.Contains(order[i], code) {
				t.Errorf("run %d was %s", i, order[i])
			}
		}
	})
}

func TestInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake(func(k *fake, req wire.Request) {
			k.begin(req.ID)
			k.say(wire.Stdin, req.ID, "input_request", `{"prompt":"name? ","password":true}`)
			k.print(req.ID, <-k.inputs)
			k.ok(req.ID)
		})
		e := submit(t, start(t, k), executor.Cell{AllowStdin: true})
		for event, err := range e.Events(t.Context(), 0) {
			if err != nil {
				t.Fatal(err)
			}
			switch event.Type {
			case executor.Input:
				if event.Prompt != "name? " || !event.Password {
					t.Errorf("got %+v", event)
				}
				if err := e.Input(t.Context(), "Ada"); err != nil {
					t.Fatal(err)
				}
				if err := e.Input(t.Context(), "twice"); !errors.Is(err, executor.ErrNotWaiting) && !errors.Is(err, executor.ErrFinished) {
					t.Errorf("second answer: %v", err)
				}
			case executor.Stdout:
				if event.Text != `{"value":"Ada"}` {
					t.Errorf("the kernel got %s", event.Text)
				}
			}
		}
		if err := e.Input(t.Context(), "late"); !errors.Is(err, executor.ErrFinished) {
			t.Errorf("answer after the end: %v", err)
		}
	})
}

func TestLateOutputGoesToTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake(func(k *fake, req wire.Request) { k.begin(req.ID); k.ok(req.ID) })
		c := start(t, k)
		e := submit(t, c, executor.Cell{})
		<-e.Done()
		k.print(e.ID(), "late")
		k.print("", "of nobody")
		k.idle(e.ID())
		want := []struct{ text, id string }{{"late", e.ID()}, {"of nobody", ""}}
		for line, err := range c.Background(t.Context(), 0) {
			if err != nil {
				t.Fatal(err)
			}
			event, err := executor.DecodeLine(line)
			if err != nil || event.Text != want[0].text || event.ExecutionID != want[0].id {
				t.Fatalf("got %+v, %v, want %v", event, err, want[0])
			}
			if want = want[1:]; len(want) == 0 {
				break
			}
		}
	})
}

func TestRunOptionsNeedTheLauncher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := make(chan string, 1)
		k := newFake(func(k *fake, req wire.Request) {
			seen <- string(req.Metadata)
			k.begin(req.ID)
			k.ok(req.ID)
		})
		c := start(t, k)
		cell := executor.Cell{Cwd: "/tmp", Envs: map[string]string{"A": `"b"`}}
		if _, err := c.Submit(cell); !errors.Is(err, executor.ErrUnsupported) {
			t.Fatalf("a kernel without our launcher takes them: %v", err)
		}
		k.info.Features = []string{wire.RunOptions}
		submit(t, c, cell)
		if got := <-seen; got != `{"k2":{"cwd":"/tmp","envs":{"A":"\"b\""}}}` {
			t.Errorf("metadata %s", got)
		}
	})
}

func TestComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got, err := start(t, newFake(nil)).Complete(t.Context(), "pr", 2)
		if err != nil || len(got.Matches) != 1 || got.Matches[0] != "print" || got.End != 2 {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

func TestReadersGiveUpWithTheirContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := submit(t, start(t, newFake(defy)), executor.Cell{})
		ctx, cancel := context.WithCancel(t.Context())
		for _, err := range e.Lines(ctx, 0) {
			if err == nil {
				cancel() // after the start
			} else if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
		cancel()
	})
}
