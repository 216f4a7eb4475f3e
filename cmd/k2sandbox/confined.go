package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/fleet/local"
	"github.com/k2sandbox/k2sandbox/fleet/local/network"
	"github.com/k2sandbox/k2sandbox/fleet/template"
	"github.com/k2sandbox/k2sandbox/kernel"
)

// confined are the flags that say how sandboxes are confined, and what they may use.
type confined struct {
	level            string
	timeout          seconds
	maxTimeout       seconds
	orphan           seconds
	max, perKey      int
	createsPerMinute float64
	cold             bool
	fresh            bool // no sandbox waits to be somebody's
	limits           fleet.Limits
	memory, disk     int
	private          bool
	nameable         []string
	trusted          bool // whoever uses the server is on this host: there are no keys
	keepMemory       int  // MiB, as keepDisk
	keepPids         int
	keepDisk         int
	root             bool
	store            *template.Store // nil where there cannot be one
}

func (c *confined) add(cmd *cobra.Command) {
	c.timeout, c.maxTimeout, c.orphan = seconds(300*time.Second), seconds(24*time.Hour), seconds(time.Hour)
	flags := cmd.Flags()
	flags.StringVar(&c.level, "isolation", "auto", `how code is confined: "namespace", "landlock", "auto" for the strongest that works here, or "none", which is not at all`)
	flags.Var(&c.timeout, "timeout", "how long a sandbox may do nothing, unless its creator says otherwise")
	flags.Var(&c.maxTimeout, "max-timeout", "the longest that a creator may say")
	flags.Var(&c.orphan, "orphan-timeout", fmt.Sprintf("how long past its time a sandbox lives on for a server that follows, where none comes (at least %v, or 0: for ever)", minOrphan))
	flags.IntVar(&c.max, "max-sandboxes", 1000, "sandboxes at a time")
	flags.IntVar(&c.perKey, "max-sandboxes-per-key", 0, "sandboxes of one API key at a time (0: no bound)")
	flags.Float64Var(&c.createsPerMinute, "creates-per-minute", 0, "sandboxes that one API key may create in a minute (0: no bound)")
	flags.IntVar(&c.keepMemory, "keep-free-memory", 256, "MiB of the machine's memory that are to be available beside sandboxes that start: where they would not be, a create is refused (0: it never is)")
	flags.IntVar(&c.keepPids, "keep-free-pids", 256, "processes and threads that are to be left, likewise")
	flags.IntVar(&c.keepDisk, "keep-free-disk", 256, "MiB that are to be free on the disk of the sandboxes, likewise")
	flags.BoolVar(&c.cold, "cold-start", false, "start Python for each kernel, in place of a fork of one that has started")
	flags.IntVar(&c.memory, "memory", int(local.Defaults.Memory>>20), "MiB of memory of a sandbox, unless its creator says otherwise")
	flags.Float64Var(&c.limits.CPUs, "cpus", local.Defaults.CPUs, "cores of a sandbox, unless its creator says otherwise")
	flags.Int64Var(&c.limits.Pids, "pids", local.Defaults.Pids, "processes and threads of a sandbox, unless its creator says otherwise")
	flags.IntVar(&c.disk, "disk", int(local.Defaults.Disk>>20), "MiB of files of a sandbox, unless its creator says otherwise")
	flags.Int64Var(&c.limits.Files, "open-files", local.Defaults.Files, "open files of a process, unless its sandbox's creator says otherwise")
	flags.BoolVar(&c.root, "root-template", false, "have a template "+local.RootTemplate+", too, in whose sandboxes \"sudo\" makes code root of that sandbox")
	flags.StringSliceVar(&c.nameable, "private-network", nil, "range of a private network (CIDR) of which the destinations that a sandbox is allowed may name parts (default: none, and without API keys any)")
	flags.BoolVar(&c.private, "allow-private-networks", false, "let sandboxes reach private networks, though not this host, link-local addresses or each other")
}

// runtime returns what makes the sandboxes.
func (o *serving) runtime(ctx context.Context, dir string, log *slog.Logger) (*local.Runtime, error) {
	limits, err := o.confined.check()
	if err != nil {
		return nil, err
	}
	agents, err := tune(&o.limits, &o.packages, o.jupyter.ping, o.s.launcher)
	if err != nil {
		return nil, err
	}
	environ, err := o.packages.environ(kernel.DefaultEnviron(os.Environ()))
	if err != nil {
		return nil, err
	}
	spec, err := o.s.spec(ctx)
	if err != nil {
		return nil, err
	}
	if err := checkInterpreter(ctx, o.s.python, spec.Argv[0]); err != nil {
		return nil, err
	}
	o.jupyter.spec = spec
	policy, err := o.confined.policy()
	if err != nil {
		return nil, err
	}
	environ, net, indexes := reach(environ, policy)
	if o.confined.store, err = o.s.store(); err != nil {
		log.Warn("there are no templates of images", "why", err)
	}
	clearBuilds(o.confined.store, log)
	r, err := local.New(ctx, local.Options{
		Dir: dir, Store: o.confined.store, Interpreter: spec.Argv[0], Cold: o.confined.cold, Fresh: o.confined.fresh, Environ: environ, Level: o.confined.level, Limits: limits, Reserve: o.confined.reserve(), Abandon: o.confined.abandon(), Root: o.confined.root, Agent: agents, Network: net, Indexes: indexes, Log: log,
	})
	if errors.Is(err, local.ErrNoLevel) && o.confined.level != fleet.LevelNone {
		err = fmt.Errorf("%w. Places that other users can enter are chosen by --data-dir, --python and --state-dir; --isolation none confines nothing", err)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot confine sandboxes: %w", err)
	}
	told := r.Isolation()
	log.Info("sandboxes are confined", "level", told.Level)
	for _, what := range slices.Sorted(maps.Keys(told.Missing)) {
		log.Warn("not all of the confinement works here", "missing", what, "why", told.Missing[what])
	}
	if why := r.Root(); o.confined.root && why != nil {
		log.Warn("there is no template with a root here", "template", local.RootTemplate, "why", why)
	}
	if told.Level == fleet.LevelNone {
		log.Warn("nothing keeps code in sandboxes from this host: it can do all that this user can")
	}
	return r, nil
}

// policy is what no sandbox's rules go beyond.
func (c *confined) policy() (network.Policy, error) {
	p := network.Policy{AllowPrivate: c.private}
	for _, text := range c.nameable {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return p, fmt.Errorf("--private-network: %w", err)
		}
		p.Nameable = append(p.Nameable, prefix.Masked())
	}
	if c.trusted && len(p.Nameable) == 0 {
		p.Nameable = []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}
	}
	return p, nil
}

// checkInterpreter checks that one that was asked for has what kernels need, so that not each sandbox fails for it.
func checkInterpreter(ctx context.Context, asked, path string) error {
	if asked == "" {
		return nil
	}
	const ask = "import importlib.util, sys; sys.exit(0 if importlib.util.find_spec('ipykernel') else 9)"
	err := exec.CommandContext(ctx, path, "-I", "-c", ask).Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 9 {
		return fmt.Errorf("--python: ipykernel is not installed for %s; this installs it: %[1]s -m pip install ipykernel", path)
	}
	if err != nil {
		return fmt.Errorf("--python: cannot run %s: %w", path, err)
	}
	return nil
}

// check returns the limits of sandboxes that ask for none.
func (c *confined) check() (fleet.Limits, error) {
	for name, value := range map[string]float64{"memory": float64(c.memory), "cpus": c.limits.CPUs, "pids": float64(c.limits.Pids), "disk": float64(c.disk), "open-files": float64(c.limits.Files), "max-sandboxes": float64(c.max)} {
		if value <= 0 {
			return fleet.Limits{}, fmt.Errorf("--%s %v: want more than nothing", name, value)
		}
	}
	for name, value := range map[string]int{"keep-free-memory": c.keepMemory, "keep-free-pids": c.keepPids, "keep-free-disk": c.keepDisk} {
		if value < 0 {
			return fleet.Limits{}, fmt.Errorf("--%s %d: want 0 or more", name, value)
		}
	}
	if c.orphan != 0 && time.Duration(c.orphan) < minOrphan {
		return fleet.Limits{}, fmt.Errorf("--orphan-timeout %v: want at least %v, so that a server that is slow for a moment loses nothing, or 0 for ever", &c.orphan, minOrphan)
	}
	limits := c.limits
	limits.Memory, limits.Disk = int64(c.memory)<<20, int64(c.disk)<<20
	return limits, nil
}

// reserve is what sandboxes leave of the machine.
func (c *confined) reserve() local.Reserve {
	return local.Reserve{Memory: int64(c.keepMemory) << 20, Pids: int64(c.keepPids), Disk: int64(c.keepDisk) << 20}
}

// minOrphan is the shortest --orphan-timeout.
const minOrphan = 5 * time.Second

// lease is how long past its time a sandbox goes on without a server. One that may do so for ever has a lease, too: it may have
// been started with a short one, by a server with other settings.
func (c *confined) lease() time.Duration {
	return min(cmp.Or(time.Duration(c.orphan), maxLease/2), maxLease/2)
}

// abandon is how long a sandbox that is paused goes on without a server.
func (c *confined) abandon() time.Duration {
	if c.orphan == 0 {
		return 0
	}
	return min(time.Duration(c.orphan), maxLease/2) + fleet.DefaultPausedTimeout
}

func (c *confined) fleet(dir string, r *local.Runtime, end bool, log *slog.Logger) fleet.Options {
	return fleet.Options{
		Dir: dir, Runtime: r, Log: log, EndOnClose: end, Max: c.max, Lease: c.lease(),
		DefaultTimeout: time.Duration(c.timeout), MaxTimeout: time.Duration(c.maxTimeout),
		Quota: func(string) fleet.Quota {
			return fleet.Quota{Sandboxes: c.perKey, Rate: c.createsPerMinute / 60, Burst: max(1, int(c.createsPerMinute/6))}
		},
	}
}

func (c *confined) capabilities(r *local.Runtime) api.ServerCapabilities {
	told := r.Isolation()
	levels := map[string]string{}
	for _, level := range []string{fleet.LevelNamespace, fleet.LevelLandlock} {
		if why := told.Missing[level]; why != "" {
			levels[level] = why
		}
	}
	networks := []string{fleet.NetworkFull, fleet.NetworkPackages, fleet.NetworkAllow, fleet.NetworkNone}
	switch {
	case told.Level != fleet.LevelNamespace:
		networks = networks[:1]
	case told.Missing["network"] != "":
		networks = networks[len(networks)-1:]
	}
	return api.ServerCapabilities{
		Platform: runtime.GOOS + "/" + runtime.GOARCH, Isolation: api.SandboxIsolation{Level: told.Level, Missing: told.Missing, Enforced: told.Enforced},
		Levels: levels, Networks: networks, Fronts: []string{},
		Pause:     api.Capability{Available: told.Missing["pause"] == "", Reason: told.Missing["pause"]},
		Snapshots: api.Capability{Reason: "there are none yet"},
		Root:      c.rootCapability(r.Root()),
		Limits:    api.ServerLimits{MaxSandboxes: c.perKey, CreatesPerMinute: c.createsPerMinute},
	}
}

// rootCapability tells whether there are sandboxes with a root.
func (c *confined) rootCapability(why error) api.Capability {
	switch {
	case why == nil:
		return api.Capability{Available: true}
	case !c.root:
		return api.Capability{Reason: "the server was started without --root-template"}
	}
	return api.Capability{Reason: why.Error()}
}

// templates are those that there are, and those that were asked for and cannot be had.
func (c *confined) templates(r *local.Runtime, log *slog.Logger) []api.Template {
	all := []api.Template{{Template: local.Template, Aliases: local.Aliases, Default: true}}
	if c.root {
		rooted := api.Template{Template: local.RootTemplate, Aliases: []string{}}
		if why := r.Root(); why != nil {
			rooted.Unavailable = why.Error()
		}
		all = append(all, rooted)
	}
	if c.store == nil {
		return all
	}
	images, err := c.store.List()
	if err != nil {
		log.Warn("not all templates are listed", "error", err)
	}
	for _, t := range images {
		told := api.Template{Template: t.Name, Aliases: []string{}}
		if level := r.Isolation().Level; level != fleet.LevelNamespace {
			told.Unavailable = "sandboxes of the level " + level + " have the host's files, and none of an image"
		}
		all = append(all, told)
	}
	return all
}
