package main

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/client"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/fleet/local"
	"github.com/k2sandbox/k2sandbox/fleet/template"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/process"
)

// run builds the template in a sandbox of the one that it is built from.
func (b *building) run(ctx context.Context, store *template.Store, t template.Template, wanted string) (_ template.Template, failed error) {
	dir, release, err := buildDir()
	if err != nil {
		return t, err
	}
	defer func() { failed = errors.Join(failed, release()) }()
	b.confined.level, b.confined.cold, b.confined.fresh, b.confined.trusted = fleet.LevelNamespace, true, true, true
	r, err := b.runtime(ctx, dir, b.s.log())
	if err != nil {
		return t, err
	}
	defer func() {
		failed = errors.Join(failed, r.Sweep(func(string) bool { return false }), r.Close())
	}()
	if why := r.CanBuild(); b.whole && why != nil {
		fmt.Fprintf(b.out, "k2sandbox: commands run as the template's user, and only what is in the home and the working directory is kept: %v\n", why)
		b.whole = false
		if t, err := b.built(ctx, store, &t, wanted); !errors.Is(err, template.ErrNotFound) {
			return t, err
		}
	}
	m, err := b.start(ctx, r)
	if err != nil {
		return t, err
	}
	defer func() { failed = errors.Join(failed, m.Kill()) }()
	way := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return m.Dial(ctx) }}
	c, err := client.New("http://sandbox", client.Options{Transport: way})
	if err != nil {
		return t, err
	}
	defer c.Close()
	defer renewed(ctx, way)()
	t.Home = cmp.Or(t.Home, "/home/user")
	if err := b.steps(ctx, c, &t, wanted); err != nil {
		return t, err
	}
	return b.keep(ctx, c, m, store, t)
}

// start starts the sandbox.
func (b *building) start(ctx context.Context, r *local.Runtime) (fleet.Machine, error) {
	spec := fleet.Spec{
		ID: "sb_build" + strings.ToLower(rand.Text()[:12]), Template: b.from, Network: fleet.Network{Mode: string(b.network.Chosen()), Allow: b.network.Allow}, Lease: buildLease,
	}
	if b.whole {
		return r.Build(ctx, spec)
	}
	spec, err := r.Complete(spec)
	if err != nil {
		return nil, err
	}
	return r.Start(ctx, spec)
}

// buildLease is how long a sandbox lives whose build was killed.
const buildLease = 5 * time.Minute

// renewed has a sandbox live on until the function that it returns is called.
func renewed(ctx context.Context, way http.RoundTripper) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for tick := time.NewTicker(buildLease / 5); ; {
			select {
			case <-tick.C:
			case <-ctx.Done():
				tick.Stop()
				return
			}
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://sandbox%s?seconds=%.0f", leasePath, buildLease.Seconds()), nil)
			if err != nil {
				continue
			}
			if resp, err := way.RoundTrip(req); err == nil { // else the steps will tell
				resp.Body.Close()
			}
		}
	}()
	return func() { cancel(); <-done }
}

// steps are what is done in the sandbox.
func (b *building) steps(ctx context.Context, c *client.Client, t *template.Template, wanted string) error {
	envs, _ := pairs("env", b.env) // which build has checked
	command := []string{"/bin/sh", "-c"}
	if b.whole {
		envs, command = asRoot(envs, t.Home), []string{"/bin/sh", "-c", imagesFirst, imagePath(t)}
	}
	if strings.TrimSpace(wanted) != "" {
		const list = "/tmp/requirements.txt"
		if _, err := c.WriteFile(ctx, list, strings.NewReader(wanted), client.WriteOptions{}); err != nil {
			return fmt.Errorf("cannot send the requirements: %w", err)
		}
		args := []string{"/bin/sh", "-c", installOwn, t.Python, "-r", list}
		if !b.whole || t.Python == "" {
			t.Build.Packages = path.Join(t.Home, ".k2sandbox", "packages")
			args = []string{"/bin/sh", "-c", install, t.Build.Packages, "-r", list}
		}
		if b.packages.NoIndex {
			args = append(args, "--no-index")
		}
		if err := b.step(ctx, c, "install "+b.requirements, args, envs); err != nil {
			return err
		}
	}
	for _, line := range b.commands {
		if err := b.step(ctx, c, line, append(command[:len(command):len(command)], line), envs); err != nil {
			return err
		}
	}
	return nil
}

// asRoot adds to the variables of commands who root is. Its home is that of the template's user, as all in it will be.
func asRoot(envs map[string]string, home string) map[string]string {
	all := map[string]string{"HOME": home, "USER": "root", "LOGNAME": "root"}
	maps.Copy(all, envs)
	return all
}

// imagesFirst runs a line with the programs of the image in front of those of the server, and none of an environment that goes with the sandbox.
const imagesFirst = `PATH="$0:$PATH"
unset VIRTUAL_ENV
exec /bin/sh -c "$1"`

// imagePath is where an image has its programs.
func imagePath(t *template.Template) string {
	dirs := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, v := range t.Env {
		if set, ok := strings.CutPrefix(v, "PATH="); ok {
			dirs = set
		}
	}
	return dirs
}

// installOwn installs what its arguments say for the Python of the image that the name of the command is.
const installOwn = `set -e
unset VIRTUAL_ENV
export PIP_ROOT_USER_ACTION=ignore PIP_BREAK_SYSTEM_PACKAGES=1
if "$0" -m pip --version >/dev/null 2>&1; then
  exec "$0" -m pip install --no-cache-dir --no-input "$@"
fi
command -v uv >/dev/null 2>&1 || { echo "the image's Python, $0, has no pip, and the image no uv: nothing can install packages there" >&2; exit 1; }
exec uv pip install --no-cache --python "$0" --break-system-packages "$@"`

// install installs what its arguments say into the directory that the name of the command is. What runs after it finds it, too, as in
// sandboxes of the template.
const install = `set -ef
python3 -c 'import site, sys
with open(site.getsitepackages()[0] + "/_k2_built.pth", "w") as file:
    file.write("import site; site.addsitedir(%r)\n" % sys.argv[1])' "$0"
if command -v uv >/dev/null 2>&1; then
  unset UV_INDEX_URL UV_EXTRA_INDEX_URL
  if [ -n "$PIP_INDEX_URL" ]; then export UV_DEFAULT_INDEX="$PIP_INDEX_URL"; fi
  if [ -n "$PIP_EXTRA_INDEX_URL" ]; then export UV_INDEX="$PIP_EXTRA_INDEX_URL"; fi
  for place in $PIP_FIND_LINKS; do set -- "$@" --find-links "$place"; done
  exec uv pip install --no-cache --python "$(command -v python3)" --target "$0" "$@"
fi
exec python3 -m pip install --no-cache-dir --no-input --upgrade --target "$0" "$@"`

// step runs a command, and passes on what it says.
func (b *building) step(ctx context.Context, c *client.Client, name string, args []string, envs map[string]string) error {
	fmt.Fprintf(b.out, "k2sandbox: %s\n", plain(name))
	var end process.End
	for e, err := range c.RunProcess(ctx, api.ProcessRequest{Args: args, Envs: envs}) {
		if err != nil {
			return fmt.Errorf("%.200s: %w", name, err)
		}
		switch e.Type {
		case process.Stdout, process.Stderr:
			_, _ = b.out.Write(e.Output())
		case journal.End:
			end = e.End
		}
	}
	switch {
	case end.Signal != nil:
		return fmt.Errorf("%.200s: ended by %s", name, *end.Signal)
	case end.ExitCode != 0:
		return fmt.Errorf("%.200s: exit status %d", name, end.ExitCode)
	}
	return nil
}

// keep makes a layer of what the sandbox has that the template has not.
func (b *building) keep(ctx context.Context, c *client.Client, m fleet.Machine, store *template.Store, t template.Template) (template.Template, error) {
	read, write := io.Pipe()
	go func() { // ends with the pipe
		var err error
		if build, ok := m.(*local.Build); ok {
			err = build.Layer(ctx, write)
		} else {
			err = packHome(ctx, c, write, t)
		}
		_ = write.CloseWithError(err)
	}()
	began := time.Now()
	t, err := store.Extend(ctx, t, read)
	_ = read.CloseWithError(errors.New("nobody reads any more"))
	if err == nil {
		l := t.Layers[len(t.Layers)-1]
		fmt.Fprintf(b.out, "k2sandbox: a layer of %d files, %d MiB, in %.1f s\n", l.Files, l.Size>>20, time.Since(began).Seconds())
		if l.LeftOut != (template.LeftOut{}) {
			fmt.Fprintf(b.out, "k2sandbox: left out: %s\n", leftOut(l.LeftOut))
		}
	}
	return t, err
}

// packHome writes an archive of the directories of the template's user.
func packHome(ctx context.Context, c *client.Client, w io.Writer, t template.Template) error {
	dirs := []string{t.Home}
	if t.Workdir != "" && local.Ownable(t.Workdir) && !strings.HasPrefix(t.Workdir+"/", t.Home+"/") {
		dirs = append(dirs, t.Workdir)
	}
	archive := tar.NewWriter(w)
	for _, dir := range dirs {
		packed, err := c.PackFiles(ctx, dir)
		if err != nil {
			return fmt.Errorf("cannot read %s: %w", dir, err)
		}
		err = template.Graft(archive, dir, packed, cmp.Or(t.UID, 1000), cmp.Or(t.GID, t.UID, 1000))
		packed.Close()
		if err != nil {
			return err
		}
	}
	return archive.Close()
}
