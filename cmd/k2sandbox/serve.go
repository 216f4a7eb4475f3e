package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/fleet/local"
	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/sandboxes"
)

// closing is how long open answers may take to end once the server stops.
const closing = 5 * time.Second

// serving are the flags of a server of sandboxes.
type serving struct {
	s        settings
	confined confined
	limits   limits
	packages packageFlags
	address  string
	hosts    []string
	stateDir string
	onStop   string
	json     bool
	trust    bool
	access   access
}

func serveCommand() *cobra.Command {
	var o serving
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the HTTP API of many sandboxes, each confined",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return o.run(ctx, cmd)
		},
	}
	flags := cmd.Flags()
	o.s.addInterpreter(cmd, slog.LevelInfo)
	flags.StringVar(&o.address, "listen", "127.0.0.1:8900", "address: HOST:PORT (port 0: any that is free) or unix:PATH")
	flags.StringSliceVar(&o.hosts, "allow-host", nil, "name that clients may call this server by, besides localhost and its addresses")
	flags.StringVar(&o.stateDir, "state-dir", "", "folder of the sandboxes, of which a server that follows takes back those that live (default: one for each address in $XDG_STATE_HOME/k2sandbox or ~/.local/state/k2sandbox)")
	_ = cmd.MarkFlagDirname("state-dir")
	flags.StringVar(&o.onStop, "on-stop", "end", `what becomes of the sandboxes when the server is stopped: "end", or "keep" for one that follows`)
	flags.BoolVar(&o.json, "log-json", false, "log as lines of JSON")
	flags.BoolVar(&o.trust, "unsafe-trust-ports", false, "let pages of servers inside, below …/ports, act in a browser as pages of this API: whoever wrote them can run code here as you")
	o.confined.add(cmd)
	o.limits.add(cmd)
	o.packages.add(cmd)
	o.access.add(cmd)
	return cmd
}

func (o *serving) run(ctx context.Context, cmd *cobra.Command) error {
	if o.onStop != "end" && o.onStop != "keep" {
		return fmt.Errorf("--on-stop %q: want end or keep", o.onStop)
	}
	keys, secure, err := o.access.read()
	if err != nil {
		return err
	}
	ln, err := listen(o.address, o.access.remote || keys.Len() > 0)
	if err != nil {
		return err
	}
	defer ln.Close()
	dir, remove, err := o.state(ln)
	if err != nil {
		return err
	}
	defer remove()
	log := o.log()
	runtime, err := o.runtime(ctx, dir, log)
	if err != nil {
		return err
	}
	defer runtime.Close()
	boxes, err := fleet.Open(o.confined.fleet(dir, runtime, o.onStop == "end", log))
	if err != nil {
		return err
	}
	defer func() {
		limit, cancel := context.WithTimeout(context.Background(), 2*closing)
		defer cancel()
		if err := boxes.Close(limit); err != nil {
			log.Error("cannot end all sandboxes", "error", err)
		}
	}()
	h := sandboxes.New(sandboxes.Options{
		Options: server.Options{Log: log, Hosts: o.hosts, TrustPorts: o.trust, Keys: keys, Version: version},
		Fleet:   boxes, Templates: templates, Capabilities: o.confined.capabilities(runtime),
		Shared: keys.Len() == 0,
	})
	where := location(ln)
	if secure != nil {
		where = strings.Replace(where, "http://", "https://", 1)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "listening on %s\n", where)
	if o.s.logLevel <= slog.LevelInfo && keys.Len() == 0 && secure == nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "try: %s\n", curl(ln))
	}
	return serveHTTP(ctx, ln, h, secure, log, func() error {
		limit, cancel := context.WithTimeout(context.Background(), 2*closing)
		defer cancel()
		return boxes.Close(limit)
	})
}

// templates are those that there are.
var templates = []api.Template{{Template: local.Template, Aliases: local.Aliases, Default: true}}

func (o *serving) log() *slog.Logger {
	if o.json {
		return slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: o.s.logLevel}))
	}
	return o.s.log()
}

// state returns the folder of the sandboxes and what removes it, where it is for this
// process alone: nobody can come back to a port that was free by chance.
func (o *serving) state(ln net.Listener) (dir string, remove func(), err error) {
	if o.stateDir != "" {
		dir, err = filepath.Abs(o.stateDir)
		return dir, func() {}, err
	}
	base := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(base) {
		home := homeDir()
		if home == "" {
			dir, err = privateTempDir()
			return filepath.Join(dir, "state", folder(ln)), func() {}, err
		}
		base = filepath.Join(home, ".local", "state")
	}
	base = filepath.Join(base, "k2sandbox")
	if !strings.HasSuffix(o.address, ":0") {
		return filepath.Join(base, folder(ln)), func() {}, nil
	}
	if o.onStop == "keep" {
		return "", nil, errors.New("--on-stop keep with a port that is free by chance: give --state-dir")
	}
	if err = os.MkdirAll(base, 0o700); err == nil {
		dir, err = os.MkdirTemp(base, "once-")
	}
	return dir, func() { _ = os.RemoveAll(dir) }, err
}

// folder returns a name of a folder for a listener's address.
func folder(ln net.Listener) string {
	return strings.Map(func(r rune) rune {
		if r == '/' || r == ':' {
			return '_'
		}
		return r
	}, strings.TrimPrefix(ln.Addr().String(), "/"))
}

// serveHTTP answers on the listener until ctx is done, and then has closed what is served,
// whose streams end by that.
func serveHTTP(ctx context.Context, ln net.Listener, h http.Handler, secure *tls.Config, log *slog.Logger, closed func() error) error {
	srv := &http.Server{
		Handler:           h,
		TLSConfig:         secure,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute, // no ReadTimeout or WriteTimeout: a stream lasts as long as its run
		MaxHeaderBytes:    64 << 10,
	}
	failed := make(chan error, 1)
	go func() {
		if secure != nil {
			failed <- srv.ServeTLS(ln, "", "")
		} else {
			failed <- srv.Serve(ln)
		}
	}()
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		log.Info("stopping")
	}
	err = errors.Join(err, closed())
	limit, cancel := context.WithTimeout(context.Background(), closing)
	defer cancel()
	if srv.Shutdown(limit) != nil {
		_ = srv.Close() // of clients that do not read to the end
	}
	return err
}

// confined are the flags that say how sandboxes are confined, and what they may use.
type confined struct {
	level            string
	timeout          seconds
	maxTimeout       seconds
	max, perKey      int
	createsPerMinute float64
	cold             bool
	limits           fleet.Limits
	memory, disk     int
	network          string
	private          bool
}

func (c *confined) add(cmd *cobra.Command) {
	c.timeout, c.maxTimeout = seconds(300*time.Second), seconds(24*time.Hour)
	flags := cmd.Flags()
	flags.StringVar(&c.level, "isolation", "auto", `how code is confined: "namespace", "landlock", "auto" for the strongest that works here, or "none", which is not at all`)
	flags.Var(&c.timeout, "timeout", "how long a sandbox may do nothing, unless its creator says otherwise")
	flags.Var(&c.maxTimeout, "max-timeout", "the longest that a creator may say")
	flags.IntVar(&c.max, "max-sandboxes", 1000, "sandboxes at a time")
	flags.IntVar(&c.perKey, "max-sandboxes-per-key", 0, "sandboxes of one API key at a time (0: no bound)")
	flags.Float64Var(&c.createsPerMinute, "creates-per-minute", 0, "sandboxes that one API key may create in a minute (0: no bound)")
	flags.BoolVar(&c.cold, "cold-start", false, "start Python for each kernel, in place of a fork of one that has started")
	flags.IntVar(&c.memory, "memory", 2048, "MiB of memory of a sandbox, unless its creator says otherwise")
	flags.Float64Var(&c.limits.CPUs, "cpus", 2, "cores of a sandbox, unless its creator says otherwise")
	flags.Int64Var(&c.limits.Pids, "pids", 1024, "processes and threads of a sandbox, unless its creator says otherwise")
	flags.IntVar(&c.disk, "disk", 10240, "MiB of files of a sandbox, unless its creator says otherwise")
	flags.Int64Var(&c.limits.Files, "open-files", 4096, "open files of a process, unless its sandbox's creator says otherwise")
	flags.BoolVar(&c.private, "allow-private-networks", false, "let sandboxes reach private networks, though not this host, link-local addresses or each other")
}

// runtime returns what makes the sandboxes.
func (o *serving) runtime(ctx context.Context, dir string, log *slog.Logger) (*local.Runtime, error) {
	limits, err := o.confined.check()
	if err != nil {
		return nil, err
	}
	agents, err := tune(&o.limits, &o.packages)
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
	environ, net := reach(environ, o.confined.private)
	r, err := local.New(ctx, local.Options{
		Dir: dir, Interpreter: spec.Argv[0], Cold: o.confined.cold, Environ: environ, Level: o.confined.level, Limits: limits, Agent: agents, Network: net, Log: log,
	})
	if err != nil {
		return nil, fmt.Errorf("cannot confine sandboxes: %w", err)
	}
	told := r.Isolation()
	log.Info("sandboxes are confined", "level", told.Level, "missing", told.Missing)
	if told.Level == "none" {
		log.Warn("nothing keeps code in sandboxes from this host: it can do all that this user can")
	}
	return r, nil
}

// check returns the limits of sandboxes that ask for none.
func (c *confined) check() (fleet.Limits, error) {
	for name, value := range map[string]float64{"memory": float64(c.memory), "cpus": c.limits.CPUs, "pids": float64(c.limits.Pids), "disk": float64(c.disk), "open-files": float64(c.limits.Files), "max-sandboxes": float64(c.max)} {
		if value <= 0 {
			return fleet.Limits{}, fmt.Errorf("--%s %v: want more than nothing", name, value)
		}
	}
	limits := c.limits
	limits.Memory, limits.Disk = int64(c.memory)<<20, int64(c.disk)<<20
	return limits, nil
}

func (c *confined) fleet(dir string, r *local.Runtime, end bool, log *slog.Logger) fleet.Options {
	return fleet.Options{
		Dir: dir, Runtime: r, Log: log, EndOnClose: end, Max: c.max,
		DefaultTimeout: time.Duration(c.timeout), MaxTimeout: time.Duration(c.maxTimeout),
		Quota: func(string) fleet.Quota {
			return fleet.Quota{Sandboxes: c.perKey, Rate: c.createsPerMinute / 60, Burst: max(1, int(c.createsPerMinute/6))}
		},
	}
}

func (c *confined) capabilities(r *local.Runtime) api.ServerCapabilities {
	told := r.Isolation()
	levels := map[string]string{}
	for _, level := range []string{"namespace", "landlock"} {
		if why := told.Missing[level]; why != "" {
			levels[level] = why
		}
	}
	networks := []string{"full", "none"}
	if told.Level != "namespace" {
		networks = networks[:1]
	}
	return api.ServerCapabilities{
		Platform: runtime.GOOS + "/" + runtime.GOARCH, Isolation: api.SandboxIsolation{Level: told.Level, Missing: told.Missing, Enforced: told.Enforced},
		Levels: levels, Networks: networks, Fronts: []string{},
		Pause:     api.Capability{Available: told.Missing["pause"] == "", Reason: told.Missing["pause"]},
		Snapshots: api.Capability{Reason: "there are none yet"},
		Limits:    api.ServerLimits{MaxSandboxes: c.perKey, CreatesPerMinute: c.createsPerMinute},
	}
}
