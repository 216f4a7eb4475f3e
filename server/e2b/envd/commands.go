package envd

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/process"
)

// maxEnvs is how many bytes of a command's variables are kept, to be told in a list.
const maxEnvs = 16 << 10

// command is a process as these clients know it.
type command struct {
	job    *process.Job
	config processConfig
	tag    *string
	seen   atomic.Int64 // number of the newest event that a client was sent
}

// send sends a client an event. That it is sent is noted before: who has it, and comes back, is
// not to have it again.
func (c *command) send(seq int64, send func() error) error {
	last := c.seen.Load()
	for seq > last && !c.seen.CompareAndSwap(last, seq) {
		last = c.seen.Load()
	}
	err := send()
	if err != nil {
		c.seen.CompareAndSwap(seq, last)
	}
	return err
}

func (c *command) ended() bool {
	select {
	case <-c.job.Done():
		return true
	default:
		return false
	}
}

// commands are those that clients have started or asked for, the oldest first. What the
// sandbox has forgotten is forgotten here, too.
type commands struct {
	mu   sync.Mutex
	list []*command
}

// add notes a process that a client has started.
func (k *commands) add(box *agent.Sandbox, c *command) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.list = slices.DeleteFunc(k.list, func(old *command) bool { return old.job == c.job })
	k.put(box, c)
}

// put appends a command, and takes away those that are forgotten. k.mu is held.
func (k *commands) put(box *agent.Sandbox, c *command) {
	k.list = append(slices.DeleteFunc(k.list, func(old *command) bool {
		job, err := box.Process(old.job.Pid())
		return err != nil || job != old.job
	}), c)
}

// of returns the command that a job is, also of one that was started otherwise.
func (k *commands) of(box *agent.Sandbox, job *process.Job) *command {
	k.mu.Lock()
	c := k.find(job)
	k.mu.Unlock()
	if c != nil {
		return c
	}
	s := job.Summary()
	k.mu.Lock()
	defer k.mu.Unlock()
	if c := k.find(job); c != nil { // somebody was faster
		return c
	}
	c = &command{job: job, config: processConfig{Cmd: s.Args[0], Args: s.Args[1:], Cwd: &s.Cwd}}
	k.put(box, c)
	return c
}

// find returns the command that a job is, nil where there is none. k.mu is held.
func (k *commands) find(job *process.Job) *command {
	for _, c := range k.list {
		if c.job == job {
			return c
		}
	}
	return nil
}

// tagged returns the newest command with a tag: one that runs, if there is one.
func (k *commands) tagged(tag string) *command {
	k.mu.Lock()
	defer k.mu.Unlock()
	var found *command
	for _, c := range slices.Backward(k.list) {
		if c.tag == nil || *c.tag != tag {
			continue
		}
		if !c.ended() {
			return c
		}
		if found == nil {
			found = c
		}
	}
	return found
}

// selector is process.ProcessSelector.
type selector struct {
	Pid *number `json:"pid"`
	Tag *string `json:"tag"`
}

// find returns the command that a client means.
func (h *handler) find(s *selector) (*command, error) {
	switch {
	case s == nil || s.Pid == nil && s.Tag == nil:
		return nil, errorf(invalidArgument, "process: pid or tag is required")
	case s.Pid != nil && s.Tag != nil:
		return nil, errorf(invalidArgument, "process: expected pid or tag, not both")
	case s.Tag != nil:
		if c := h.commands.tagged(*s.Tag); c != nil {
			return c, nil
		}
		return nil, errorf(notFound, "process with tag %.256q not found", *s.Tag)
	}
	job, err := h.box.Process(int(*s.Pid))
	if err != nil {
		return nil, fmt.Errorf("process with pid %d not found: %w", *s.Pid, err)
	}
	return h.commands.of(h.box, job), nil
}

// live returns the command that a client means, if it has not ended.
func (h *handler) live(s *selector) (*command, error) {
	c, err := h.find(s)
	if err == nil && c.ended() {
		return nil, errorf(notFound, "process with pid %d not found: it has ended", c.job.Pid())
	}
	return c, err
}
