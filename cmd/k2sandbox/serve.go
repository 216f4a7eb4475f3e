package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
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
	"github.com/k2sandbox/k2sandbox/server/sandboxes"
)

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
	logFile  string
	idleTime seconds
	trust    bool
	e2b      bool
	mcp      bool
	debug    bool
	jupyter  jupyterFlags
	console  consoleFlags
	base     string // path of all that is served; "" is the root
	behind   bool   // a proxy, which tells where clients are
	retries  int    // ports after the first that may be listened on, where that is taken
	access   access
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
	flags.BoolVar(&o.trust, "unsafe-trust-ports", false, "let pages of servers inside, below …/ports, act in a browser as pages of this API: whoever wrote them can run code here as you")
	flags.BoolVar(&o.e2b, "e2b", true, "serve E2B's API, too, for its clients: \"k2sandbox env --e2b\" tells what they need")
	flags.BoolVar(&o.mcp, "mcp", true, "serve the Model Context Protocol, too, at /mcp: \"k2sandbox mcp --help\" tells how clients are set up")
	flags.BoolVar(&o.debug, "e2b-debug-ports", false, "listen on the ports 3000, 49983 and 49999 of loopback, too, for older clients of E2B with E2B_DEBUG=true; not with API keys")
	o.jupyter.add(cmd)
	o.console.add(cmd)
	o.confined.add(cmd)
	o.limits.add(cmd)
	o.packages.add(cmd)
	o.access.add(cmd)
}

func (o *serving) run(ctx context.Context, cmd *cobra.Command) error {
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
	ln, err := o.listen(o.access.remote || keys.Len() > 0)
	if err != nil {
		return err
	}
	defer ln.Close()
	dir, remove, err := o.state(ln)
	if err != nil {
		return err
	}
	defer remove()
	log, capture, err := o.log()
	if err != nil {
		return err
	}
	o.confined.trusted = keys.Len() == 0
	runtime, err := o.runtime(ctx, dir, log)
	if err != nil {
		return err
	}
	defer runtime.Close()
	network := ln.Addr().Network()
	if o.debug {
		network = "tcp"
	}
	if err := exposed(runtime.Isolation().Level, network, keys); err != nil {
		return err
	}
	debug, err := o.debugPorts(keys)
	if err != nil {
		return err
	}
	defer debug.close()
	if err := o.jupyter.checkSeed(); err != nil {
		return err
	}
	boxes, err := fleet.Open(o.confined.fleet(dir, runtime, o.onStop == "end", log))
	if err != nil {
		return err
	}
	stop, err := serveControl(dir, boxes, log)
	if err != nil {
		return errors.Join(err, boxes.Close(ctx))
	}
	defer stop()
	sessions, err := o.console.open(ln, dir, keys)
	if err != nil {
		return errors.Join(err, boxes.Close(ctx))
	}
	h, front := o.apis(boxes, func() []api.Template { return o.confined.templates(runtime, log) }, o.confined.capabilities(runtime), keys, sessions, log)
	where := location(ln)
	if secure != nil {
		where = strings.Replace(where, "http://", "https://", 1)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "listening on %s\n", where+o.base)
	if o.s.logLevel <= slog.LevelInfo && keys.Len() == 0 && secure == nil && o.base == "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "try: %s\n", curl(ln))
	}
	if err := capture(); err != nil {
		return errors.Join(err, boxes.Close(ctx))
	}
	h = below(o.base, h)
	if o.behind {
		h = forwarded(h)
	}
	ctx, h = o.untilIdle(ctx, h, boxes, log)
	debug.serve(ctx, front, log)
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() { o.prespawned(ctx, log) })
	return serveHTTP(ctx, ln, h, secure, log, func() error {
		limit, cancel := context.WithTimeout(context.Background(), 2*closing)
		defer cancel()
		return boxes.Close(limit)
	})
}

// apis returns what answers requests, and E2B's API, which is that or nobody's.
func (o *serving) apis(boxes *fleet.Fleet, templates func() []api.Template, can api.ServerCapabilities, keys *server.Keys, sessions *console.Sessions, log *slog.Logger) (http.Handler, *e2b.API) {
	if o.e2b {
		can.Fronts = append(can.Fronts, "e2b")
	}
	if o.jupyter.on {
		can.Fronts = append(can.Fronts, "jupyter")
	}
	if o.mcp {
		can.Fronts = append(can.Fronts, "mcp")
	}
	common := server.Options{Log: log, Hosts: o.hosts, TrustPorts: o.trust, Keys: keys, Version: version}
	if sessions != nil {
		can.Fronts, common.Session = append(can.Fronts, "console"), sessions.Caller
	}
	native := sandboxes.New(sandboxes.Options{
		Options: common, Fleet: boxes, Templates: templates, Capabilities: can,
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
	if o.e2b {
		return front, front
	}
	return next, front
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
