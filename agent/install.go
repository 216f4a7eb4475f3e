package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/kernel/wire"
	"github.com/k2sandbox/k2sandbox/packages"
)

// ErrTooManyInstalls means that as many installations as may be are waiting.
var ErrTooManyInstalls = errors.New("too many installations are waiting")

var errInterrupted = errors.New("interrupted")

const (
	installTimeout = 10 * time.Minute // where a request names none
	maxInstalls    = 16               // that wait or run
	keptInstalls   = 64               // with those that have ended
)

// installs are the installations of a sandbox.
type installs struct {
	turn chan struct{} // holds a token while none runs
	work sync.WaitGroup

	mu    sync.Mutex
	order []*Install // the oldest first
}

// Install is one installation. Its methods are safe for concurrent use.
type Install struct {
	id      string
	box     *Sandbox
	request packages.Request
	timeout time.Duration
	created time.Time
	log     *journal.Log
	ctx     context.Context // ends with the installation, or ends it
	cancel  context.CancelCauseFunc

	mu     sync.Mutex
	state  executor.State
	status executor.Status
}

// InstallPackages queues an installation; one runs at a time. timeout 0 is ten minutes.
// Errors are those of packages.Options.Check, ErrNoPackages, ErrTooManyInstalls and ErrClosed.
func (s *Sandbox) InstallPackages(requirements []packages.Requirement, upgrade bool, timeout time.Duration) (*Install, error) {
	installer, err := s.Installer()
	if err != nil {
		return nil, err
	}
	if err := s.o.Packages.Check(requirements); err != nil {
		return nil, err
	}
	i := &Install{
		id: "in_" + strings.ReplaceAll(wire.NewID(), "-", ""), box: s, created: time.Now(), state: executor.Queued,
		timeout: cmp.Or(timeout, installTimeout),
		log:     journal.New(journal.Options{Memory: 1 << 20, Limit: 64 << 20, Spill: s.o.Executor.Spill}),
	}
	i.request = packages.Request{Requirements: requirements, Upgrade: upgrade}
	i.ctx, i.cancel = context.WithCancelCause(context.Background())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if err := s.installs.add(i); err != nil {
		return nil, err
	}
	i.log.Append(line(&api.InstallStart{Type: executor.Start, InstallID: i.id, Packages: i.names(), Installer: installer}))
	s.installs.work.Go(i.run)
	return i, nil
}

// add keeps the installation, and forgets the oldest that has ended.
func (k *installs) add(i *Install) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	open := 0
	for _, one := range k.order {
		if !closed(one.Done()) {
			open++
		}
	}
	if open >= maxInstalls {
		return fmt.Errorf("%w: %d at most", ErrTooManyInstalls, maxInstalls)
	}
	if k.order = append(k.order, i); len(k.order) > keptInstalls {
		oldest := slices.IndexFunc(k.order, func(one *Install) bool { return closed(one.Done()) })
		k.order[oldest].log.Evict()
		k.order = slices.Delete(k.order, oldest, oldest+1)
	}
	return nil
}

// Install returns an installation by its id; ErrNotFound where there is none, or no longer.
func (s *Sandbox) Install(id string) (*Install, error) {
	s.installs.mu.Lock()
	defer s.installs.mu.Unlock()
	for _, i := range s.installs.order {
		if i.id == id {
			return i, nil
		}
	}
	return nil, fmt.Errorf("installation %q: %w", id, ErrNotFound)
}

// ID returns the installation's id.
func (i *Install) ID() string { return i.id }

// Done is closed when the end can be read.
func (i *Install) Done() <-chan struct{} { return i.log.Done() }

// Lines yields the lines after number after and follows the installation to its end.
func (i *Install) Lines(ctx context.Context, after int64) iter.Seq2[journal.Line, error] {
	return i.log.Lines(ctx, after)
}

// Interrupt ends the installation; executor.ErrFinished where it has ended.
func (i *Install) Interrupt() error {
	if closed(i.Done()) {
		return executor.ErrFinished
	}
	i.cancel(errInterrupted)
	return nil
}

// Summary returns where the installation stands.
func (i *Install) Summary() api.Install {
	_, _, lines := i.log.Size()
	i.mu.Lock()
	defer i.mu.Unlock()
	return api.Install{
		InstallID: i.id, Packages: i.names(), State: i.state, Status: i.status, CreatedAt: i.created.UTC(), Events: lines,
	}
}

func (i *Install) names() []string {
	var names []string
	for _, r := range i.request.Requirements {
		names = append(names, r.String())
	}
	return names
}

// run waits for the installation's turn and does it.
func (i *Install) run() {
	defer i.cancel(nil)
	end := api.InstallEnd{Type: journal.End}
	change := packages.Change{}
	var began time.Time
	var err error
	select {
	case <-i.ctx.Done():
		began, err = time.Now(), context.Cause(i.ctx)
	case <-i.box.installs.turn:
		began = time.Now()
		change, err = i.install()
		end.NeedsReset, end.Contexts, end.Unchecked = i.box.afterChange(i.ctx, &change)
		i.box.installs.turn <- struct{}{}
	}
	end.Status, end.Error = verdict(err)
	end.Installed, end.Changed, end.Removed = orEmpty(change.Installed), orEmpty(change.Changed), orEmpty(change.Removed)
	end.Unchanged = orEmpty(i.leftAsTheyWere(&change, err))
	end.NeedsReset, end.Contexts, end.Unchecked = orEmpty(end.NeedsReset), orEmpty(end.Contexts), orEmpty(end.Unchecked)
	end.Duration = time.Since(began).Seconds()
	if names := changedNames(&change); len(names) > 0 {
		i.box.note(TimelineEvent{Type: PackagesChanged, Packages: names})
	}
	i.box.Touch()
	i.mu.Lock()
	i.state, i.status = executor.Done, end.Status
	i.mu.Unlock()
	i.log.End(line(&end))
}

func (i *Install) install() (packages.Change, error) {
	i.mu.Lock()
	i.state = executor.Running
	i.mu.Unlock()
	ctx, cancel := context.WithTimeout(i.ctx, i.timeout)
	defer cancel()
	stdout, stderr := &lineWriter{log: i.log, typ: executor.Stdout}, &lineWriter{log: i.log, typ: executor.Stderr}
	defer stdout.flush()
	defer stderr.flush()
	request := i.request
	request.Stdout, request.Stderr = stdout, stderr
	return i.box.env.Install(ctx, request)
}

// leftAsTheyWere returns the distributions that were asked for and are as before.
func (i *Install) leftAsTheyWere(change *packages.Change, err error) []packages.Distribution {
	if err != nil {
		return nil
	}
	var same []packages.Distribution
	names := changedNames(change)
	for _, d := range i.box.env.List() {
		named := func(name string) bool { return packages.Normalize(name) == packages.Normalize(d.Name) }
		if slices.ContainsFunc(i.request.Requirements, func(r packages.Requirement) bool { return named(r.Name) }) && !slices.ContainsFunc(names, named) {
			same = append(same, d)
		}
	}
	return same
}

func changedNames(change *packages.Change) []string {
	var names []string
	for _, d := range change.Installed {
		names = append(names, d.Name)
	}
	for _, c := range change.Changed {
		names = append(names, c.Name)
	}
	for _, d := range change.Removed {
		names = append(names, d.Name)
	}
	return names
}

// verdict tells how an installation ended.
func verdict(err error) (executor.Status, *api.Error) {
	var told *api.Error
	var failed *packages.Failed
	switch refused := api.PackageRefused(err); {
	case err == nil:
		return executor.OK, nil
	case errors.Is(err, ErrClosed):
		return executor.SandboxKilled, api.Errorf(api.Gone, "%v", err)
	case errors.Is(err, errInterrupted):
		return executor.Interrupted, api.Errorf(api.Conflict, "the installation was interrupted")
	case errors.Is(err, context.DeadlineExceeded):
		return executor.TimedOut, api.Errorf(api.DeadlineExceeded, "the installation took too long")
	case errors.As(refused, &told):
		return executor.Failed, told
	case errors.As(err, &failed):
		return executor.Failed, api.Errorf(api.Unprocessable, "%v", failed)
	}
	return executor.Failed, api.Errorf(api.Unavailable, "%v", err)
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
