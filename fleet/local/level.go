package local

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/fleet/local/cage"
)

// choose takes the level that was asked for, or the strongest that works. Only a sandbox that
// was started tells: it is tried with one that is ended at once.
func (r *Runtime) choose(ctx context.Context) error {
	levels := []string{fleet.LevelNamespace, fleet.LevelLandlock}
	switch asked := cmp.Or(r.options.Level, "auto"); asked {
	case "auto":
	case fleet.LevelNamespace, fleet.LevelLandlock, fleet.LevelNone:
		levels = []string{asked}
	default:
		return fmt.Errorf("unknown level %q: want auto, namespace, landlock or none", asked)
	}
	var failed []string
	for _, level := range levels {
		err := r.adjust(ctx, level)
		if err == nil {
			r.level = level
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		r.missing[level] = err.Error()
		failed = append(failed, fmt.Sprintf("level %s does not work here: %v", level, err))
	}
	return fmt.Errorf("%w: %s", ErrNoLevel, strings.ReplaceAll(strings.Join(failed, "; "), "\n", "; "))
}

// ErrNoLevel is what New fails with where this machine does not have the level that was asked for, or any.
var ErrNoLevel = errors.New("this machine cannot confine code as was asked for")

// adjust finds out what of a level works here, and fails where not even the least of it does. A network is no part
// of that: what cannot be had is better than what does not confine.
func (r *Runtime) adjust(ctx context.Context, level string) error {
	for _, what := range []string{"ids", "disk", "network"} {
		delete(r.missing, what) // of a stronger level
	}
	if level == fleet.LevelNamespace {
		r.prepare(ctx)
	} else if err := r.prepareDirs(level); err != nil {
		return err
	}
	if level == fleet.LevelLandlock {
		if err := cage.Probe()["landlock"]; err != nil {
			return err
		}
	}
	err := r.try(ctx, level, false)
	if err != nil && ctx.Err() == nil && level == fleet.LevelNamespace && r.subIDs != nil { // which may be refused where they are used
		r.subIDs, r.missing["ids"] = nil, noIDs+err.Error()
		err = r.try(ctx, level, false)
	}
	if err == nil || ctx.Err() != nil || level != fleet.LevelNamespace || r.missing["network"] != "" {
		return err
	}
	r.missing["network"] = noNetwork + err.Error()
	return r.try(ctx, level, false)
}

const noIDs = "an agent runs as the user that it serves: "

const noNetwork = "sandboxes reach nothing, as the server cannot use a network device: "

// try starts a sandbox of a level up to where it is confined.
func (r *Runtime) try(ctx context.Context, level string, root bool) error {
	m, err := r.prepared(ctx, level, kind{limits: r.limits(fleet.Limits{}), root: root})
	if err != nil {
		return err
	}
	return errors.Join(m.enter(ctx, fleet.Spec{ID: "probe-" + rand.Text(), Cwd: "/"}), m.Kill())
}

// prepare finds out what of a namespace sandbox works here, and what does not, and why.
func (r *Runtime) prepare(ctx context.Context) {
	tun, err := os.OpenFile(tunDevice, os.O_RDWR, 0)
	if err != nil {
		r.missing["network"] = noNetwork + err.Error()
		if errors.Is(err, os.ErrPermission) {
			r.missing["network"] += " (its mode can let this user)"
		}
	} else {
		tun.Close()
	}
	if os.Geteuid() != 0 {
		var why error
		if r.subIDs, why = findSubIDs(); why != nil {
			r.missing["ids"] = noIDs + why.Error()
		}
		r.missing["disk"] = "only root can give a sandbox a disk of its own: its files are kept in memory"
		return
	}
	size := r.limits(fleet.Limits{}).Disk
	d, err := r.newDisk(ctx, size)
	if err != nil {
		r.missing["disk"] = "files are kept in memory: " + err.Error()
		return
	}
	d.close()
	r.disks = true
}
