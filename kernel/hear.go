package kernel

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// ears are those who hear what a kernel publishes.
type ears struct {
	mu  sync.Mutex // held while all changes
	all atomic.Pointer[[]*ear]
}

type ear struct{ take func(wire.Message) }

// Hear has take given each message that the kernel publishes on iopub from now on, over restarts, but for the status
// of what the engine asks for itself. It is called from one goroutine at a time and must not wait. stop ends it; one
// more message may be on its way then.
func (k *Kernel) Hear(take func(wire.Message)) (stop func()) {
	e := &ear{take}
	k.ears.change(func(all []*ear) []*ear { return append(all, e) })
	return func() {
		k.ears.change(func(all []*ear) []*ear {
			return slices.DeleteFunc(all, func(other *ear) bool { return other == e })
		})
	}
}

// change puts another list in place of the one that is read.
func (e *ears) change(edit func([]*ear) []*ear) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []*ear
	if old := e.all.Load(); old != nil {
		all = slices.Clone(*old)
	}
	all = edit(all)
	e.all.Store(&all)
}

func (e *ears) hear(m wire.Message) {
	if all := e.all.Load(); all != nil {
		for _, ear := range *all {
			ear.take(m)
		}
	}
}

// publish hands a message of iopub to those who hear the kernel, unless it is about nothing but a question of the
// engine's, which no cell is.
func (c *conversation) publish(m wire.Message) {
	internal := m.Type() == "iopub_welcome" || m.Type() == "status" &&
		m.ParentSession() == c.session && m.ParentType() != "execute_request"
	if !internal && c.o.hear != nil {
		c.o.hear(m)
	}
}
