package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/k2sandbox/k2sandbox/notebook"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/jupyter"
)

func gatewayCommand() *cobra.Command {
	var o serving
	cmd := &cobra.Command{
		Use:   "gateway",
		Short: "Serve as a Jupyter Kernel Gateway, with each kernel in a sandbox",
		Long: `Serve as "k2sandbox serve" does, in place of a Jupyter Kernel Gateway: at 127.0.0.1:8888, and as its variables
KG_* say. What they say flags say better.`,
		Example: `  k2sandbox gateway & jupyter lab --gateway-url http://127.0.0.1:8888
  KG_AUTH_TOKEN=secret KG_IP=0.0.0.0 k2sandbox gateway`,
		Args: cobra.NoArgs,
	}
	o.add(cmd)
	cmd.Flag("listen").DefValue = "127.0.0.1:8888"
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		kg := takeGateway(os.Environ())
		if err := kg.apply(&o, cmd.Flags().Changed); err != nil {
			return err
		}
		if o.s.logLevel <= slog.LevelWarn {
			for _, name := range kg.idle() {
				fmt.Fprintf(cmd.ErrOrStderr(), "k2sandbox: $%s has no effect here\n", name)
			}
		}
		return o.run(ctx, cmd)
	}
	return cmd
}

const (
	gatewayKey = "gateway" // the name of KG_AUTH_TOKEN among the API keys
	never      = 10 * 365 * 24 * time.Hour
	seedTime   = 200 * time.Second // for a seed to come
	seedSize   = 64 << 20          // bytes that it may have
)

// gateway are the variables KG_* of a Kernel Gateway.
// https://jupyter-kernel-gateway.readthedocs.io/en/latest/config-options.html
type gateway struct {
	values map[string]string // without those that are empty
	used   map[string]bool
	all    map[string]string // of the environment
}

// takeGateway takes the variables out of this process's environment: one is a secret.
func takeGateway(environ []string) *gateway {
	g := &gateway{values: map[string]string{}, used: map[string]bool{}, all: map[string]string{}}
	for _, v := range environ {
		name, value, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(name, "KG_") {
			g.all[name] = value
			continue
		}
		if value != "" {
			g.values[name] = value
		}
		_ = os.Unsetenv(name)
	}
	return g
}

// get returns the value of a variable, or otherwise.
func (g *gateway) get(name, otherwise string) string {
	g.used[name] = true
	if value, ok := g.values[name]; ok {
		return value
	}
	return otherwise
}

func (g *gateway) number(name string, otherwise, most int) (int, error) {
	n, err := strconv.Atoi(g.get(name, strconv.Itoa(otherwise)))
	if err != nil || n < 0 || n > most {
		return 0, fmt.Errorf("$%s: want a number from 0 to %d", name, most)
	}
	return n, nil
}

func (g *gateway) flag(name string, otherwise bool) (bool, error) {
	value, err := strconv.ParseBool(g.get(name, strconv.FormatBool(otherwise)))
	if err != nil {
		return false, fmt.Errorf("$%s: want True or False", name)
	}
	return value, nil
}

// list returns a list of names; nil where the variable is not there.
func (g *gateway) list(name string) []string {
	var names []string
	for one := range strings.SplitSeq(g.get(name, ""), ",") {
		if one = strings.TrimSpace(one); one != "" {
			names = append(names, one)
		}
	}
	return names
}

// idle returns the names of variables that nobody has asked for.
func (g *gateway) idle() []string {
	return slices.Sorted(maps.Keys(maps.Collect(func(yield func(string, bool) bool) {
		for name := range g.values {
			if !g.used[name] && !yield(name, true) {
				return
			}
		}
	})))
}

// apply has a server do as the variables say where no flag does.
func (g *gateway) apply(o *serving, given func(flag string) bool) error {
	if what := g.get("KG_API", "kernel_gateway.jupyter_websocket"); what != "kernel_gateway.jupyter_websocket" {
		return fmt.Errorf("$KG_API: there is no %s, but kernel_gateway.jupyter_websocket", what)
	}
	err := g.applyAddress(o, given)
	if err != nil {
		return err
	}
	if !given("max-sandboxes") {
		most, err := g.number("KG_MAX_KERNELS", o.confined.max, 1_000_000)
		if err != nil {
			return err
		}
		o.confined.max = most
	}
	if o.jupyter.prespawn, err = g.number("KG_PRESPAWN_COUNT", 0, o.confined.max); err != nil {
		return err
	}
	if o.behind, err = g.flag("KG_TRUST_XHEADERS", false); err != nil {
		return err
	}
	if err := g.applyJupyter(&o.jupyter, given); err != nil {
		return err
	}
	return g.applySeed(&o.jupyter)
}

func (g *gateway) applyAddress(o *serving, given func(flag string) bool) error {
	port, err := g.number("KG_PORT", 8888, 65535)
	if err != nil {
		return err
	}
	retries, err := g.number("KG_PORT_RETRIES", 50, 1000)
	if err != nil {
		return err
	}
	if ip := g.get("KG_IP", "127.0.0.1"); !given("listen") {
		o.address, o.retries = net.JoinHostPort(ip, strconv.Itoa(port)), retries
	}
	base := strings.Trim(g.get("KG_BASE_URL", ""), "/")
	if strings.ContainsAny(base, "?#%\\ ") {
		return fmt.Errorf("$KG_BASE_URL %q: want a path", base)
	}
	if base != "" {
		o.base = "/" + base
	}
	if o.access.token = g.get("KG_AUTH_TOKEN", ""); o.access.token != "" {
		if _, err := server.ReadKeys(strings.NewReader("gateway:" + o.access.token)); err != nil {
			return fmt.Errorf("$KG_AUTH_TOKEN: %w", err)
		}
	}
	cert, key, clients := g.get("KG_CERTFILE", ""), g.get("KG_KEYFILE", ""), g.get("KG_CLIENT_CA", "")
	if !given("tls-cert") {
		o.access.cert, o.access.key = cert, key
	}
	if !given("tls-client-ca") {
		o.access.clients = clients
	}
	return nil
}

func (g *gateway) applyJupyter(f *jupyterFlags, given func(flag string) bool) error {
	f.first, f.force = g.get("KG_DEFAULT_KERNEL_NAME", ""), g.get("KG_FORCE_KERNEL_NAME", "")
	f.allowEnv = g.list("KG_ENV_WHITELIST")
	f.envs = map[string]string{}
	for _, name := range g.list("KG_ENV_PROCESS_WHITELIST") {
		if value, ok := g.all[name]; ok {
			f.envs[name] = value
		}
	}
	shown, err := g.flag("KG_LIST_KERNELS", true)
	if err != nil {
		return err
	}
	f.hide = !shown
	pings, err := g.number("KG_WS_PING_INTERVAL_SECS", 30, 86400)
	if err != nil {
		return err
	}
	if f.ping = time.Duration(pings) * time.Second; pings == 0 {
		f.ping = never
	}
	if origins := g.list("KG_ALLOW_ORIGIN"); !given("allow-origin") {
		f.cors.Origins = origins
	}
	f.cors.Headers, f.cors.Methods = g.get("KG_ALLOW_HEADERS", ""), g.get("KG_ALLOW_METHODS", "")
	f.cors.Expose, f.cors.MaxAge = g.get("KG_EXPOSE_HEADERS", ""), g.get("KG_MAX_AGE", "")
	f.cors.Credentials, err = g.flag("KG_ALLOW_CREDENTIALS", false)
	return err
}

// applySeed reads the notebook that each kernel begins with.
func (g *gateway) applySeed(f *jupyterFlags) error {
	uri := g.get("KG_SEED_URI", "")
	if uri == "" {
		return nil
	}
	in, err := openSeed(uri)
	if err != nil {
		return fmt.Errorf("$KG_SEED_URI: %w", err)
	}
	defer in.Close()
	n, err := notebook.Read(io.LimitReader(in, seedSize))
	if err != nil {
		return fmt.Errorf("$KG_SEED_URI: %w", err)
	}
	var spec struct{ Name string }
	if raw, ok := n.Metadata.Get("kernelspec"); ok {
		_ = json.Unmarshal(raw, &spec) // what has no name is told below
	}
	f.seed = &jupyter.Seed{Kernel: cmp.Or(f.force, spec.Name)}
	if f.seed.Kernel == "" {
		return errors.New("$KG_SEED_URI: the notebook does not say which kernel it is for (metadata.kernelspec.name)")
	}
	for _, cell := range n.Cells {
		if cell.Type == notebook.Code {
			f.seed.Cells = append(f.seed.Cells, cell.Source)
		}
	}
	return nil
}

// openSeed opens a file, or what is at a URL.
func openSeed(uri string) (io.ReadCloser, error) {
	if !strings.HasPrefix(uri, "http://") && !strings.HasPrefix(uri, "https://") {
		return os.Open(strings.TrimPrefix(uri, "file://"))
	}
	resp, err := (&http.Client{Timeout: seedTime}).Get(uri)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("%s answers with %s", uri, resp.Status)
	}
	return resp.Body, nil
}
