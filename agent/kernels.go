package agent

import (
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/kernel"
)

// Kernel returns the kernel of a context, for those who speak its protocol with it; it stays the sandbox's. "" is
// the default context's. Its errors are those of Context.
func (s *Sandbox) Kernel(contextID string) (*kernel.Kernel, error) {
	r, err := s.room(contextID)
	if err != nil {
		return nil, err
	}
	return r.kernel, nil
}

// Observe keeps a run that a client of the context's kernel sends itself, as Submit does one of ours: see
// executor.Context.Observe.
func (s *Sandbox) Observe(c *executor.Context, request executor.Request, cell executor.Cell) (*executor.Execution, error) {
	e, err := c.Observe(request, cell)
	if err != nil {
		return nil, s.noteLimit(c.ID(), err)
	}
	s.keep(e)
	return e, nil
}
