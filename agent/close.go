package agent

import (
	"context"
	"errors"
	"sync"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/process"
)

// Close is Kill for the reason "closed".
func (s *Sandbox) Close() error { return s.Kill(api.EndClosed) }

// Kill ends the sandbox: open runs end as sandbox_killed, and all that it started is
// gone when it returns, to every caller, also of Shutdown. The first reason is what the timeline tells.
func (s *Sandbox) Kill(reason api.EndReason) error {
	s.hasten()
	return s.Shutdown(s.haste, reason)
}

// Shutdown is Kill with time for what the sandbox has started to end by itself, until ctx
// is done: kernels are asked to, which runs their atexit handlers, and commands get SIGTERM.
func (s *Sandbox) Shutdown(ctx context.Context, reason api.EndReason) error {
	s.closing.Do(func() {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(s.haste, cancel)()
		s.close(ctx, reason)
	})
	return s.left
}

// Ended is closed once the sandbox is.
func (s *Sandbox) Ended() <-chan struct{} { return s.ended }

func (s *Sandbox) close(ctx context.Context, reason api.EndReason) {
	s.mu.Lock()
	s.closed = true
	rooms := s.contexts
	s.contexts = map[string]*room{}
	s.mu.Unlock()
	s.cancelInstalls()
	var work sync.WaitGroup
	errs := make(chan error, len(rooms)+1)
	work.Go(func() { errs <- s.table.Shutdown(ctx) })
	for _, r := range rooms {
		work.Go(func() { errs <- r.shutdown(ctx) })
	}
	work.Wait()
	close(errs)
	for err := range errs {
		s.left = errors.Join(s.left, err)
	}
	s.notebooks.work.Wait() // their contexts have ended
	s.left = errors.Join(s.left, s.closePackages(), s.files.Close(), s.keepsakes.close())
	close(s.ports.quit)
	s.watches.Wait()
	if s.o.Init {
		s.left = errors.Join(s.left, process.EndOrphans())
	}
	s.unreap()
	s.note(TimelineEvent{Type: journal.End, Reason: string(reason)})
	s.timeline.Close()
	close(s.ended)
}

// shutdown ends the context's runs at once, and its kernel by ctx.
func (r *room) shutdown(ctx context.Context) error {
	r.Close(executor.SandboxKilled)
	if ctx.Err() != nil {
		return r.kernel.Close()
	}
	return r.kernel.Shutdown(ctx)
}
