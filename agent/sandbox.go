// Package agent is one sandbox: it ties kernels and their contexts together, keeps
// the runs that were submitted to them, and ends everything that it started.
package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/files"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/kernel/wire"
	"github.com/k2sandbox/k2sandbox/packages"
	"github.com/k2sandbox/k2sandbox/process"
)

// Errors that a caller can act on.
var (
	ErrNotFound        = errors.New("not found")
	ErrClosed          = errors.New("the sandbox is closed")
	ErrUnknownKernel   = errors.New("unknown kernel")
	ErrTooManyContexts = errors.New("too many contexts")
	ErrDefaultContext  = errors.New("the default context cannot be deleted")
	ErrNoRoot          = errors.New("nobody becomes root in this sandbox")
)

// DefaultContext is the id of the context that is there from the start.
const DefaultContext = "default"

// Options describe a Sandbox.
type Options struct {
	Spec  kernel.Spec                            // of the default context, and of others that name no kernel
	Find  func(name string) (kernel.Spec, error) // other kernels by name; nil: there are none
	List  func() []kernel.Spec                   // all that Find would find; nil: none
	Cwd   string                                 // of the kernels; "" is the agent's own
	Root  string                                 // a directory that Files does not leave, which is its "/"; "" is the whole file system
	Envs  map[string]string                      // for every kernel
	Start kernel.Options                         // how to start a kernel; Spec, Cwd and Envs are filled in
	Log   *slog.Logger                           // nil discards

	Executor    executor.Options // Spill is filled in where it is nil
	MaxContexts int              // 64
	Keep        Keep
	Processes   process.Options  // of commands and terminals
	Packages    packages.Options // what may be installed, and from where

	// On is the thread on which all that code of the sandbox can be is started: kernels,
	// commands, installers. Nil: none is confined. It stays the caller's.
	On *process.Thread
	// AsRoot, where code can become root, is the thread on which commands are started as that.
	AsRoot *process.Thread
	// RootFiles, where there is AsRoot, makes a thread that uses files as root.
	RootFiles func() (*process.Thread, error)
	// RootCommands has all commands run as root, where there is AsRoot.
	RootCommands bool
	// Listeners finds the ports that open, where this process can make none any more. It stays the caller's.
	Listeners *process.Listeners
	// Isolation and Network are what Capabilities tells of them: by default that there is none,
	// and the network of this process.
	Isolation api.Isolation
	Network   string
	// Init has the sandbox wait for orphans, as the first process of a PID namespace has to, and
	// end them when it is closed; see process.Reap. No other child of this process is safe then.
	Init bool
}

// Sandbox is one sandbox. Its methods are safe for concurrent use.
type Sandbox struct {
	o        Options
	runs     runs
	epoch    string
	timeline *journal.Log
	files    *files.Root
	table    *process.Table // of commands and terminals
	watches  sync.WaitGroup // goroutines that wait for what the timeline tells; they end with the contexts
	closing  sync.Once
	haste    context.Context // done: nothing that ends gets time to
	hasten   context.CancelFunc
	ended    chan struct{} // closed when the timeline is
	left     error         // what Close could not end
	unreap   func()
	active   atomic.Int64 // when something last happened, in nanoseconds since 1970; see Activity

	environ    []string              // of kernels, from which installers and processes start too
	env        *packages.Environment // of the sandbox's own packages; nil: noPackages says why
	noPackages error
	installs   installs
	languages  sync.Mutex // held while the default context of one is started
	notebooks  notebooks
	ports      *ports
	keepsakes  keepsakes
	asRoot     chan struct{} // a place for each of FilesAsRoot

	mu       sync.Mutex
	contexts map[string]*room
	told     map[int]*process.Job // the timeline has their beginning and not their end
	starting int                  // contexts on their way into the map
	closed   bool
}

// room is a context with the kernel that it runs in.
type room struct {
	*executor.Context
	kernel   *kernel.Kernel
	spec     kernel.Spec
	language string
	cwd      string
	created  time.Time
}

// ContextInfo tells about a context.
type ContextInfo = api.Context

// ContextOptions describe a new context. At most one of Language and Kernel is set.
type ContextOptions struct {
	ID       string // that no other context has; "" is a new one
	Language string
	Kernel   string
	Cwd      string
	Envs     map[string]string
}

// New starts a sandbox; its default context is ready when it returns. ctx bounds the start.
func New(ctx context.Context, o Options) (*Sandbox, error) {
	o.MaxContexts = cmp.Or(o.MaxContexts, 64)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Executor.Spill == nil {
		o.Executor.Spill = journal.TempStore
	}
	o.Keep.setDefaults()
	o.Start.On, o.Processes.On = o.On, o.On
	if o.Cwd == "" {
		here, err := os.Getwd()
		if err != nil {
			return nil, fmt.Errorf("cannot find the working directory: %w", err)
		}
		o.Cwd = here
	}
	s := &Sandbox{o: o, contexts: map[string]*room{}, timeline: newTimeline(), ended: make(chan struct{}), table: process.NewTable(o.Processes), told: map[int]*process.Job{}, epoch: "ep_" + wire.NewID()[:8], ports: newPorts()}
	s.haste, s.hasten = context.WithCancel(context.Background())
	s.asRoot = make(chan struct{}, maxRootFiles)
	s.note(TimelineEvent{Type: Created})
	if err := o.Packages.Validate(); err != nil {
		return nil, fmt.Errorf("option Packages: %w", err)
	}
	s.unreap = func() {}
	if o.Init {
		s.unreap = process.Reap()
	}
	s.furnish(ctx)
	var err error
	if s.files, err = files.Open(o.Root, o.Cwd); err != nil {
		s.unreap()
		return nil, errors.Join(err, s.closePackages())
	}
	if _, err := s.open(ctx, DefaultContext, o.Spec, ContextOptions{}); err != nil {
		err = errors.Join(err, s.closePackages(), s.files.Close())
		s.unreap()
		return nil, err
	}
	s.awaitPackages()
	s.watches.Go(s.watchPorts)
	return s, nil
}

// CreateContext starts a kernel with a context of its own, ready when it returns.
func (s *Sandbox) CreateContext(ctx context.Context, o ContextOptions) (ContextInfo, error) {
	spec, err := s.spec(o)
	if err != nil {
		return ContextInfo{}, err
	}
	r, err := s.open(ctx, cmp.Or(o.ID, "ctx_"+wire.NewID()[:8]), spec, o)
	if err != nil {
		return ContextInfo{}, err
	}
	return r.info(), nil
}

// spec finds the kernel that the options ask for.
func (s *Sandbox) spec(o ContextOptions) (kernel.Spec, error) {
	if o.Kernel != "" {
		if o.Kernel == s.o.Spec.Name {
			return s.o.Spec, nil
		}
		err := error(kernel.ErrNotFound)
		if s.o.Find != nil {
			var spec kernel.Spec
			if spec, err = s.o.Find(o.Kernel); err == nil {
				return spec, nil
			}
		}
		for _, spec := range s.known() {
			if strings.EqualFold(spec.Name, o.Kernel) {
				return spec, nil
			}
		}
		return kernel.Spec{}, fmt.Errorf("%w %q: %w", ErrUnknownKernel, o.Kernel, err)
	}
	if o.Language == "" || strings.EqualFold(o.Language, s.o.Spec.Language) {
		return s.o.Spec, nil
	}
	others := s.others()
	for _, language := range speaks(o.Language) {
		for _, spec := range others {
			if strings.EqualFold(spec.Language, language) {
				return spec, nil
			}
		}
	}
	return kernel.Spec{}, fmt.Errorf("%w: none for language %q", ErrUnknownKernel, o.Language)
}

// open starts a kernel and puts its context into the map.
func (s *Sandbox) open(ctx context.Context, id string, spec kernel.Spec, o ContextOptions) (*room, error) {
	if err := s.reserve(); err != nil {
		return nil, err
	}
	start := s.o.Start
	start.Environ = s.environ
	start.Spec, start.Cwd, start.Envs = s.over(spec), cmp.Or(o.Cwd, s.o.Cwd), merge(s.o.Envs, o.Envs)
	start.Log = cmp.Or(start.Log, s.o.Log)
	k, err := kernel.Start(ctx, start)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.starting--
	if err != nil {
		return nil, err
	}
	if s.closed {
		k.Close()
		return nil, ErrClosed
	}
	if s.contexts[id] != nil {
		k.Close()
		return nil, fmt.Errorf("context %q is there already", id)
	}
	r := &room{Context: executor.New(id, k, s.o.Executor), kernel: k, spec: spec, language: spec.Language, cwd: start.Cwd, created: time.Now()}
	if o.Language != "" && !strings.EqualFold(o.Language, spec.Language) {
		r.language = strings.ToLower(o.Language)
	}
	s.contexts[id] = r
	s.note(TimelineEvent{Type: ContextCreated, Context: id})
	s.watches.Go(func() { s.noteKernel(r) })
	return r, nil
}

func (s *Sandbox) reserve() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if len(s.contexts)+s.starting >= s.o.MaxContexts {
		return s.noteLimit("", fmt.Errorf("%w: %d at most", ErrTooManyContexts, s.o.MaxContexts))
	}
	s.starting++
	return nil
}

func merge(a, b map[string]string) map[string]string {
	envs := make(map[string]string, len(a)+len(b))
	for _, m := range []map[string]string{a, b} {
		for k, v := range m {
			envs[k] = v
		}
	}
	return envs
}

// Context returns a context; "" is the default one. ErrNotFound where there is none,
// ErrClosed once the sandbox is closed.
func (s *Sandbox) Context(id string) (*executor.Context, error) {
	r, err := s.room(id)
	if err != nil {
		return nil, err
	}
	return r.Context, nil
}

func (s *Sandbox) room(id string) (*room, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if r := s.contexts[cmp.Or(id, DefaultContext)]; r != nil {
		return r, nil
	}
	return nil, fmt.Errorf("context %q: %w", id, ErrNotFound)
}

// ContextInfo tells about one context; ErrNotFound where there is none.
func (s *Sandbox) ContextInfo(id string) (ContextInfo, error) {
	r, err := s.room(id)
	if err != nil {
		return ContextInfo{}, err
	}
	return r.info(), nil
}

// Contexts tells about all contexts, the oldest first.
func (s *Sandbox) Contexts() []ContextInfo {
	s.mu.Lock()
	rooms := make([]*room, 0, len(s.contexts))
	for _, r := range s.contexts {
		rooms = append(rooms, r)
	}
	s.mu.Unlock()
	slices.SortFunc(rooms, func(a, b *room) int { return a.created.Compare(b.created) })
	infos := make([]ContextInfo, len(rooms))
	for i, r := range rooms {
		infos[i] = r.info()
	}
	return infos
}

func (r *room) info() ContextInfo {
	status := r.Status()
	return ContextInfo{
		ContextID: r.ID(), Language: r.language, Kernel: r.spec.Name, Cwd: r.cwd,
		State: status.State, Running: status.Running, Queued: status.Queued, ExecutionCount: status.ExecutionCount,
		CreatedAt: r.created.UTC(), LastActiveAt: status.LastActive.UTC(),
	}
}

// DeleteContext ends a context and its kernel: its open runs end as aborted. It returns
// ErrNotFound, or ErrDefaultContext for the default one.
func (s *Sandbox) DeleteContext(id string) error {
	if id == DefaultContext {
		return ErrDefaultContext
	}
	s.mu.Lock()
	r := s.contexts[id]
	delete(s.contexts, id)
	s.mu.Unlock()
	if r == nil {
		return fmt.Errorf("context %q: %w", id, ErrNotFound)
	}
	s.note(TimelineEvent{Type: ContextDeleted, Context: id})
	return r.close(executor.Aborted)
}

func (r *room) close(status executor.Status) error {
	r.Close(status)
	return r.kernel.Close()
}
