package packages

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/k2sandbox/k2sandbox/process"
)

// Request says what to install.
type Request struct {
	Requirements []Requirement
	Upgrade      bool // to the newest version, also what is there; what it needs, only if it must

	Stdout, Stderr io.Writer // what the installer says
}

// Failed is the error of an installer that failed: it has said why.
type Failed struct {
	Installer string
	Exit      process.Exit
	Words     string // the end of what it said
}

func (f *Failed) Error() string {
	if f.Words != "" {
		return f.Words
	}
	return fmt.Sprintf("%s ended with status %d %s", f.Installer, f.Exit.Code, f.Exit.Signal)
}

// Installer returns the installer that there is, UV or Pip; ErrNoInstaller where there is none.
func (e *Environment) Installer() (string, error) {
	name, _, err := e.installer()
	return name, err
}

func (e *Environment) installer() (name string, argv []string, err error) {
	if e.o.Installer != Pip {
		for _, dir := range append([]string{filepath.Dir(e.lower.Interpreter)}, filepath.SplitList(process.Variable(e.environ, "PATH"))...) {
			uv := filepath.Join(dir, "uv")
			if stat, err := os.Stat(uv); filepath.IsAbs(dir) && err == nil && stat.Mode().IsRegular() && stat.Mode()&0o111 != 0 {
				// The lower interpreter is one that uv knows from other sandboxes. Copies, as what
				// code in one sandbox does to a file must not reach the cache that others share.
				return UV, []string{uv, "pip", "install", "--python", e.lower.Interpreter, "--link-mode", "copy"}, nil
			}
		}
	}
	if e.o.Installer != UV && e.hasPip() {
		return Pip, []string{e.Python(), "-m", "pip", "install", "--progress-bar", "off"}, nil
	}
	return "", nil, fmt.Errorf("%w: %s has no %s", ErrNoInstaller, e.lower.Interpreter,
		map[string]string{UV: "uv", Pip: "pip", "": "uv and no pip"}[e.o.Installer])
}

// Install installs the requirements and tells what that changed. ctx's end ends the
// installer. Errors are a *Refused or *URLRefused, ErrNoInstaller, a *Failed, or ctx's cause.
// One call at a time.
func (e *Environment) Install(ctx context.Context, r Request) (Change, error) {
	if err := e.o.Check(r.Requirements); err != nil {
		return Change{}, err
	}
	if err := e.mend(); err != nil {
		return Change{}, fmt.Errorf("cannot make environment: %w", err)
	}
	name, argv, err := e.installer()
	if err != nil {
		return Change{}, err
	}
	before := e.List()
	own := map[string][]string{} // read now, as the files may be gone later
	for _, d := range before {
		if e.owns(d) {
			own[d.info] = d.modules()
		}
	}
	argv = append(argv, e.sources()...)
	if name == UV {
		err = e.withUV(ctx, argv, r, before)
	} else {
		err = e.withPip(ctx, argv, r)
	}
	change := compare(before, e.List())
	change.Modules = e.modulesOf(before, own, change)
	return change, err
}

// owns reports whether the distribution is in the upper environment.
func (e *Environment) owns(d Distribution) bool { return filepath.Dir(d.info) == e.site(e.dir) }

// modulesOf returns the modules of distributions that were changed or removed.
func (e *Environment) modulesOf(before []Distribution, own map[string][]string, change Change) []string {
	gone := map[string]bool{}
	for _, c := range change.Changed {
		gone[Normalize(c.Name)] = true
	}
	for _, d := range change.Removed {
		gone[Normalize(d.Name)] = true
	}
	var modules []string
	for _, d := range before {
		switch {
		case !gone[Normalize(d.Name)]:
		case e.owns(d):
			modules = append(modules, own[d.info]...)
		default:
			modules = append(modules, d.modules()...)
		}
	}
	slices.Sort(modules)
	return slices.Compact(modules)
}

// sources returns where to look for distributions, as arguments that uv and pip share.
func (e *Environment) sources() []string {
	var args []string
	for i, url := range e.o.Index {
		if i == 0 {
			args = append(args, "--index-url", url)
		} else {
			args = append(args, "--extra-index-url", url)
		}
	}
	for _, place := range e.o.FindLinks {
		args = append(args, "--find-links", place)
	}
	if e.o.NoIndex {
		args = append(args, "--no-index")
	}
	return args
}

func (r Request) args() []string {
	args := []string{"--"}
	for _, one := range r.Requirements {
		args = append(args, one.String())
	}
	return args
}

// withUV installs into a stage and moves what is there then.
func (e *Environment) withUV(ctx context.Context, argv []string, r Request, before []Distribution) error {
	s, err := e.prepare(before)
	if err != nil {
		return fmt.Errorf("cannot prepare: %w", err)
	}
	argv = append(argv, "--prefix", s.dir)
	for _, one := range r.Requirements {
		if r.Upgrade {
			argv = append(argv, "--upgrade-package", one.Name)
		}
	}
	defer func() {
		if e.stage == nil {
			_ = s.remove() // what is left now is removed before the next
		}
	}()
	if err := e.run(ctx, UV, append(argv, r.args()...), r.Stdout, r.Stderr); err != nil {
		return err
	}
	replaced := s.replaced()
	for _, d := range s.new() {
		if !e.o.allows(d.Name) {
			return &Refused{d.Name, -1}
		}
	}
	if err := s.land(replaced); err != nil {
		return fmt.Errorf("cannot take over: %w", err)
	}
	e.stage = s
	return nil
}

// withPip installs right into the environment; where there are lists, what would
// be installed is looked at before.
func (e *Environment) withPip(ctx context.Context, argv []string, r Request) error {
	if r.Upgrade {
		argv = append(argv, "--upgrade")
	}
	if len(e.o.Allow)+len(e.o.Deny) > 0 {
		if err := e.tryPip(ctx, argv, r); err != nil {
			return err
		}
	}
	return e.run(ctx, Pip, append(argv, r.args()...), r.Stdout, r.Stderr)
}

func (e *Environment) tryPip(ctx context.Context, argv []string, r Request) error {
	report := filepath.Join(e.dir, "report.json")
	defer os.Remove(report)
	argv = append(slices.Clone(argv), "--dry-run", "--quiet", "--report", report)
	if err := e.run(ctx, Pip, append(argv, r.args()...), r.Stdout, r.Stderr); err != nil {
		return err
	}
	raw, err := os.ReadFile(report)
	if err != nil {
		return fmt.Errorf("cannot read what pip would do: %w", err)
	}
	var plan struct {
		Install []struct {
			Metadata struct{ Name string }
		}
	}
	if err := json.Unmarshal(raw, &plan); err != nil {
		return fmt.Errorf("cannot read what pip would do: %w", err)
	}
	for _, one := range plan.Install {
		if !e.o.allows(one.Metadata.Name) {
			return &Refused{one.Metadata.Name, -1}
		}
	}
	return nil
}

// grace is how long an installer that was told to end may take to put things back.
const grace = 3 * time.Second

func (e *Environment) run(ctx context.Context, name string, argv []string, stdout, stderr io.Writer) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	words := &tail{next: stderr}
	p, err := process.Start(process.Command{
		Args: argv, Dir: e.dir, Env: e.installerEnviron(), Stdout: stdout, Stderr: words, KillGroup: true, Guard: e.guard, On: e.on,
	})
	if err != nil {
		return err
	}
	defer p.Close()
	select {
	case <-p.Done():
	case <-ctx.Done():
		_ = p.Signal(syscall.SIGINT) // which pip puts things back for
		select {
		case <-p.Done():
		case <-time.After(grace):
		}
	}
	p.Close()
	if err := context.Cause(ctx); err != nil {
		return errors.Join(err, e.guard.Sweep()) // of what it started in sessions of their own
	}
	if exit := p.Exit(); exit != (process.Exit{}) {
		return &Failed{name, exit, strings.TrimSpace(words.String())}
	}
	return nil
}

func (e *Environment) installerEnviron() []string {
	env := without(e.environ, "PYTHONPATH", "VIRTUAL_ENV", "CONDA_PREFIX")
	env = append(env, mirror(env)...)
	return append(env, "NO_COLOR=1", "UV_NO_PROGRESS=1", "UV_PYTHON_DOWNLOADS=never", "PYTHONUTF8=1", "PYTHONUNBUFFERED=1",
		"PIP_NO_INPUT=1", "PIP_DISABLE_PIP_VERSION_CHECK=1", "PIP_NO_COLOR=1", "PIP_ROOT_USER_ACTION=ignore")
}

// tail passes on what is written, and keeps the end of it.
type tail struct {
	next io.Writer
	kept []byte
}

const tailSize = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if len(t.kept) > 2*tailSize {
		t.kept = slices.Clone(t.kept[len(t.kept)-tailSize:])
	}
	if t.next == nil {
		return len(p), nil
	}
	return t.next.Write(p)
}

func (t *tail) String() string {
	kept := t.kept
	if len(kept) > tailSize {
		kept = kept[len(kept)-tailSize:]
	}
	return strings.ToValidUTF8(string(kept), "")
}
