package executor_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// overtaking plays Deno's kernel: a cell's output comes behind its idle, the rest with the parent of the next request.
func overtaking(rest func(k *fake, id string)) *fake {
	said := make(chan struct{}, 1) // by a cell: its mark comes behind
	k := newFake(func(k *fake, req wire.Request) {
		if strings.Contains(string(req.Content), "k2_mark") {
			<-said
			k.begin(req.ID)
			rest(k, req.ID)
			return
		}
		k.begin(req.ID)
		k.ok(req.ID)
		k.print(req.ID, "late")
		said <- struct{}{}
	})
	k.info.Implementation = "Deno kernel"
	return k
}

func TestOutputThatItsIdleOvertakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, overtaking(func(k *fake, id string) {
			k.ok(id)
			time.Sleep(4 * time.Second)
			k.print(id, "later")
			time.Sleep(4 * time.Second)
			k.pub(id, "execute_result", `{"data":{"text/plain":"1"},"metadata":{}}`)
			k.pub(id, "k2_mark", `{}`)
		}))
		for range 3 {
			if end := expect(t, submit(t, c, executor.Cell{}), "start stdout stdout result end:ok"); end.OutputLost {
				t.Error("output is said to be lost")
			}
		}
	})
}

func TestOutputOfAKernelThatDoesNotMarkItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blocked := overtaking(func(k *fake, id string) { k.print(id, "later") })
		c := start(t, blocked)
		e := submit(t, c, executor.Cell{})
		if end := expect(t, e, "start stdout stdout end:ok"); !end.OutputLost {
			t.Error("no output is said to be lost")
		}
		refusing := overtaking(func(k *fake, id string) {
			k.pub(id, "error", `{"ename":"TypeError","evalue":"Deno.jupyter is undefined","traceback":[]}`)
			k.reply(id, `{"status":"error","ename":"TypeError","evalue":"","traceback":[]}`)
			k.idle(id)
		})
		if end := expect(t, submit(t, start(t, refusing), executor.Cell{}), "start stdout end:ok"); end.OutputLost {
			t.Error("output is said to be lost")
		}
		dying := overtaking(func(k *fake, id string) { k.print(id, "later"); k.die(&wire.Death{}) })
		expect(t, submit(t, start(t, dying), executor.Cell{}), "start stdout stdout end:kernel_died")
	})
}

// What comes when the run has ended is still known to be its own, though its parent is the mark.
func TestOutputBehindTheMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mark string
		k := overtaking(func(k *fake, id string) { mark = id; k.pub(id, "k2_mark", `{}`); k.ok(id) })
		c := start(t, k)
		e := submit(t, c, executor.Cell{})
		expect(t, e, "start stdout end:ok")
		k.print(mark, "of a timer")
		for event, err := range c.Background(t.Context(), 0) {
			if err != nil || !strings.Contains(string(event.JSON), e.ID()) {
				t.Errorf("late output is %s: %v", event.JSON, err)
			}
			break
		}
	})
}
