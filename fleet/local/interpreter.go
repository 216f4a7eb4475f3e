package local

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// reach returns the path of an interpreter that sandboxes have: the one given, or, as that may be a link or a script
// somewhere else, what it says of itself.
func (t *template) reach(ctx context.Context, interpreter string) (string, error) {
	if t.has(interpreter) {
		return interpreter, nil
	}
	const ask = `import os, sys; print(sys.executable if sys.prefix != sys.base_prefix else os.path.realpath(sys.executable))`
	out, err := exec.CommandContext(ctx, interpreter, "-I", "-c", ask).Output()
	if err != nil {
		return "", fmt.Errorf("cannot ask %s for its path: %w", interpreter, err)
	}
	path := strings.TrimSuffix(string(out), "\n")
	if !t.has(path) {
		return "", fmt.Errorf("cannot give sandboxes %s: it is outside of the directories that it runs from", interpreter)
	}
	return path, nil
}

// has reports whether a file of the host is at its place inside.
func (t *template) has(path string) bool {
	end, links, err := route(filepath.Dir(path))
	return err == nil && t.covers(end) && !slices.ContainsFunc(links, func(l link) bool {
		return !t.covers(l.path) && !slices.Contains(t.links, l)
	})
}
