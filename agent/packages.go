package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/kernel/wire"
	"github.com/k2sandbox/k2sandbox/packages"
)

// Errors of packages.
var (
	ErrNoPackages      = errors.New("packages cannot be installed here")
	ErrTooManyInstalls = errors.New("too many installations are waiting")
	errInterrupted     = errors.New("interrupted")
)

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
	done    chan struct{}

	mu     sync.Mutex
	state  executor.State
	status executor.Status
}

// furnish makes the environment that the sandbox's packages go to, over that of
// the default context's Python. Where there can be none the sandbox goes on without,
// and noPackages says why.
func (s *Sandbox) furnish(ctx context.Context) {
	s.environ = s.o.Start.Environ
	if s.environ == nil {
		s.environ = kernel.DefaultEnviron(os.Environ())
	}
	s.installs.turn = make(chan struct{}, 1)
	s.installs.turn <- struct{}{}
	python, err := s.python(&s.o.Spec)
	if err == nil {
		s.environ = besides(s.environ, python)
		s.env, err = packages.New(ctx, python, cmp.Or(s.o.Start.RunDir, os.TempDir()), s.environ, s.o.Packages)
	}
	if err != nil {
		s.noPackages = fmt.Errorf("%w: %w", ErrNoPackages, err)
		s.o.Log.Warn("packages cannot be installed", "error", err)
	}
}

var pythonProgram = regexp.MustCompile(`^python[0-9.]*$`)

// python returns the path of the interpreter that a kernel runs in.
func (s *Sandbox) python(spec *kernel.Spec) (string, error) {
	program := spec.Program(variable(s.environ, "HOME"))
	if !pythonProgram.MatchString(filepath.Base(program)) {
		return "", fmt.Errorf("the kernel %s runs in %s, which is no Python", spec.Name, program)
	}
	if filepath.IsAbs(program) {
		return filepath.Clean(program), nil
	}
	for dir := range strings.SplitSeq(variable(s.environ, "PATH"), ":") {
		if found, err := exec.LookPath(filepath.Join(dir, program)); err == nil && filepath.IsAbs(found) {
			return found, nil
		}
	}
	return "", fmt.Errorf("the kernel's %s is not in PATH", program)
}

// besides returns the environment with the programs and the Jupyter files of the
// interpreter's own installation, behind those of the environment over it.
func besides(environ []string, python string) []string {
	bin := filepath.Dir(python)
	if path := variable(environ, "PATH"); !slices.Contains(strings.Split(path, ":"), bin) {
		environ = append(slices.Clone(environ), "PATH="+strings.TrimSuffix(bin+":"+path, ":"))
	}
	share := filepath.Join(filepath.Dir(bin), "share", "jupyter")
	if info, err := os.Stat(share); err == nil && info.IsDir() {
		path := variable(environ, "JUPYTER_PATH")
		environ = append(slices.Clone(environ), "JUPYTER_PATH="+strings.Trim(path+":"+share, ":"))
	}
	return environ
}

// variable returns the value of a variable, or "".
func variable(environ []string, name string) string {
	for _, v := range slices.Backward(environ) {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

// over returns the kernel, running in the sandbox's own environment where that is
// over the kernel's.
func (s *Sandbox) over(spec kernel.Spec) kernel.Spec {
	if s.env == nil {
		return spec
	}
	if python, err := s.python(&spec); err == nil && python == s.env.Lower() {
		spec.Interpreter = s.env.Python()
	}
	return spec
}

// Packages returns what is installed, by name; ErrNoPackages where the default
// context's kernel is no Python.
func (s *Sandbox) Packages() ([]packages.Distribution, error) {
	if s.env == nil {
		return nil, s.noPackages
	}
	return s.env.List(), nil
}

// Installer returns what installs packages, packages.UV or packages.Pip, or why nothing does.
func (s *Sandbox) Installer() (string, error) {
	if s.env == nil {
		return "", s.noPackages
	}
	name, err := s.env.Installer()
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoPackages, err)
	}
	return name, nil
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
		timeout: cmp.Or(timeout, installTimeout), done: make(chan struct{}),
		log: journal.New(journal.Options{Memory: 1 << 20, Limit: 64 << 20, Spill: s.o.Executor.Spill}),
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
		if !closed(one.done) {
			open++
		}
	}
	if open >= maxInstalls {
		return fmt.Errorf("%w: %d at most", ErrTooManyInstalls, maxInstalls)
	}
	if k.order = append(k.order, i); len(k.order) > keptInstalls {
		oldest := slices.IndexFunc(k.order, func(one *Install) bool { return closed(one.done) })
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

// closePackages ends the installations and removes their environment.
func (s *Sandbox) closePackages() error {
	s.installs.mu.Lock()
	for _, i := range s.installs.order {
		i.cancel(ErrClosed)
	}
	s.installs.mu.Unlock()
	s.installs.work.Wait()
	if s.env == nil {
		return nil
	}
	return s.env.Close()
}

// ID returns the installation's id.
func (i *Install) ID() string { return i.id }

// Done is closed when the end can be read.
func (i *Install) Done() <-chan struct{} { return i.done }

// Lines yields the lines after number after and follows the installation to its end.
func (i *Install) Lines(ctx context.Context, after int64) iter.Seq2[journal.Line, error] {
	return i.log.Lines(ctx, after)
}

// Interrupt ends the installation; executor.ErrFinished where it has ended.
func (i *Install) Interrupt() error {
	if closed(i.done) {
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
	i.mu.Lock()
	i.state, i.status = executor.Done, end.Status
	i.mu.Unlock()
	if names := changedNames(&change); len(names) > 0 {
		i.box.note(TimelineEvent{Type: PackagesChanged, Packages: names})
	}
	i.log.Append(line(&end))
	i.log.Close()
	close(i.done)
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

// afterChange lets the kernels find what is new, and asks which of the modules that
// are others now they have imported. Kernels that are busy for longer than a moment
// are not waited for.
func (s *Sandbox) afterChange(ctx context.Context, change *packages.Change) (modules, contexts, unchecked []string) {
	if len(changedNames(change)) == 0 {
		return nil, nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, askedFor)
	defer cancel()
	var mu sync.Mutex
	var work sync.WaitGroup
	for _, r := range s.pythons() {
		work.Go(func() {
			found, err := imported(ctx, r.Context, change.Modules)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				unchecked = append(unchecked, r.ID())
			case len(found) > 0:
				modules, contexts = append(modules, found...), append(contexts, r.ID())
			}
		})
	}
	work.Wait()
	slices.Sort(modules)
	slices.Sort(contexts)
	slices.Sort(unchecked)
	return slices.Compact(modules), contexts, unchecked
}

// askedFor is how long kernels have to say what they have imported.
const askedFor = time.Second

// pythons returns the contexts whose kernels run in the sandbox's environment and live.
func (s *Sandbox) pythons() []*room {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rooms []*room
	for _, r := range s.contexts {
		if r.spec.Language == "python" && s.over(r.spec).Interpreter != "" && r.Status().State != "dead" {
			rooms = append(rooms, r)
		}
	}
	return rooms
}

// imported asks a kernel which of the modules it has imported. The cell leaves no
// name behind and is not counted.
func imported(ctx context.Context, c *executor.Context, modules []string) ([]string, error) {
	names, err := json.Marshal(orEmpty(modules)) // identifiers: the same in Python
	if err != nil {
		return nil, err
	}
	const code = `exec("import importlib, json, sys\nimportlib.invalidate_caches()\nprint(json.dumps([m for m in names if m in sys.modules]))", {"names": %s})`
	e, err := c.Submit(executor.Cell{Code: fmt.Sprintf(code, names), Silent: true, NoHistory: true})
	if err != nil {
		return nil, err
	}
	defer e.Evict()
	var text strings.Builder
	for event, err := range e.Events(ctx, 0) {
		if err != nil {
			_ = e.Interrupt(context.WithoutCancel(ctx)) // it leaves the queue
			return nil, err
		}
		if event.Type == executor.Stdout {
			text.WriteString(event.Text)
		}
	}
	var found []string
	if err := json.Unmarshal([]byte(text.String()), &found); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(found, func(m string) bool { return !slices.Contains(modules, m) }), nil // it may say anything
}
