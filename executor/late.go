package executor

import (
	"context"
	"errors"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// errSettled ends the wait for output of a kernel whose idle overtakes it.
var errSettled = errors.New("the kernel has no more output")

// overtaken reports whether the kernel's idle overtakes output of the cell. Deno's kernel publishes what
// a cell shows from another task than its idle, with the cell as parent as long as no other begins.
func overtaken(i wire.Info) bool { return i.Implementation == "Deno kernel" }

// settle returns once the kernel has answered twice, and published nothing of this run between; at
// the latest after Options.IdleWait, as code can go on writing for ever.
func (t *turn) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, t.o.IdleWait)
	defer cancel()
	for quiet := 0; quiet < 2 && ctx.Err() == nil; quiet++ {
		before := t.taken.Load()
		if t.barrier(ctx, wire.Shell); t.taken.Load() != before {
			quiet = -1
		}
	}
}
