package executor

import (
	"context"
	"time"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// The mark is a message of its own type, which Deno's kernel publishes behind all that its cells have said before.
const (
	markType = "k2_mark"
	markCode = `await Deno.jupyter.broadcast("` + markType + `", {})`
)

// overtaken reports whether the kernel's idle overtakes output of the cell. Deno's kernel publishes what
// a cell shows from another task than its idle, with the request that it took last as parent.
func overtaken(i wire.Info) bool { return i.Implementation == "Deno kernel" }

// settle takes what the kernel still publishes of the cell, behind its idle, and returns once that is all. It calls last
// when nothing more comes with the run's own request as parent, and takes messages from when mine is closed.
// It gives up when nothing came for Options.ReplyWait, as code can block its kernel after its cell's end.
func (t *turn) settle(ctx context.Context, last func(), mine <-chan struct{}) error {
	defer last()
	if t.Execution.request != nil {
		t.fallQuiet(ctx)
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	patience := time.AfterFunc(t.o.ReplyWait, cancel)
	defer patience.Stop()
	id := wire.NewID()
	t.context.remember(alias{id, t.id})
	marked, replied, idled := false, false, false
	for m, err := range t.conn.Ask(ctx, request(id, Cell{Code: markCode, Silent: true})) {
		if err != nil {
			return err
		}
		patience.Reset(t.o.ReplyWait)
		switch kind := m.Type(); {
		case m.Channel == wire.Shell:
			replied = true
			if m.Get("status").String() != "ok" { // interrupted, it published no mark
				t.fallQuiet(ctx)
				marked = true
			}
		case kind == "status":
			idled = idled || idle(&m)
		case kind == "execute_input" || kind == "error": // of the mark
		default:
			last()
			select {
			case <-mine:
			case <-ctx.Done():
				return ctx.Err()
			}
			if kind == markType {
				marked = true
			} else {
				t.take(&m)
			}
		}
		if marked && replied && idled {
			return nil
		}
	}
	return nil
}

// fallQuiet returns once the kernel has answered twice, and published nothing of this run between; after Options.IdleWait
// in any case. Other clients' runs end by it: behind a request of ours they would not know whose the output is.
func (t *turn) fallQuiet(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, t.o.IdleWait)
	defer cancel()
	for quiet := 0; quiet < 2 && ctx.Err() == nil; quiet++ {
		before := t.taken.Load()
		if t.barrier(ctx, wire.Shell); t.taken.Load() != before {
			quiet = -1
		}
	}
}
