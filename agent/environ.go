package agent

import (
	"cmp"

	"github.com/k2sandbox/k2sandbox/process"
)

// Envs returns the variables that the sandbox was given for all that it starts.
func (s *Sandbox) Envs() map[string]string { return merge(s.o.Envs, nil) }

// Home returns the home directory of the sandbox's user; where nothing tells it, the working
// directory.
func (s *Sandbox) Home() string {
	return cmp.Or(s.o.Envs["HOME"], process.Variable(s.environ, "HOME"), s.o.Cwd)
}
