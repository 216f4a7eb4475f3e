// Package fleet is many sandboxes: who has them, where they are in their lives, and
// how long they may do nothing. What makes a sandbox is a Runtime. What is to outlive
// this process is in a registry on disk.
package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Options describe a Fleet. Dir and Runtime are required; the zero value of another
// field stands for its default.
type Options struct {
	Dir     string  // of the registry; one process at a time can have it
	Runtime Runtime // stays the caller's, who closes it after the fleet
	Log     *slog.Logger

	DefaultTimeout time.Duration // of sandboxes for which none is asked: 300 s
	MaxTimeout     time.Duration // 24 h
	PausedTimeout  time.Duration // how long a sandbox may stay paused: DefaultPausedTimeout
	StartTimeout   time.Duration // 60 s
	Lease          time.Duration // how long past its time a sandbox lives on where there is no server; 0: for ever

	Grace      time.Duration // how long a sandbox may take to close: 10 s
	KillGrace  time.Duration // how long an agent may take to end the streams of what it runs: 200 ms
	EndOnClose bool          // Close closes the sandboxes; else they go on, and the next Open takes them back

	Keep    time.Duration // how long ended sandboxes are remembered: a day
	MaxKept int           // how many of them, the newest: 100,000

	Max   int                      // sandboxes in all: 1,000
	Quota func(owner string) Quota // nil: no bounds but Max
}

const (
	DefaultPausedTimeout = 24 * time.Hour

	minWait      = 50 * time.Millisecond // between two looks at a sandbox
	askTimeout   = 5 * time.Second       // of a question to an agent
	askTries     = 3                     // after which its answer counts as "idle"
	askPause     = time.Second           // between two of them, in which an agent that has just died is found to have
	adoptTimeout = 30 * time.Second
	adoptAtOnce  = 8
	closeSlack   = 5 * time.Second // what Close takes past its context, at most
)

func (o *Options) setDefaults() error {
	if o.Dir == "" || o.Runtime == nil {
		return errors.New("options Dir and Runtime are required")
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	o.DefaultTimeout = cmp.Or(o.DefaultTimeout, 300*time.Second)
	o.MaxTimeout = cmp.Or(o.MaxTimeout, 24*time.Hour)
	o.PausedTimeout = cmp.Or(o.PausedTimeout, DefaultPausedTimeout)
	o.StartTimeout = cmp.Or(o.StartTimeout, 60*time.Second)
	o.Grace = cmp.Or(o.Grace, 10*time.Second)
	o.KillGrace = cmp.Or(o.KillGrace, 200*time.Millisecond)
	o.Keep = cmp.Or(o.Keep, 24*time.Hour)
	o.MaxKept = cmp.Or(o.MaxKept, 100_000)
	o.Max = cmp.Or(o.Max, 1000)
	for _, d := range []time.Duration{o.DefaultTimeout, o.MaxTimeout, o.PausedTimeout, o.StartTimeout, o.Lease, o.Grace, o.KillGrace, o.Keep} {
		if d < 0 {
			return fmt.Errorf("options: %v is no duration", d)
		}
	}
	if o.Quota == nil {
		o.Quota = func(string) Quota { return Quota{} }
	}
	if o.DefaultTimeout > o.MaxTimeout {
		return fmt.Errorf("option DefaultTimeout: %v is more than MaxTimeout, %v", o.DefaultTimeout, o.MaxTimeout)
	}
	return nil
}

// Fleet has sandboxes. Its methods are safe for concurrent use. It must be closed.
type Fleet struct {
	o        Options
	registry *registry
	quit     chan struct{}  // closed when sandboxes are not watched any more
	work     sync.WaitGroup // calls that change something, and goroutines; counted up under mu, until closed
	closing  sync.Once
	left     error // what Close could not do
	counts   *counts

	mu        sync.Mutex
	closed    bool
	sandboxes map[string]*Sandbox      // all but the ended
	rates     map[string]*rate.Limiter // by owner
}

// Open opens the registry, takes back the sandboxes in it that still run, and removes
// what is left of others. Sandboxes get a whole timeout anew.
func Open(o Options) (*Fleet, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	reg, err := openRegistry(o.Dir, o.Keep, o.MaxKept)
	if err != nil {
		return nil, err
	}
	f := &Fleet{
		o: o, registry: reg, quit: make(chan struct{}),
		sandboxes: map[string]*Sandbox{}, rates: map[string]*rate.Limiter{}, counts: newCounts(),
	}
	if err := f.takeBack(); err != nil {
		return nil, errors.Join(err, reg.close())
	}
	f.work.Go(f.forget)
	f.work.Go(f.sample)
	if o.Lease > 0 {
		f.work.Go(f.renew)
	}
	return f, nil
}

// Close takes no more requests, ends what is being created, and ends the sandboxes or
// leaves them, as Options.EndOnClose says. Where ctx is over before they have closed
// they are killed. It returns once nothing of the fleet runs any more, or, with an
// error, some seconds after ctx is over.
func (f *Fleet) Close(ctx context.Context) error {
	f.closing.Do(func() { f.left = f.close(ctx, f.o.EndOnClose) })
	return f.left
}

// Release is Close that leaves the sandboxes to a process that follows, whatever Options.EndOnClose says. Requests that are
// in one may go on: they are told when it has ended, if not by what.
func (f *Fleet) Release(ctx context.Context) error {
	f.closing.Do(func() {
		f.left = f.close(ctx, false)
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, s := range f.sandboxes {
			if s.requests > 0 {
				go f.follow(s) // as long as it lives
			}
		}
	})
	return f.left
}

func (f *Fleet) close(ctx context.Context, end bool) error {
	var ending []*Sandbox
	f.mu.Lock()
	f.closed = true
	for _, s := range f.sandboxes {
		s.timer.Stop()
		if end || s.state == Creating {
			f.endLocked(s, Closed)
		}
		if s.state == Ending {
			ending = append(ending, s)
		}
	}
	f.mu.Unlock()
	defer context.AfterFunc(ctx, func() {
		for _, s := range ending {
			s.hasten()
		}
	})()
	last, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(closeSlack, cancel) })()

	var errs []error
	for _, s := range ending {
		errs = append(errs, s.await(last))
	}
	close(f.quit)
	errs = append(errs, f.settled(last), f.registry.close())
	return errors.Join(errs...)
}

// settled waits until nothing of the fleet works any more.
func (f *Fleet) settled(ctx context.Context) error {
	done := make(chan struct{})
	go func() { f.work.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errors.New("cannot wait for what the runtime still does")
	}
}

// enter counts a call that changes something, which Close waits for. Its caller
// says f.work.Done() unless it failed.
func (f *Fleet) enter() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return ErrClosed
	}
	f.work.Add(1)
	return nil
}

// find returns a sandbox that has not ended. Errors are ErrNotFound, a *GoneError of
// one that has, and ErrClosed.
func (f *Fleet) find(id string) (*Sandbox, error) {
	f.mu.Lock()
	s, closed := f.sandboxes[id], f.closed
	f.mu.Unlock()
	switch {
	case closed:
		return nil, ErrClosed
	case s != nil:
		return s, nil
	}
	rec, err := f.registry.get(id)
	if err != nil {
		return nil, err
	}
	return nil, rec.gone()
}

// forget drops the records of those that ended too long ago, now and then: the call
// that asks for one looks at its age, too.
func (f *Fleet) forget() {
	tick := time.NewTicker(max(f.o.Keep/48, time.Second))
	defer tick.Stop()
	for {
		select {
		case <-f.quit:
			return
		case <-tick.C:
		}
		if err := <-f.registry.forget(); err != nil {
			f.o.Log.Error("cannot forget ended sandboxes", "error", err)
		}
		f.forgetRates()
	}
}
