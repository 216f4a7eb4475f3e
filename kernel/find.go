package kernel

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/k2sandbox/k2sandbox/internal/lazy"
)

// ErrNotFound means that no kernel spec has the name.
var ErrNotFound = errors.New("no such kernel spec")

// SearchPath is the directories that hold kernel specs, a directory each; the
// first that has a name wins.
type SearchPath []string

// DefaultSearchPath returns Jupyter's order, with the environment read through
// getenv (os.Getenv): JUPYTER_PATH, the user's data directory, the given prefixes
// and the active virtual environment (these two before the user's where one is
// active), the system's, IPython's.
// https://docs.jupyter.org/en/latest/use/jupyter-directories.html
func DefaultSearchPath(getenv func(string) string, prefixes ...string) SearchPath {
	home := getenv("HOME")
	var path SearchPath
	add := func(parts ...string) {
		if parts[0] != "" {
			path = append(path, filepath.Join(parts...))
		}
	}
	for dir := range strings.SplitSeq(getenv("JUPYTER_PATH"), ":") {
		add(dir, "kernels")
	}
	user := func() {
		switch {
		case getenv("JUPYTER_DATA_DIR") != "":
			add(getenv("JUPYTER_DATA_DIR"), "kernels")
		case getenv("XDG_DATA_HOME") != "":
			add(getenv("XDG_DATA_HOME"), "jupyter/kernels")
		default:
			add(home, ".local/share/jupyter/kernels")
		}
	}
	venv, conda := getenv("VIRTUAL_ENV"), getenv("CONDA_PREFIX")
	active := venv != "" || conda != "" || getenv("JUPYTER_PREFER_ENV_PATH") != ""
	if !active {
		user()
	}
	for _, prefix := range append(prefixes, venv, conda) {
		add(prefix, "share/jupyter/kernels")
	}
	if active {
		user()
	}
	add("/usr/local/share/jupyter/kernels")
	add("/usr/share/jupyter/kernels")
	add(home, ".ipython/kernels")
	return path
}

var specName = lazy.Regexp(`^[A-Za-z0-9._-]+$`)

// Find returns the spec with the name, whose case does not matter. The error is
// ErrNotFound where there is none.
func Find(name string, path SearchPath) (Spec, error) {
	if !specName().MatchString(name) {
		return Spec{}, fmt.Errorf("kernel name %q: letters, digits, '.', '_' and '-' only", name)
	}
	for _, dir := range path {
		for _, found := range names(dir) {
			if strings.EqualFold(found, name) {
				return ReadSpec(filepath.Join(dir, found))
			}
		}
	}
	return Spec{}, fmt.Errorf("%w: %q (looked in %s)", ErrNotFound, name, strings.Join(path, ", "))
}

// List returns every spec that Find would find, in the order of the path. Broken
// ones are left out, and errs says why.
func List(path SearchPath) (specs []Spec, errs []error) {
	seen := map[string]bool{}
	for _, dir := range path {
		for _, name := range names(dir) {
			if seen[strings.ToLower(name)] {
				continue
			}
			seen[strings.ToLower(name)] = true
			if s, err := ReadSpec(filepath.Join(dir, name)); err != nil {
				errs = append(errs, err)
			} else {
				specs = append(specs, s)
			}
		}
	}
	return specs, errs
}

// names lists the subdirectories that hold a kernel.json.
func names(dir string) []string {
	entries, _ := os.ReadDir(dir)
	var found []string
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(dir, e.Name(), "kernel.json"))
		if err == nil && info.Mode().IsRegular() && specName().MatchString(e.Name()) {
			found = append(found, e.Name())
		}
	}
	return found
}
