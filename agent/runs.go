package agent

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/k2sandbox/k2sandbox/executor"
)

// pruneEvery is how many submissions go by between two looks at what is kept.
const pruneEvery = 16

// runs are the executions of a sandbox.
type runs struct {
	mu        sync.Mutex
	byID      map[string]*executor.Execution
	order     []*executor.Execution // the oldest first
	submitted int
}

// Submit queues a cell in a context; "" is the default one. Its errors are those of
// Context and of executor.Context.Submit.
func (s *Sandbox) Submit(contextID string, cell executor.Cell) (*executor.Execution, error) {
	c, err := s.Context(contextID)
	if err != nil {
		return nil, err
	}
	e, err := c.Submit(cell)
	if err != nil {
		return nil, s.noteLimit(c.ID(), err)
	}
	runtime.Gosched() // the kernel gets it first, and begins while the rest is done
	s.keep(e)
	return e, nil
}

// Execution returns a run by its id; ErrNotFound where there is none, or no longer.
func (s *Sandbox) Execution(id string) (*executor.Execution, error) {
	s.runs.mu.Lock()
	defer s.runs.mu.Unlock()
	if e := s.runs.byID[id]; e != nil {
		return e, nil
	}
	return nil, fmt.Errorf("execution %q: %w", id, ErrNotFound)
}

// Executions returns the runs that are kept, the newest first.
func (s *Sandbox) Executions() []*executor.Execution {
	s.runs.mu.Lock()
	defer s.runs.mu.Unlock()
	all := slices.Clone(s.runs.order)
	slices.Reverse(all)
	return all
}

func (r *runs) add(e *executor.Execution, keep Keep) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byID == nil {
		r.byID = map[string]*executor.Execution{}
	}
	r.byID[e.ID()] = e
	r.order = append(r.order, e)
	if r.submitted++; r.submitted%pruneEvery == 0 {
		r.pruneLocked(keep)
	}
}

// largeRun is how many bytes on disk tell that a run went through tens of megabytes of this process's memory, which Go
// would give back only after minutes.
const largeRun = 16 << 20

// ended looks at what is kept where a run has left much.
func (r *runs) ended(e *executor.Execution, keep Keep) {
	_, stored := e.Size()
	if stored == 0 {
		return
	}
	r.mu.Lock()
	r.pruneLocked(keep)
	r.mu.Unlock()
	if stored >= largeRun {
		debug.FreeOSMemory()
	}
}

func (r *runs) pruneLocked(keep Keep) {
	r.order = prune(r.order, keep, func(e *executor.Execution) { delete(r.byID, e.ID()) })
}
