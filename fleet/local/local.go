// Package local confines sandboxes on this machine by what Linux gives: namespaces, cgroups,
// Landlock, seccomp. A sandbox is this program, started once more, with all that it starts.
package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/k2sandbox/k2sandbox/fleet"
)

// Options of a Runtime.
type Options struct {
	// Dir keeps the sandboxes. It is made where it is not there, and only its owner may enter it.
	Dir string

	// Command is the argument list with which this program, started again, calls Enter
	// with descriptor 3. nil is "k2sandbox", "inside".
	Command []string

	// Interpreter is the Python of the sandboxes, an absolute path on the host, which is the same inside.
	Interpreter string

	// Environ is what code inside gets of the environment, "NAME=value"; what names files or
	// directories of the host is changed to what is there inside, or left out.
	Environ []string

	// Level is "namespace", "landlock", "none", or "auto", the strongest that works here. "" is "auto".
	Level string

	// Limits are those of sandboxes that ask for none; 0 is this package's.
	Limits fleet.Limits

	// Log is told what goes wrong with nobody to answer to. nil is silence.
	Log *slog.Logger
}

// Runtime makes sandboxes on this machine.
type Runtime struct {
	options  Options
	command  []string
	dir      string
	slots    slots
	template template
}

const userID = 1000 // of the user inside

// New returns a Runtime that is ready to start sandboxes. ctx bounds the call.
func New(ctx context.Context, o Options) (*Runtime, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	r := &Runtime{options: o, command: o.Command, dir: o.Dir}
	if r.command == nil {
		r.command = []string{"k2sandbox", "inside"}
	}
	r.slots = slots{filepath.Join(r.dir, "ids")}
	for _, dir := range []string{r.sandboxes(), r.slots.dir, r.templates()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("cannot make the directory of the sandboxes: %w", err)
		}
	}
	if err := os.Chmod(r.dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot close the directory of the sandboxes to others: %w", err)
	}
	var err error
	if r.template, err = r.makeTemplate(ctx); err != nil {
		return nil, fmt.Errorf("cannot make the template: %w", err)
	}
	return r, nil
}

func (r *Runtime) sandboxes() string { return filepath.Join(r.dir, "sandboxes") }
func (r *Runtime) templates() string { return filepath.Join(r.dir, "templates") }

// Adopt implements fleet.Runtime.
func (r *Runtime) Adopt(_ context.Context, id string, text json.RawMessage) (fleet.Machine, error) {
	rec := record{Slot: -1, Loop: -1}
	if err := json.Unmarshal(text, &rec); err != nil || rec.ID != id {
		return nil, errors.Join(fmt.Errorf("cannot use the record of sandbox %q", id), err)
	}
	dir := filepath.Join(r.sandboxes(), id)
	pidfd, err := rec.open()
	if err != nil {
		return nil, err
	}
	if pidfd == nil {
		if err := r.remove(&rec, dir); err != nil {
			return nil, err
		}
		return nil, fleet.ErrGone
	}
	m := &machine{runtime: r, dir: dir, record: rec, pidfd: pidfd, done: make(chan struct{})}
	go m.watch()
	return m, nil
}

// Sweep implements fleet.Runtime.
func (r *Runtime) Sweep(keep func(id string) bool) error {
	entries, err := os.ReadDir(r.sandboxes())
	if err != nil {
		return fmt.Errorf("cannot list the sandboxes: %w", err)
	}
	var failed error
	for _, e := range entries {
		if !keep(e.Name()) {
			failed = errors.Join(failed, r.sweep(e.Name()))
		}
	}
	r.slots.sweep(keep)
	return failed
}

// sweep ends what is left of one sandbox.
func (r *Runtime) sweep(id string) error {
	dir := filepath.Join(r.sandboxes(), id)
	rec, err := loadRecord(dir)
	if err != nil { // its server died before it ran anything
		return os.RemoveAll(dir)
	}
	m, err := r.Adopt(context.Background(), id, mustJSON(rec))
	if errors.Is(err, fleet.ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	return m.Kill()
}

func mustJSON(v any) json.RawMessage {
	text, _ := json.Marshal(v) // of our own types, which cannot fail
	return text
}

// remove removes all that a sandbox whose processes have ended had on the host.
func (r *Runtime) remove(rec *record, dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("cannot remove the sandbox's directory: %w", err)
	}
	if rec.Slot >= 0 {
		r.slots.release(rec.Slot, rec.ID)
	}
	return nil
}

// Close implements fleet.Runtime.
func (r *Runtime) Close() error { return nil }

const startTimeout = 60 * time.Second
