// Package local confines sandboxes on this machine by what Linux gives: namespaces, cgroups,
// Landlock, seccomp. A sandbox is this program, started once more, with all that it starts.
package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/fleet/local/cgroup"
	"github.com/k2sandbox/k2sandbox/fleet/local/network"
	images "github.com/k2sandbox/k2sandbox/fleet/template"
)

// Options of a Runtime.
type Options struct {
	// Dir keeps the sandboxes. It is made where it is not there, and only its owner may enter it.
	Dir string

	// Program is the path of the program that sandboxes are started with; "" is this one. It is built
	// without cgo, with which a process cannot give up privileges as a whole.
	Program string

	// Command is the argument list with which the program calls Enter with descriptor 3. nil
	// is "k2sandbox", "inside".
	Command []string

	// Interpreter is the Python of the sandboxes, an absolute path on the host, which is the same inside.
	Interpreter string

	// Cold has each kernel start its interpreter. Else they are forked from one that has started.
	Cold bool

	// Fresh has no sandboxes wait to be somebody's.
	Fresh bool

	// Environ is what code inside gets of the environment, "NAME=value"; what names files or
	// directories of the host is changed to what is there inside, or left out.
	Environ []string

	// Level is "namespace", "landlock", "none", or "auto", the strongest that works here. "" is "auto".
	Level string

	// Limits are those of sandboxes that ask for none; 0 is this package's.
	Limits fleet.Limits

	// Reserve is what the sandboxes leave of the machine.
	Reserve Reserve

	// Agent is for the agents, which find it in Config.Agent: no business of this package.
	Agent json.RawMessage

	// Abandon is how long sandboxes that are paused stay so where this process has gone and no other follows; 0: for ever.
	Abandon time.Duration

	// Store has templates of images, which sandboxes of the level "namespace" can be made of. nil: there are none.
	Store *images.Store

	// Root has a second template, RootTemplate, in whose sandboxes code can become root, by sudo.
	Root bool

	// Network says what sandboxes with the network "full" reach, and those with others at most.
	Network network.Options

	// Indexes are what those with the network "packages" reach.
	Indexes []network.Endpoint

	// Log is told what goes wrong with nobody to answer to. nil is silence.
	Log *slog.Logger
}

// Runtime makes sandboxes on this machine.
type Runtime struct {
	options  Options
	command  []string
	dir      string
	mark     string // in the names of what has to be unique on this machine
	slots    slots
	owners   sync.Map // user namespaces that rootOf has made, by the first id: ranges are used again
	parent   *cgroup.Parent
	template template
	root     *template // of RootTemplate; nil where there is none, and rootless says why
	rootless error
	imaged   imaged // templates of images
	level    string
	missing  map[string]string // what does not hold for its sandboxes, and why
	subIDs   *subIDs           // of an ordinary user, nil where there are none
	disks    bool              // sandboxes can have disks
	ownIDs   bool              // sandboxes without user namespaces have ids of their own
	zygote   *zygote           // nil where there is none

	warden warden
	spares *spares // nil where there are none
	starts *turns
	counts counts

	images   sync.Mutex   // held while one is made
	naming   sync.RWMutex // held by Sweep, while which nothing gets a name
	live     sync.Map     // the names of what this process has started or adopted, and not removed
	machines sync.Map     // that this process has, but for those that wait
	closed   atomic.Bool
}

// The user inside, but for images that have another.
const (
	userID   = 1000
	userHome = "/home/user"
)

// New returns a Runtime that is ready to start sandboxes, of the strongest level that works, which
// it has tried. ctx bounds the call.
func New(ctx context.Context, o Options) (*Runtime, error) {
	r, err := newRuntime(o)
	if err != nil {
		return nil, err
	}
	if r.template, err = r.makeTemplate(ctx, false); err != nil {
		return nil, fmt.Errorf("cannot make the template: %w", err)
	}
	if err := r.choose(ctx); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	if r.rootless = r.makeRoot(ctx); ctx.Err() != nil {
		return nil, errors.Join(ctx.Err(), r.Close())
	}
	if o.Interpreter != "" && !o.Cold && r.level == fleet.LevelNamespace { // where what it forks is the agent's child
		r.zygote = newZygote(o.Interpreter, r.template.environ, r.options.Log)
	}
	if r.level == fleet.LevelNamespace && !o.Fresh {
		r.spares = newSpares(r)
	}
	return r, nil
}

// newRuntime returns one that starts nothing yet.
func newRuntime(o Options) (*Runtime, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(dir))
	r := &Runtime{options: o, command: o.Command, dir: dir, mark: hex.EncodeToString(sum[:4]), missing: map[string]string{}}
	if r.command == nil {
		r.command = []string{"k2sandbox", "inside"}
	}
	r.starts = newTurns(max(4, 2*runtime.NumCPU()))
	r.slots.dir = filepath.Join(r.dir, "ids")
	for _, dir := range []string{r.sandboxes(), r.slots.dir, r.templates()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("cannot make the directory of the sandboxes: %w", err)
		}
	}
	if err := os.Chmod(r.dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot close the directory of the sandboxes to others: %w", err)
	}
	r.imaged.made = map[string]*template{}
	if o.Store != nil {
		r.imaged.user = o.Store.User(r.mark, r.dir)
	}
	r.parent = cgroup.Find()
	return r, nil
}

// Clear ends all that a Runtime of a process that is gone has left, and removes its directory.
func Clear(o Options) error {
	r, err := newRuntime(o)
	if err != nil {
		return err
	}
	if err := errors.Join(r.Sweep(func(string) bool { return false }), r.Close()); err != nil {
		return err // what is still there is found by its records
	}
	return os.RemoveAll(r.dir)
}

func (r *Runtime) sandboxes() string { return filepath.Join(r.dir, "sandboxes") }
func (r *Runtime) templates() string { return filepath.Join(r.dir, "templates") }
func (r *Runtime) signature() string { return filepath.Join(r.dir, "server") }

// The templates: the host's /usr, read-only, with the interpreter; and the same with a root, who can change it for the sandbox.
const (
	Template     = "k2sandbox/python:latest"
	RootTemplate = "k2sandbox/python:root"
)

// Aliases are other names of Template.
var Aliases = []string{"k2sandbox/python", "default", "host"}

// named returns the template with a name.
func (r *Runtime) named(template string) (string, error) {
	switch {
	case template == "" || template == Template || slices.Contains(Aliases, template):
		return Template, nil
	case template == RootTemplate && r.root != nil:
		return template, nil
	case template == RootTemplate:
		return "", fmt.Errorf("template %s: %w: %w", template, r.rootless, fleet.ErrUnsupported)
	}
	t, err := r.lookUp(template)
	return t.Name, err
}

// Isolation tells how the sandboxes are confined.
func (r *Runtime) Isolation() fleet.Isolation { return r.isolation(r.level) }

// Adopt implements fleet.Runtime.
func (r *Runtime) Adopt(_ context.Context, id string, text json.RawMessage) (fleet.Machine, error) {
	rec := record{Slot: noSlot}
	if err := json.Unmarshal(text, &rec); err != nil || rec.ID != id || filepath.Base(id) != id {
		return nil, errors.Join(fmt.Errorf("cannot use the record of sandbox %q", id), err)
	}
	m, err := r.adopt(rec)
	if err != nil {
		return nil, err
	}
	select {
	case <-m.done:
	default:
		if err := m.serve(); err != nil {
			r.options.Log.Warn("sandbox goes on without network", "sandbox", id, "error", err)
		}
		r.live.Store(rec.Name, true)
		r.machines.Store(m, true)
		return m, nil
	}
	if err := m.Kill(); err != nil {
		return nil, err
	}
	return nil, fleet.ErrGone
}

// adopt returns the machine of a record, which may have ended.
func (r *Runtime) adopt(rec record) (*machine, error) {
	pidfd, err := rec.open()
	if err != nil {
		return nil, err
	}
	m := r.machine()
	m.dir, m.record, m.pidfd = filepath.Join(r.sandboxes(), rec.ID), rec, pidfd
	if r.groups() {
		m.group = r.parent.Group(rec.Name)
	}
	if pidfd == nil {
		close(m.done)
	} else {
		go m.watch(nil)
	}
	return m, nil
}

// Sweep implements fleet.Runtime.
func (r *Runtime) Sweep(keep func(id string) bool) error {
	if err := r.warden.sign(r.signature()); err != nil {
		return err
	}
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
	return errors.Join(failed, r.sweepNames(), r.sweepTemplates(0))
}

// sweepNames removes what was made for names that are not there. Others may be starting sandboxes.
func (r *Runtime) sweepNames() (failed error) {
	r.imaged.mu.Lock() // nobody makes a template, which has a name, too
	defer r.imaged.mu.Unlock()
	r.naming.Lock()
	defer r.naming.Unlock()
	names := r.names()
	for _, name := range r.parent.Names() {
		if strings.HasPrefix(name, r.mark+"-") && !names[name] {
			group := r.parent.Group(name)
			failed = errors.Join(failed, group.Kill(), group.Remove())
		}
	}
	r.slots.sweep(names)
	if r.imaged.user != nil {
		failed = errors.Join(failed, r.imaged.user.Keep(names))
	}
	return failed
}

// names returns the names of all that is there: sandboxes, and what is to become some.
func (r *Runtime) names() map[string]bool {
	names := map[string]bool{}
	r.live.Range(func(name, _ any) bool {
		names[name.(string)] = true
		return true
	})
	for _, rec := range r.records() {
		names[rec.Name] = true
	}
	return names
}

// records returns those of the sandboxes that are there.
func (r *Runtime) records() []*record {
	var all []*record
	entries, _ := os.ReadDir(r.sandboxes())
	for _, e := range entries {
		if rec, err := loadRecord(filepath.Join(r.sandboxes(), e.Name())); err == nil {
			all = append(all, rec)
		}
	}
	return all
}

// sweepTemplates removes layers that no sandbox is made from, but for those that are younger.
func (r *Runtime) sweepTemplates(young time.Duration) error {
	used := map[string]bool{filepath.Base(r.template.dir): true}
	if r.root != nil {
		used[filepath.Base(r.root.dir)] = true
	}
	for _, rec := range r.records() {
		used[rec.Template] = true
	}
	r.imaged.mu.Lock()
	defer r.imaged.mu.Unlock()
	for _, t := range r.imaged.made {
		used[filepath.Base(t.dir)] = true
	}
	entries, err := os.ReadDir(r.templates())
	for _, e := range entries {
		if info, bad := e.Info(); !used[e.Name()] && (bad != nil || time.Since(info.ModTime()) >= young) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(r.templates(), e.Name())))
		}
	}
	return err
}

// sweep ends what is left of one sandbox.
func (r *Runtime) sweep(id string) error {
	dir := filepath.Join(r.sandboxes(), id)
	rec, err := loadRecord(dir)
	if err != nil { // its server died before it ran anything
		return os.RemoveAll(dir)
	}
	m, err := r.adopt(*rec)
	if err != nil {
		return err
	}
	return m.Kill()
}

// remove removes all that a sandbox whose processes have ended had on the host.
func (r *Runtime) remove(rec *record, group *cgroup.Group, dir string) error {
	var failed error
	if group != nil {
		failed = group.Remove()
	}
	if rec.Loop != nil {
		failed = errors.Join(failed, rec.Loop.wait(loopTimeout))
	}
	if dir != "" {
		if err := os.RemoveAll(dir); err != nil {
			failed = errors.Join(failed, fmt.Errorf("cannot remove the sandbox's directory: %w", err))
		}
	}
	if rec.Slot != noSlot && r.slots.owned(rec.Slot, rec.Name) {
		if rec.Level != fleet.LevelNamespace || failed != nil || !r.slots.releaseSoon(rec.Slot, rec.Name) {
			r.disown(r.slots.base(rec.Slot)) // before the slot can be another sandbox's
			r.slots.release(rec.Slot, rec.Name)
		}
	}
	if r.imaged.user != nil {
		failed = errors.Join(failed, r.imaged.user.Release(rec.Name))
	}
	r.live.Delete(rec.Name)
	return failed
}

// Close implements fleet.Runtime.
func (r *Runtime) Close() error {
	r.closed.Store(true)
	if r.spares != nil {
		r.spares.close()
	}
	if r.zygote != nil {
		r.zygote.Close()
	}
	r.owners.Range(func(_, users any) bool {
		users.(*os.File).Close()
		return true
	})
	return errors.Join(r.leaveAll(), r.warden.close())
}

const loopTimeout = 10 * time.Second
