package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/console"
	"github.com/k2sandbox/k2sandbox/server/e2b"
	"github.com/k2sandbox/k2sandbox/server/jupyter"
	"github.com/k2sandbox/k2sandbox/server/mcp"
	"github.com/k2sandbox/k2sandbox/server/previews"
	"github.com/k2sandbox/k2sandbox/server/sandboxes"
	"github.com/k2sandbox/k2sandbox/trace"
)

// serving are the flags of a server of sandboxes.
type serving struct {
	s         settings
	confined  confined
	limits    limits
	packages  packageFlags
	address   string
	hosts     []string
	stateDir  string
	onStop    string
	json      bool
	logFile   string
	idleTime  seconds
	drainTime seconds
	trust     bool
	e2b       bool
	mcp       bool
	debug     bool
	jupyter   jupyterFlags
	console   consoleFlags
	preview   string // the domain of previews
	domain    server.PreviewDomain
	base      string // path of all that is served; "" is the root
	behind    bool   // a proxy, which tells where clients are
	retries   int    // ports after the first that may be listened on, where that is taken
	access    access
	traces    traces
}

func serveCommand() *cobra.Command { return serveCommandOf(new(serving)) }

func serveCommandOf(o *serving) *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the HTTP API of many sandboxes, each confined",
		Long: `Serve the HTTP API of many sandboxes, each confined as well as this machine lets it be:
"k2sandbox doctor" tells. Without API keys it listens on loopback or on a unix socket only,
and requests that name no sandbox, such as POST /v1/code, share one.

SIGTERM and Ctrl-C end the sandboxes, too, unless --on-stop says otherwise; a second one ends the server
alone. A server takes back the sandboxes that it finds in its folder.`,
		Example: `  k2sandbox serve
  k2sandbox serve --listen 0.0.0.0:8900 --api-keys keys --tls-cert cert.pem --tls-key key.pem
  k2sandbox serve --listen unix:/run/k2/k2.sock --on-stop keep --memory 512 --cpus 1`,
		Args: cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if config == "" {
				return nil
			}
			return readConfig(config, cmd.Flags())
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return o.run(ctx, cmd)
		},
	}
	o.add(cmd)
	cmd.Flags().StringVar(&config, "config", "", "file of settings (YAML), NAME: VALUE for each flag; flags on the command line win")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
	return cmd
}

// add adds the flags to a command that serves.
func (o *serving) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	o.s.addInterpreter(cmd, slog.LevelInfo)
	flags.StringVar(&o.address, "listen", "127.0.0.1:8900", "address: HOST:PORT (port 0: any that is free) or unix:PATH")
	flags.StringSliceVar(&o.hosts, "allow-host", nil, "name that clients may call this server by, besides localhost and its addresses")
	flags.StringVar(&o.stateDir, "state-dir", "", "folder of the sandboxes, of which a server that follows takes back those that live (default: one for each address in $XDG_STATE_HOME/k2sandbox or ~/.local/state/k2sandbox)")
	_ = cmd.MarkFlagDirname("state-dir")
	flags.StringVar(&o.onStop, "on-stop", "end", `what becomes of the sandboxes when the server is stopped: "end", or "keep" for one that follows`)
	flags.BoolVar(&o.json, "log-json", false, "log as lines of JSON")
	flags.StringVar(&o.logFile, "log-file", "", "log to this file, of which 8 MiB are kept, and 8 MiB before them as FILE.1 (default: standard error)")
	_ = cmd.MarkFlagFilename("log-file")
	flags.Var(&o.idleTime, "exit-idle-time", "end this server once there were no sandboxes and no requests for this long (default: never)")
	o.drainTime = seconds(time.Hour)
	flags.Var(&o.drainTime, "drain-timeout", "how long what is open may go on in this process once another one has taken over: see \"k2sandbox upgrade\"")
	flags.BoolVar(&o.trust, "unsafe-trust-ports", false, "let pages of servers inside, below …/ports, act in a browser as pages of this API: whoever wrote them can run code here as you")
	flags.StringVar(&o.preview, "preview-domain", "", `domain whose names PORT-ID.DOMAIN all lead to this server, for links to servers inside: DOMAIN[:PORT], or https://DOMAIN[:PORT] where a proxy before it speaks TLS (default: "localhost" where only this machine reaches the server)`)
	flags.BoolVar(&o.e2b, "e2b", true, "serve E2B's API, too, for its clients: \"k2sandbox env --e2b\" tells what they need")
	flags.BoolVar(&o.mcp, "mcp", true, "serve the Model Context Protocol, too, at /mcp: \"k2sandbox mcp --help\" tells how clients are set up")
	flags.BoolVar(&o.debug, "e2b-debug-ports", false, "listen on the ports 3000, 49983 and 49999 of loopback, too, for older clients of E2B with E2B_DEBUG=true; not with API keys")
	o.jupyter.add(cmd)
	o.console.add(cmd)
	o.confined.add(cmd)
	o.limits.add(cmd)
	o.packages.add(cmd)
	o.traces.add(cmd)
	o.access.add(cmd)
}

func (o *serving) run(ctx context.Context, cmd *cobra.Command) (err error) {
	from, err := findPredecessor(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			from.leave(err)
		}
	}()
	if err := o.checkStop(); err != nil {
		return err
	}
	keys, secure, err := o.access.read()
	if err != nil {
		return err
	}
	if err := o.jupyter.check(keys); err != nil {
		return err
	}
	o.confined.trusted = keys.Len() == 0
	sockets, err := o.sockets(from, keys)
	if err != nil {
		return err
	}
	defer sockets.close()
	if o.domain, err = o.previewDomain(sockets[0].ln); err != nil {
		return err
	}
	f := &facade{o: o, sockets: sockets, keys: keys, secure: secure}
	remove, err := f.findPlace(from)
	if err != nil {
		return err
	}
	defer remove()
	var capture func() error
	if f.log, capture, err = o.log(); err != nil {
		return err
	}
	var ended func()
	if f.tracer, ended, err = o.traces.open(f.log); err != nil {
		return err
	}
	defer ended()
	var work sync.WaitGroup
	defer work.Wait()
	f.ctx, f.stop = context.WithCancel(ctx)
	defer f.stop()
	err = f.start(from, func() error {
		if from == nil {
			f.announce(cmd)
		}
		return capture()
	})
	if err != nil {
		return err
	}
	sockets.keep()
	from.leave(nil)
	if from == nil {
		notify("READY=1")
		work.Go(func() { o.prespawned(f.ctx, f.log) })
	}
	return f.wait()
}

// findPlace finds the folder of the sandboxes, and returns what removes it where it is nobody's after this server.
func (f *facade) findPlace(from *predecessor) (remove func(), err error) {
	wipe := func() {}
	switch {
	case from == nil:
		f.dir, wipe, err = f.o.state(f.sockets[0].ln)
		f.temporary = f.o.stateDir == "" && strings.HasSuffix(f.o.address, ":0")
	case from.Temporary && f.o.stateDir == "":
		f.dir, f.temporary, wipe = from.Dir, true, func() { _ = os.RemoveAll(from.Dir) }
	default:
		f.dir, _, err = f.o.state(f.sockets[0].ln)
		if err == nil && f.dir != from.Dir {
			err = fmt.Errorf("--state-dir %s: the server to take over from has %s: another folder takes a restart", f.dir, from.Dir)
		}
	}
	return func() {
		if f.backend != nil || from == nil && len(f.servers) == 0 { // else it is another server's, or nobody knows what is in it
			wipe()
		}
	}, err
}

// start has the server answer, in place of another one where there is one. It calls tell just before.
func (f *facade) start(from *predecessor, tell func() error) error {
	b, err := f.prepare(f.ctx)
	if err != nil {
		return err
	}
	known, err := from.goOn(f.ctx)
	if err != nil {
		return errors.Join(err, b.runtime.Close())
	}
	if err := b.open(f.ctx, f, known); err != nil {
		return err
	}
	if err := f.begin(b, tell); err != nil {
		_, failed := b.release()
		return errors.Join(err, failed)
	}
	return nil
}

// announce tells who has started this server that it listens.
func (f *facade) announce(cmd *cobra.Command) {
	o, ln := f.o, f.sockets[0].ln
	where := location(ln)
	if f.secure != nil {
		where = strings.Replace(where, "http://", "https://", 1)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "listening on %s\n", where+o.base)
	if o.s.logLevel <= slog.LevelInfo && f.keys.Len() == 0 && f.secure == nil && o.base == "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "try: %s\n", curl(ln))
	}
}

// apis returns what answers requests, with the native API behind it, and E2B's API, which is that or nobody's.
func (o *serving) apis(boxes *fleet.Fleet, templates func() []api.Template, can api.ServerCapabilities, keys *server.Keys, sessions *console.Sessions, tracer trace.Tracer, log *slog.Logger) (http.Handler, *sandboxes.API, *e2b.API) {
	if o.e2b {
		can.Fronts = append(can.Fronts, "e2b")
	}
	if o.jupyter.on {
		can.Fronts = append(can.Fronts, "jupyter")
	}
	if o.mcp {
		can.Fronts = append(can.Fronts, "mcp")
	}
	common := server.Options{Log: log, Hosts: o.hosts, TrustPorts: o.trust, Keys: keys, Tracer: tracer, Version: version}
	if sessions != nil {
		can.Fronts, common.Session = append(can.Fronts, "console"), sessions.Caller
	}
	var reserved func(port int) bool
	if o.e2b {
		reserved = e2b.Reserved
	}
	native := sandboxes.New(sandboxes.Options{
		Options: common, Fleet: boxes, Templates: templates, Capabilities: can, Preview: o.domain, Reserved: reserved,
		Shared: keys.Len() == 0, SharedTimeout: time.Duration(o.confined.maxTimeout), // whoever has no id does not ask for more time either
	})
	next := o.console.front(common, sessions, native)
	if o.mcp {
		next = mcp.New(mcp.Options{
			Options: common, Fleet: boxes, Native: native, Next: next, Timeout: min(mcpTimeout, time.Duration(o.confined.maxTimeout)),
			Offline: !slices.Contains(can.Networks, string(api.NetworkFull)),
		})
	}
	if o.jupyter.on {
		next = o.jupyterAPI(jupyter.Options{Options: common, Fleet: boxes, Native: native, Next: next})
	}
	front := e2b.New(e2b.Options{Options: common, Fleet: boxes, Native: native, Next: next, Templates: templates, Pause: can.Pause})
	hosts := previews.Options{Options: common, Domain: o.domain, Fleet: boxes, Native: native, E2B: front, Reserved: reserved, Next: below(o.base, next)}
	if o.e2b {
		hosts.Next = below(o.base, front)
	}
	return previews.New(hosts), native, front
}

// mcpTimeout is how long a sandbox may do nothing that MCP's clients have made: people read, and think, between two calls.
const mcpTimeout = time.Hour

// exposed refuses a server that the code in its own sandboxes could use as if it were a client.
func exposed(level, network string, keys *server.Keys) error {
	if level == fleet.LevelLandlock && network == "tcp" && keys.Len() == 0 {
		return errors.New("sandboxes of the level landlock have this host's network, so that code in them could use this server as a client: " +
			"give it --api-keys, or a unix socket (--listen unix:PATH)")
	}
	return nil
}
