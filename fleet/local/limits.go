package local

import (
	"cmp"

	"github.com/k2sandbox/k2sandbox/fleet"
)

// Defaults are the limits of a sandbox for which nothing else is said.
var Defaults = fleet.Limits{Memory: 2 << 30, CPUs: 2, Pids: 1024, Disk: 10 << 30, Files: 4096}

func (r *Runtime) limits(asked fleet.Limits) fleet.Limits {
	d := r.options.Limits
	return fleet.Limits{
		Memory: cmp.Or(asked.Memory, d.Memory, Defaults.Memory),
		CPUs:   cmp.Or(asked.CPUs, d.CPUs, Defaults.CPUs),
		Pids:   cmp.Or(asked.Pids, d.Pids, Defaults.Pids),
		Disk:   cmp.Or(asked.Disk, d.Disk, Defaults.Disk),
		Files:  cmp.Or(asked.Files, d.Files, Defaults.Files),
	}
}
