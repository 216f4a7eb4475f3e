package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/jupyter"
)

// jupyterFlags say how Jupyter's clients are served.
type jupyterFlags struct {
	on      bool
	timeout seconds
	cors    jupyter.CORS
	spec    kernel.Spec // of the default context; see serving.runtime

	// The rest has no flags: see gateway.
	first, force string // names of kernels
	hide         bool
	envs         map[string]string
	allowEnv     []string
	seed         *jupyter.Seed
	prespawn     int
	ping         time.Duration // between two pings of a WebSocket; 0 is that of the agents
	api          *jupyter.API  // once it is served
}

func (f *jupyterFlags) add(cmd *cobra.Command) {
	f.timeout = seconds(time.Hour)
	flags := cmd.Flags()
	flags.BoolVar(&f.on, "jupyter", true, "serve Jupyter's API, too, for its clients: a Kernel Gateway at the root, and each sandbox as a Jupyter server below /jupyter/")
	flags.Var(&f.timeout, "kernel-timeout", "how long a sandbox that is made for a Jupyter kernel may do nothing, with no client connected (at most --max-timeout)")
	flags.StringSliceVar(&f.cors.Origins, "allow-origin", nil, `origin, such as https://lab.example.org, of web pages that may use Jupyter's API from a browser ("*": any; with API keys alone)`)
}

// check refuses what would let any web page run code here.
func (f *jupyterFlags) check(keys *server.Keys) error {
	for _, origin := range f.cors.Origins {
		u, err := url.Parse(origin)
		switch {
		case origin == "*" && keys.Len() == 0:
			return errors.New(`--allow-origin "*" lets every web page that somebody here looks at run code: it goes with API keys alone`)
		case origin != "*" && (err != nil || u.Scheme == "" || u.Host == "" || u.Path != "" || u.RawQuery != ""):
			return errors.New("--allow-origin " + strconv.Quote(origin) + ": want an origin, such as https://lab.example.org")
		}
	}
	return nil
}

// jupyterAPI returns Jupyter's API in front of another.
func (o *serving) jupyterAPI(j jupyter.Options) http.Handler {
	f := &o.jupyter
	j.Kernel, _ = f.kernels()
	j.Others = func() []kernel.Spec { _, others := f.kernels(); return others }
	j.Default, j.Force, j.Hide = f.first, f.force, f.hide
	j.Timeout, j.Envs, j.AllowEnv = min(time.Duration(f.timeout), time.Duration(o.confined.maxTimeout)), f.envs, f.allowEnv
	j.Base, j.CORS, j.Seed = o.base, f.cors, f.seed
	f.api = jupyter.New(j)
	return f.api
}

// checkSeed refuses a seed for a kernel that no sandbox has.
func (f *jupyterFlags) checkSeed() error {
	if f.seed == nil {
		return nil
	}
	first, others := f.kernels()
	if slices.ContainsFunc(append(others, first), func(s kernel.Spec) bool { return strings.EqualFold(s.Name, f.seed.Kernel) }) {
		return nil
	}
	return errors.New("$KG_SEED_URI: there is no kernel named " + strconv.Quote(f.seed.Kernel))
}

// prespawned starts the kernels that there are to be before a client asks. They stay for as long as a sandbox can.
func (o *serving) prespawned(ctx context.Context, log *slog.Logger) {
	if o.jupyter.prespawn == 0 || o.jupyter.api == nil {
		return
	}
	owner := ""
	if o.access.token != "" {
		owner = gatewayKey
	}
	if err := o.jupyter.api.Prespawn(ctx, o.jupyter.prespawn, owner, time.Duration(o.confined.maxTimeout)); err != nil && ctx.Err() == nil {
		log.Error("not all kernels could be started", "error", err)
	}
}

// forwarded returns a handler that takes the address of a client from what a proxy says of it: X-Real-IP, or the last of
// X-Forwarded-For. It is for what is logged alone.
func forwarded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		all := strings.Split(r.Header.Get("X-Forwarded-For"), ",")
		if ip, err := netip.ParseAddr(strings.TrimSpace(cmp.Or(r.Header.Get("X-Real-Ip"), all[len(all)-1]))); err == nil {
			clone := *r
			clone.RemoteAddr = netip.AddrPortFrom(ip, 0).String()
			r = &clone
		}
		h.ServeHTTP(w, r)
	})
}

// kernels returns those of a new sandbox, as far as they are seen from here: of the interpreter's installation, and of
// the system.
func (f *jupyterFlags) kernels() (first kernel.Spec, others []kernel.Spec) {
	prefix := filepath.Dir(filepath.Dir(f.spec.Argv[0]))
	specs, _ := kernel.List(kernel.DefaultSearchPath(func(string) string { return "" }, prefix))
	if deno, err := exec.LookPath(filepath.Join(prefix, "bin", "deno")); err == nil {
		specs = append(specs, kernel.DenoSpec(deno))
	}
	at := slices.IndexFunc(specs, func(s kernel.Spec) bool { return s.Name == f.spec.Name })
	if at < 0 {
		return f.spec, specs
	}
	first = specs[at]
	return first, slices.Delete(specs, at, at+1)
}

// listen opens the address or, where it is taken and there may be retries, one of the ports after it.
func (o *serving) listen(remote bool) (net.Listener, error) {
	host, port, err := net.SplitHostPort(o.address)
	first, notNumber := strconv.Atoi(port)
	if o.retries == 0 || err != nil || notNumber != nil || first == 0 {
		return listen(o.address, remote)
	}
	for n := first; ; n++ {
		ln, err := listenOnce(net.JoinHostPort(host, strconv.Itoa(n)), remote)
		if !errors.Is(err, syscall.EADDRINUSE) || n == first+o.retries || n == 65535 {
			return ln, err
		}
	}
}

// below returns a handler that has another below a path, and nothing beside it.
func below(base string, h http.Handler) http.Handler {
	if base == "" {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, ok := strings.CutPrefix(r.URL.EscapedPath(), base)
		if !ok || raw != "" && raw[0] != '/' {
			server.WriteJSON(w, http.StatusNotFound, api.ErrorBody{Error: *api.Errorf(api.NotFound, "all that is here is below %s", base)})
			return
		}
		if raw == "" {
			raw = "/"
		}
		inner := *r
		where := *r.URL
		inner.URL, inner.RequestURI = &where, raw
		where.RawPath = raw
		if where.RawQuery != "" {
			inner.RequestURI += "?" + where.RawQuery
		}
		where.Path, _ = url.PathUnescape(raw) // it was read once before
		h.ServeHTTP(w, &inner)
	})
}
