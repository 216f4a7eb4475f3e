package inside

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/server"
)

const (
	pace     = time.Second     // between two lines of progress
	overtime = 4 * time.Second // that reading what there is already may take when the wait is over
)

// view says what of a source is to be answered with, and when.
type view struct {
	began  time.Time // what the wait begins with; zero is now
	from   position
	wait   *float64 // seconds; nil is api.MCPWait
	chars  int
	images api.Images
	leave  bool // who leaves has it interrupted
}

// follow answers with what a source puts out, when that ends or the wait is over, and until then with progress.
func (h *handlers) follow(w http.ResponseWriter, r *http.Request, s source, v view) error {
	if v.began.IsZero() {
		v.began = time.Now()
	}
	f := &follower{handlers: h, source: s, view: v, digest: newDigest(v.from, cmp.Or(v.chars, api.MCPChars))}
	answered := false
	_, err := server.Follow(w, r, h.o, 0, func(ctx context.Context, _ int64) iter.Seq2[journal.Line, error] {
		return func(yield func(journal.Line, error) bool) {
			a, err := f.wait(ctx, func(p api.MCPProgress) bool { return yield(encode(1, api.MCPLine{Progress: &p}), nil) })
			if ctx.Err() != nil {
				return
			}
			answered = true
			if errors.Is(err, executor.ErrEvicted) {
				err = api.Errorf(api.NotFound, "the output of run %s is no longer kept", s.id())
			}
			last := api.MCPLine{Answer: a}
			if err != nil {
				last = api.MCPLine{Error: server.Describe(w, err)}
			}
			yield(encode(2, last), nil)
		}
	})
	if one, ok := s.(run); ok {
		one.traced.End(w)
	}
	if !answered && v.leave {
		h.left(r, s)
	}
	return err
}

// left interrupts what nobody waits for any more.
func (h *handlers) left(r *http.Request, s source) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), h.o.AskTimeout)
	defer cancel()
	if err := s.interrupt(ctx); err != nil {
		h.o.Log.Debug("cannot interrupt a run whose client is gone", "run", s.id(), "error", err)
	}
}

func encode(seq int64, line api.MCPLine) journal.Line {
	raw, _ := json.Marshal(line) // strings and numbers
	typ := journal.End
	if line.Progress != nil {
		typ = "progress"
	}
	return journal.Line{Seq: seq, Type: typ, JSON: raw}
}

// follower reads a source for one call.
type follower struct {
	*handlers
	source
	view
	digest *digest
}

// wait reads until the end, or until the wait is over, and returns the answer. progress reports whether there is still somebody to tell.
func (f *follower) wait(ctx context.Context, progress func(api.MCPProgress) bool) (*api.MCPAnswer, error) {
	wait := time.Duration(api.MCPWait * float64(time.Second))
	if f.view.wait != nil {
		wait = time.Duration(*f.view.wait * float64(time.Second))
	}
	until := f.began.Add(wait)
	for {
		if !progress(api.MCPProgress{RunID: f.id(), ElapsedS: time.Since(f.began).Seconds(), Line: f.digest.newest.newest()}) {
			return nil, ctx.Err()
		}
		left := time.Until(until)
		if left <= 0 {
			break
		}
		some, cancel := context.WithTimeout(ctx, min(left, pace))
		ended, err := f.digest.read(some, f.source, 0)
		cancel()
		if ended {
			return f.answer(ctx)
		}
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return nil, err
		}
	}
	if err := f.rest(ctx); err != nil {
		return nil, err
	}
	return f.answer(ctx)
}

// rest reads what there is already.
func (f *follower) rest(ctx context.Context) error {
	n := f.events()
	if f.digest.next.seq > n {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, overtime)
	defer cancel()
	_, err := f.digest.read(ctx, f.source, n)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}
