package fleet

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/trace"
)

// CreateOptions describe a new sandbox. All may be left out: the runtime completes it.
type CreateOptions struct {
	Template string
	Cwd      string            // an absolute path inside
	Envs     map[string]string // for all code inside; kept nowhere
	Timeout  time.Duration     // of inactivity; 0 is Options.DefaultTimeout
	Metadata map[string]string // the caller's own, to find the sandbox by
	Limits   Limits
	Network  Network
	Owner    string // id of the key that pays for it

	Term      time.Duration     // it ends this long after its start, in place of Timeout; 0: Timeout holds
	AutoPause bool              // when its time is over it is paused, and not ended
	Labels    map[string]string // what its creator wants to find in Info again, and shows no client
}

// Bounds of CreateOptions.
const (
	maxName = 256 // bytes of a template's name
	maxPath = 4096
	maxEnv  = 64 << 10 // bytes of a variable
)

// Create creates a sandbox and returns when its kernel is ready, with its access token.
// Errors are a *api.Error for options that make no sense,
// a *LimitError, ErrClosed, a *GoneError where it was ended meanwhile, ctx's, and the
// runtime's, such as ErrUnknownTemplate. Where there is an error nothing is left, also
// when ctx ends.
func (f *Fleet) Create(ctx context.Context, o CreateOptions) (info Info, token string, err error) {
	began := time.Now()
	if err = f.check(&o); err != nil {
		return Info{}, "", err
	}
	spec, err := f.o.Runtime.Complete(Spec{
		Owner: o.Owner, ID: "sb_" + strings.ToLower(rand.Text()[:20]), Template: o.Template, Cwd: o.Cwd, Envs: o.Envs, Limits: o.Limits, Network: o.Network, Lease: f.lease(o.Timeout),
	})
	if err != nil {
		return Info{}, "", fmt.Errorf("cannot start sandbox: %w", err)
	}
	ctx, span := trace.Step(ctx, "create", trace.String("k2sandbox.sandbox.id", spec.ID), trace.String("k2sandbox.template", spec.Template))
	defer func() { endSpan(span, err) }()
	start, cancel := context.WithTimeout(ctx, f.o.StartTimeout)
	defer cancel()
	s, err := f.reserve(o, spec, cancel)
	if err != nil {
		f.counts.refuse(err)
		return Info{}, "", err
	}
	defer f.work.Done()
	m, err := f.o.Runtime.Start(start, spec)
	switch cause := start.Err(); {
	case err == nil:
		err = <-f.registry.put(s.take(m, o.Term))
	case errors.Is(err, ErrLimit):
	case cause != nil:
		err = fmt.Errorf("cannot start sandbox: %w: %w", cause, err)
	default:
		err = fmt.Errorf("cannot start sandbox: %w", err)
	}
	info, err = f.settle(ctx, s, err)
	if errors.Is(err, ErrLimit) { // of the machine, as the runtime tells
		f.counts.refuse(err)
		return Info{}, "", err
	}
	if err != nil {
		f.counts.fail()
		f.o.Log.Warn("sandbox not created", "sandbox", s.id, "owner", o.Owner, "template", spec.Template, "error", err)
		return Info{}, "", err
	}
	f.counts.created(time.Since(began))
	f.o.Log.Info("sandbox created", "sandbox", s.id, "owner", o.Owner, "template", spec.Template, "isolation", info.Isolation.Level, "seconds", time.Since(began).Seconds())
	return info, f.AccessToken(s.id), nil
}

func endSpan(span trace.Span, err error) {
	if errors.Is(err, ErrLimit) {
		span.Fail("limit_reached")
		span.End(time.Time{})
		return
	}
	trace.Done(span, err)
}

// reserve gives a new sandbox its place, where its owner may have one more.
func (f *Fleet) reserve(o CreateOptions, spec Spec, abort context.CancelFunc) (*Sandbox, error) {
	s := newSandbox(f, record{
		ID: spec.ID, Owner: o.Owner,
		Template: spec.Template, Cwd: spec.Cwd, Metadata: maps.Clone(o.Metadata),
		Limits: spec.Limits, Network: spec.Network, Timeout: o.Timeout, CreatedAt: utc(time.Now()),
		AutoPause: o.AutoPause, Labels: maps.Clone(o.Labels),
	})
	s.abort = abort
	quota := f.o.Quota(o.Owner)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, ErrClosed
	}
	if err := f.admit(o.Owner, quota); err != nil {
		return nil, err
	}
	f.sandboxes[s.id] = s
	f.work.Add(1)
	return s, nil
}

// settle decides what becomes of a sandbox whose start is over: it runs, unless the
// start failed, somebody ended it meanwhile, or its creator has gone.
func (f *Fleet) settle(ctx context.Context, s *Sandbox, err error) (Info, error) {
	f.mu.Lock()
	if err == nil {
		err = ctx.Err()
	}
	switch {
	case s.state == Ending:
		err = s.record.gone()
		f.work.Go(func() { f.finish(s, Creating) })
	case s.machine == nil:
		s.state, _ = next(s.state, gone)
		delete(f.sandboxes, s.id)
		f.mu.Unlock()
		close(s.tried)
		close(s.gone)
		return Info{}, err
	case err != nil:
		f.endLocked(s, Killed)
		f.work.Go(func() { f.finish(s, Creating) })
	default:
		s.state, _ = next(s.state, started)
		s.active = time.Now()
		f.work.Go(func() { f.watch(s) })
		s.rearm()
		defer f.mu.Unlock()
		return s.info(), nil
	}
	closed := f.closed
	f.mu.Unlock()
	<-s.tried
	if closed {
		err = ErrClosed
	}
	return Info{}, err
}

// check fills in the timeout, and tells what makes no sense by the names of the HTTP API.
func (f *Fleet) check(o *CreateOptions) error {
	var err error
	if o.Timeout, err = f.timeout(cmp.Or(o.Term, o.Timeout)); err != nil {
		return err
	}
	if len(o.Template) > maxName || !printable(o.Template) {
		return api.Invalid("template", "is not a name of at most %d bytes", maxName)
	}
	if o.Cwd != "" && (!strings.HasPrefix(o.Cwd, "/") || len(o.Cwd) > maxPath || strings.ContainsRune(o.Cwd, 0)) {
		return api.Invalid("cwd", "is not an absolute path of at most %d bytes", maxPath)
	}
	if err := checkEnvs(o.Envs); err != nil {
		return err
	}
	if err := checkMetadata(o.Metadata); err != nil {
		return err
	}
	asked := api.SandboxRequest{Network: &api.NetworkRequest{Mode: api.NetworkMode(o.Network.Mode), Allow: o.Network.Allow}}
	if err := asked.Validate(); err != nil {
		return err
	}
	o.Network.Mode = string(asked.Network.Chosen())
	return o.Limits.check()
}

// timeout returns the timeout that is meant by one that was asked for.
func (f *Fleet) timeout(asked time.Duration) (time.Duration, error) {
	switch {
	case asked == 0:
		return f.o.DefaultTimeout, nil
	case asked < 0:
		return 0, api.Invalid("timeout", "is negative")
	case asked > f.o.MaxTimeout:
		return 0, api.Invalid("timeout", "is more than %v seconds", f.o.MaxTimeout.Seconds())
	}
	return asked, nil
}

func checkEnvs(envs map[string]string) error {
	size := 0
	for name, value := range envs {
		size += len(name) + len(value) + 2
		switch {
		case len(name)+len(value) > maxEnv:
			return api.Invalid("envs", "%.64q has more than %d bytes", name, maxEnv)
		case size > api.MaxEnvs:
			return api.Invalid("envs", "have more than %d bytes", api.MaxEnvs)
		}
	}
	return api.ValidEnvs("envs", envs)
}

func checkMetadata(pairs map[string]string) error {
	if len(pairs) > api.MaxMetadata {
		return api.Invalid("metadata", "has more than %d keys", api.MaxMetadata)
	}
	for key, value := range pairs {
		if err := api.ValidMetadata(key, value); err != nil {
			return err
		}
	}
	return nil
}

func (l Limits) check() error {
	if math.IsNaN(l.CPUs) || math.IsInf(l.CPUs, 0) || l.CPUs < 0 {
		return api.Invalid("limits.cpus", "is no number of cores")
	}
	for _, limit := range []struct {
		field string
		value int64
	}{{"limits.memory_mb", l.Memory}, {"limits.pids", l.Pids}, {"limits.disk_mb", l.Disk}, {"limits.files", l.Files}} {
		if limit.value < 0 {
			return api.Invalid(limit.field, "is negative")
		}
	}
	return nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}
