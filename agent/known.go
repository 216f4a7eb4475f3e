package agent

import (
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/process"
)

// others returns the kernels beside the default context's, those that a user has set up first.
func (s *Sandbox) others() []kernel.Spec {
	var specs []kernel.Spec
	if s.o.List != nil {
		specs = s.o.List()
	}
	return append(specs, s.known()...)
}

// speaks returns the languages that a kernel may have for cells of one, the best first.
func speaks(language string) []string {
	if strings.EqualFold(language, "javascript") {
		return []string{language, "typescript"}
	}
	return []string{language}
}

// known returns the kernels that need no kernel.json, which are those whose programs are there: in the
// sandbox's own environment, in the one below it, or in PATH.
func (s *Sandbox) known() []kernel.Spec {
	var specs []kernel.Spec
	if python, err := s.python(&s.o.Spec); err == nil && s.hasModule(python, "bash_kernel") {
		specs = append(specs, kernel.BashSpec(python))
	}
	if deno := lookPath("deno", s.path()); deno != "" {
		specs = append(specs, kernel.DenoSpec(deno))
	}
	return specs
}

// hasModule reports whether the interpreter, or that of the environment over it, has a module.
func (s *Sandbox) hasModule(python, name string) bool {
	pythons := []string{python}
	if s.env != nil {
		pythons = append(pythons, s.env.Python())
	}
	for _, python := range pythons {
		found, _ := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(python)), "lib", "python3*", "site-packages", name, "__main__.py"))
		if len(found) > 0 {
			return true
		}
	}
	return false
}

// path returns where code in the sandbox finds programs.
func (s *Sandbox) path() string {
	path := process.Variable(s.environ, "PATH")
	if s.env != nil {
		path = filepath.Dir(s.env.Python()) + ":" + path
	}
	return path
}

// lookPath returns where a program is in a PATH; "" where it is nowhere.
func lookPath(program, path string) string {
	for dir := range strings.SplitSeq(path, ":") {
		if found, err := exec.LookPath(filepath.Join(dir, program)); err == nil && filepath.IsAbs(found) {
			return found
		}
	}
	return ""
}
