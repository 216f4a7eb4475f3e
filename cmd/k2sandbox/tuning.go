package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/packages"
)

// tuning is what flags of the server say of the agents in its sandboxes.
type tuning struct {
	MaxContexts, MaxQueued int
	MaxOutput              int64 // bytes
	Grace                  time.Duration
	Packages               packages.Options
	Ping                   time.Duration // of Jupyter's WebSockets; 0 is the default
	Launcher               launcher
}

// tune returns what flags say as the agents will read it.
func tune(l *limits, p *packageFlags, ping time.Duration, way launcher) (json.RawMessage, error) {
	o, err := l.options()
	if err != nil {
		return nil, err
	}
	t := tuning{
		MaxContexts: o.MaxContexts, MaxQueued: o.Executor.QueueLimit, MaxOutput: o.Executor.LogLimit, Grace: o.Executor.Grace, Ping: ping, Launcher: way,
	}
	if t.Packages, err = p.options(); err != nil {
		return nil, err
	}
	t.Packages.Index, t.Packages.FindLinks = nil, nil // see environ
	return json.Marshal(t)
}

// apply changes the options of an agent by what it has read, with the output that its disk has room for.
func (t tuning) apply(o *agent.Options, room int64) {
	o.MaxContexts, o.Packages = t.MaxContexts, t.Packages
	o.Executor.QueueLimit, o.Executor.Grace, o.Executor.LogLimit = t.MaxQueued, t.Grace, t.MaxOutput
	if room > 0 {
		o.Executor.LogLimit = min(room, t.MaxOutput)
	}
}

// environ returns the server's environment with where packages come from, for all that
// installs them in a sandbox, and for what finds out which hosts and folders those are.
func (f *packageFlags) environ(environ []string) ([]string, error) {
	set := map[string][]string{} // by the variable of pip, of which those of uv are made
	if len(f.Index) > 0 {
		set["PIP_INDEX_URL"], set["PIP_EXTRA_INDEX_URL"] = f.Index[:1], f.Index[1:]
	}
	for _, place := range f.FindLinks {
		if !strings.Contains(place, "://") {
			var err error
			if place, err = filepath.Abs(place); err != nil {
				return nil, fmt.Errorf("--package-find-links: %w", err)
			}
		}
		set["PIP_FIND_LINKS"] = append(set["PIP_FIND_LINKS"], place)
	}
	over := map[string]string{
		"UV_DEFAULT_INDEX": "PIP_INDEX_URL", "UV_INDEX_URL": "PIP_INDEX_URL", "UV_INDEX": "PIP_EXTRA_INDEX_URL", "UV_EXTRA_INDEX_URL": "PIP_EXTRA_INDEX_URL", "UV_FIND_LINKS": "PIP_FIND_LINKS",
	}
	environ = slices.DeleteFunc(slices.Clone(environ), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		_, pip := set[name]
		_, uv := set[over[name]]
		return pip || uv
	})
	for name, values := range set {
		if len(values) > 0 {
			environ = append(environ, name+"="+strings.Join(values, " "))
		}
	}
	return environ, nil
}
