package python

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// The Python versions that the requirements are pinned for.
const oldest, newest = 10, 14

// Base is an installed Python from which an environment can be made.
type Base struct {
	Path    string // of the interpreter itself, not of a shim
	Version string // as in 3.12.4
	abi     string // as in cpython-312-x86_64-linux-gnu
}

// Find returns the Python that name, a path or a command on PATH, stands for. Without a name it
// is the first of python3, python3.14 … python3.10 that an environment can be made from.
// The error says what is wrong with each that is there.
func Find(ctx context.Context, name string) (Base, error) {
	names := []string{name}
	if name == "" {
		names = []string{"python3"}
		for minor := newest; minor >= oldest; minor-- {
			names = append(names, fmt.Sprintf("python3.%d", minor))
		}
	}
	var problems []error
	for _, name := range names {
		path, err := exec.LookPath(name)
		if errors.Is(err, exec.ErrNotFound) {
			continue
		}
		base, err := inspect(ctx, path)
		if err == nil {
			return base, nil
		}
		problems = append(problems, fmt.Errorf("%s: %w", path, err))
	}
	if err := context.Cause(ctx); err != nil {
		return Base{}, err
	}
	wanted := fmt.Sprintf("Python 3.%d to 3.%d", oldest, newest)
	if len(problems) > 0 {
		return Base{}, fmt.Errorf("cannot use the Python that is installed (%s is needed):\n%w", wanted, errors.Join(problems...))
	}
	if name != "" {
		return Base{}, fmt.Errorf("cannot find %s: there is no such program (%s is needed)", name, wanted)
	}
	return Base{}, fmt.Errorf("cannot find python3 on PATH: install %s (Debian, Ubuntu: apt install python3 python3-venv)", wanted)
}

const inspection = `
import json, platform, sys, sysconfig
from importlib.util import find_spec
print(json.dumps({
    "path": sys.executable,
    "version": platform.python_version(),
    "minor": sys.version_info[1] if sys.version_info[0] == 3 else -1,
    "implementation": sys.implementation.name,
    "abi": sysconfig.get_config_var("SOABI") or sys.implementation.cache_tag,
    "missing": [name for name in ("venv", "ensurepip") if find_spec(name) is None],
}))
`

func inspect(ctx context.Context, path string) (Base, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var words tail
	cmd := exec.CommandContext(ctx, path, "-I", "-c", inspection)
	cmd.Stderr = &words
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return Base{}, fmt.Errorf("it does not run: %w%s", err, words.String())
	}
	var p struct {
		Path, Version, Implementation, ABI string
		Minor                              int
		Missing                            []string
	}
	if err := json.Unmarshal(out, &p); err != nil {
		return Base{}, fmt.Errorf("it does not answer as Python would: %w", err)
	}
	switch {
	case p.Minor < oldest:
		return Base{}, fmt.Errorf("it is Python %s, which is too old", p.Version)
	case p.Minor > newest:
		return Base{}, fmt.Errorf("it is Python %s, which is newer than this version of k2sandbox knows", p.Version)
	case p.Implementation != "cpython":
		return Base{}, fmt.Errorf("it is %s, not CPython", p.Implementation)
	case len(p.Missing) > 0:
		return Base{}, fmt.Errorf("it has no module %s: install it (Debian, Ubuntu: apt install python3-venv)",
			strings.Join(p.Missing, " and no module "))
	}
	return Base{Path: p.Path, Version: p.Version, abi: p.ABI}, nil
}
