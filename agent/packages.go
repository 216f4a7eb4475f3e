package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/k2sandbox/k2sandbox/internal/lazy"
	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/packages"
	"github.com/k2sandbox/k2sandbox/process"
)

// ErrNoPackages means that the sandbox has no environment for packages, or nothing to install them with.
var ErrNoPackages = errors.New("packages cannot be installed here")

// furnish makes the environment that the sandbox's packages go to, over that of
// the default context's Python. Where there can be none the sandbox goes on without,
// and noPackages says why.
func (s *Sandbox) furnish(ctx context.Context) {
	s.environ = s.o.Start.Environ
	if s.environ == nil {
		s.environ = kernel.DefaultEnviron(os.Environ())
	}
	s.environ = append(slices.Clip(s.environ), s.mark())
	s.installs.turn = make(chan struct{}, 1)
	s.installs.turn <- struct{}{}
	python, err := s.python(&s.o.Spec)
	if err == nil {
		s.environ = besides(s.environ, python)
		s.env, err = packages.New(ctx, python, cmp.Or(s.o.Start.RunDir, os.TempDir()), s.environ, s.o.Packages, s.o.On)
	}
	if err != nil {
		s.noPackages = fmt.Errorf("%w: %w", ErrNoPackages, err)
		s.o.Log.Warn("packages cannot be installed", "error", err)
	}
}

// awaitPackages waits until all of the environment is there: meanwhile the first kernel has started.
func (s *Sandbox) awaitPackages() {
	if s.env == nil {
		return
	}
	if err := s.env.Wait(); err != nil {
		s.o.Log.Warn("programs of the kernel's Python are missing in the environment of packages", "error", err)
	}
}

var pythonProgram = lazy.Regexp(`^python[0-9.]*$`)

// python returns the path of the interpreter that a kernel runs in.
func (s *Sandbox) python(spec *kernel.Spec) (string, error) {
	program := spec.Program(process.Variable(s.environ, "HOME"))
	if !pythonProgram().MatchString(filepath.Base(program)) {
		return "", fmt.Errorf("the kernel %s runs in %s, which is no Python", spec.Name, program)
	}
	if filepath.IsAbs(program) {
		return filepath.Clean(program), nil
	}
	if found := lookPath(program, process.Variable(s.environ, "PATH")); found != "" {
		return found, nil
	}
	return "", fmt.Errorf("the kernel's %s is not in PATH", program)
}

// besides returns the environment with the programs and the Jupyter files of the
// interpreter's own installation, behind those of the environment over it.
func besides(environ []string, python string) []string {
	bin := filepath.Dir(python)
	if path := process.Variable(environ, "PATH"); !slices.Contains(strings.Split(path, ":"), bin) {
		environ = append(slices.Clone(environ), "PATH="+strings.TrimSuffix(bin+":"+path, ":"))
	}
	share := filepath.Join(filepath.Dir(bin), "share", "jupyter")
	if info, err := os.Stat(share); err == nil && info.IsDir() {
		path := process.Variable(environ, "JUPYTER_PATH")
		environ = append(slices.Clone(environ), "JUPYTER_PATH="+strings.Trim(path+":"+share, ":"))
	}
	return environ
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

// cancelInstalls ends the installations.
func (s *Sandbox) cancelInstalls() {
	s.installs.mu.Lock()
	defer s.installs.mu.Unlock()
	for _, i := range s.installs.order {
		i.cancel(ErrClosed)
	}
}

// closePackages ends the installations and removes their environment.
func (s *Sandbox) closePackages() error {
	s.cancelInstalls()
	s.installs.work.Wait()
	if s.env == nil {
		return nil
	}
	return s.env.Close()
}
