package main

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/client"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/fleet/local"
	"github.com/k2sandbox/k2sandbox/fleet/template"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/process"
)

// building is one "template build".
type building struct {
	serving
	name, from   string
	requirements string // path of a file
	commands     []string
	env          []string
	network      api.NetworkRequest
	fresh        bool
	out          io.Writer // what is done, and what the programs inside say
}

func templateBuildCommand() *cobra.Command {
	var b building
	b.add(new(cobra.Command)) // for the defaults of what is no flag here
	cmd := &cobra.Command{
		Use:   "build NAME",
		Short: "Build a template from another one, a requirements file and commands, and print its name",
		Long: `Build a template from another one: a sandbox is made of that, packages are installed and commands run in it, and what they have
left becomes a layer above. What was built of the same things before is taken as it is.

Commands run as the template's user, in its working directory. What is kept is what they have put into the user's home and that directory. No
server has to run; sandboxes have to be confined by namespaces here.`,
		Example: `  k2sandbox template build science --requirements requirements.txt
  k2sandbox template build app --from python:3.12-slim --run 'git clone https://example.org/app.git' --run 'make -C app' --env APP_MODE=test`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			b.name, b.out = args[0], cmd.ErrOrStderr()
			t, err := b.build(ctx)
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), t.Name)
			}
			return err
		},
	}
	b.s.addInterpreter(cmd, slog.LevelError)
	b.packages.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&b.from, "from", local.Template, "template to build from")
	flags.StringVarP(&b.requirements, "requirements", "r", "", "file with the packages to install, one a line, as pip takes it")
	_ = cmd.MarkFlagFilename("requirements")
	flags.StringArrayVar(&b.commands, "run", nil, "command to run, by /bin/sh; may be given many times")
	flags.StringArrayVarP(&b.env, "env", "e", nil, "environment variable of the commands and of the template, NAME=VALUE; may be given many times")
	flags.StringVar((*string)(&b.network.Mode), "network", string(api.NetworkFull), `what the commands reach: "full", "packages", "allow" or "none"`)
	flags.StringSliceVar(&b.network.Allow, "allow", nil, "host, address or range of them that the commands reach; may be given many times")
	flags.IntVar(&b.confined.memory, "memory", b.confined.memory, "MiB of memory of the sandbox")
	flags.IntVar(&b.confined.disk, "disk", b.confined.disk, "MiB of its files")
	flags.BoolVar(&b.fresh, "no-cache", false, "build it even if that was done before")
	return cmd
}

func (b *building) build(ctx context.Context) (t template.Template, err error) {
	if err := template.CheckName(b.name); err != nil {
		return t, err
	}
	if b.network.Mode == api.NetworkFull && len(b.network.Allow) > 0 {
		b.network.Mode = api.NetworkAllow
	}
	if err := b.network.Validate(); err != nil {
		return t, err
	}
	if _, err := pairs("env", b.env); err != nil {
		return t, err
	}
	wanted, err := b.wanted()
	if err != nil {
		return t, err
	}
	store, err := b.s.store()
	if err != nil {
		return t, err
	}
	base, err := b.base(ctx, store)
	if err != nil {
		return t, err
	}
	base.Build.Key, err = b.key(ctx, base, wanted)
	if err != nil {
		return t, err
	}
	if found, err := store.Built(base.Build.Key); err == nil && !b.fresh {
		t, err := store.Rename(ctx, found, b.name)
		if !errors.Is(err, template.ErrNotFound) {
			fmt.Fprintln(b.out, "k2sandbox: that was built before")
			return t, err
		}
	}
	return b.run(ctx, store, base, wanted)
}

// wanted returns the requirements file's text.
func (b *building) wanted() (string, error) {
	if b.requirements == "" {
		return "", nil
	}
	info, err := os.Stat(b.requirements)
	if err == nil && info.Size() > maxRequirements {
		err = fmt.Errorf("it has more than %d bytes", maxRequirements)
	}
	if err != nil {
		return "", fmt.Errorf("--requirements: %w", err)
	}
	text, err := os.ReadFile(b.requirements)
	return string(text), err
}

const maxRequirements = 4 << 20

// base returns what the template is to be before its layer is added.
func (b *building) base(ctx context.Context, store *template.Store) (template.Template, error) {
	t := template.Template{}
	host := b.from == local.Template || slices.Contains(local.Aliases, b.from)
	if host {
		spec, err := b.s.spec(ctx)
		if err != nil {
			return t, err
		}
		t.ID, t.Source, t.UID, t.GID, t.Home = spec.Argv[0], local.Template, 1000, 1000, "/home/user"
	} else {
		var err error
		if t, err = store.Get(b.from); err != nil {
			return t, fmt.Errorf("--from: %w", err)
		}
		t.Source = t.Name
		if t.Build != nil {
			host = t.Build.Host
		}
	}
	before := t.Build
	t.Name, t.Build = b.name, &template.Build{Base: t.Source, Host: host}
	if before != nil {
		t.Build.Packages = before.Packages
	}
	t.Env = append(slices.Clone(t.Env), b.env...)
	return t, nil
}

// key names all that a template is built of.
func (b *building) key(ctx context.Context, base template.Template, wanted string) (string, error) {
	from, err := b.sources()
	if err != nil {
		return "", err
	}
	if base.Python == "" { // it has the server's
		spec, err := b.s.spec(ctx)
		if err != nil {
			return "", err
		}
		real, err := filepath.EvalSymlinks(spec.Argv[0])
		if err != nil {
			return "", err
		}
		from = append(from, stamp(real))
	}
	var layers []string
	for _, l := range base.Layers {
		layers = append(layers, l.DiffID)
	}
	text, err := json.Marshal([]any{base.ID, layers, base.Env, base.User, base.Workdir, wanted, b.commands, from, b.packages.NoIndex, b.network})
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), err
}

// sources tells where packages come from, with the files of folders.
func (b *building) sources() (all []string, err error) {
	environ, err := b.packages.environ(kernel.DefaultEnviron(os.Environ()))
	for _, v := range environ {
		name, value, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(name, "PIP_") && !strings.HasPrefix(name, "UV_") || strings.HasSuffix(name, "_CACHE_DIR") {
			continue
		}
		all = append(all, v)
		for place := range strings.FieldsFuncSeq(value, func(r rune) bool { return r == ' ' || r == ',' }) {
			dir := strings.TrimPrefix(place, "file://")
			entries, _ := os.ReadDir(dir) // of a URL there are none
			for _, e := range entries {
				all = append(all, stamp(filepath.Join(dir, e.Name())))
			}
		}
	}
	slices.Sort(all)
	return all, err
}

// stamp is a file's name with what changes when it does.
func stamp(file string) string {
	info, err := os.Stat(file)
	if err != nil {
		return file
	}
	return fmt.Sprint(file, " ", info.Size(), " ", info.ModTime().UnixNano())
}

// run builds the template in a sandbox of the one that it is built from.
func (b *building) run(ctx context.Context, store *template.Store, t template.Template, wanted string) (_ template.Template, failed error) {
	dir, err := os.MkdirTemp("", "k2sandbox-build-")
	if err != nil {
		return t, err
	}
	defer os.RemoveAll(dir)
	b.confined.level, b.confined.cold, b.confined.trusted = fleet.LevelNamespace, true, true
	r, err := b.runtime(ctx, dir, b.s.log())
	if err != nil {
		return t, err
	}
	defer func() {
		failed = errors.Join(failed, r.Sweep(func(string) bool { return false }), r.Close())
	}()
	spec, err := r.Complete(fleet.Spec{
		ID: "sb_build" + strings.ToLower(rand.Text()[:12]), Template: b.from, Network: fleet.Network{Mode: string(b.network.Chosen()), Allow: b.network.Allow}, Lease: buildLease,
	})
	if err != nil {
		return t, err
	}
	m, err := r.Start(ctx, spec)
	if err != nil {
		return t, err
	}
	defer func() { failed = errors.Join(failed, m.Kill()) }()
	c, err := client.New("http://sandbox", client.Options{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return m.Dial(ctx) },
	}})
	if err != nil {
		return t, err
	}
	defer c.Close()
	t.Home = cmp.Or(t.Home, "/home/user")
	if err := b.steps(ctx, c, &t, wanted); err != nil {
		return t, err
	}
	return b.keep(ctx, c, store, t)
}

// buildLease is how long a sandbox lives whose build was killed, and how long a step may take.
const buildLease = 24 * time.Hour

// steps are what is done in the sandbox.
func (b *building) steps(ctx context.Context, c *client.Client, t *template.Template, wanted string) error {
	envs, _ := pairs("env", b.env) // which build has checked
	if strings.TrimSpace(wanted) != "" {
		const list = "/tmp/requirements.txt"
		if _, err := c.WriteFile(ctx, list, strings.NewReader(wanted), client.WriteOptions{}); err != nil {
			return fmt.Errorf("cannot send the requirements: %w", err)
		}
		t.Build.Packages = path.Join(t.Home, ".k2sandbox", "packages")
		args := append([]string{"/bin/sh", "-c", install, "sh", t.Build.Packages, "-r", list}, b.noIndex()...)
		if err := b.step(ctx, c, "install "+b.requirements, args, envs); err != nil {
			return err
		}
	}
	for _, line := range b.commands {
		if err := b.step(ctx, c, line, []string{"/bin/sh", "-c", line}, envs); err != nil {
			return err
		}
	}
	return nil
}

// install is the command that installs what its arguments say into the directory that is the first of them. What runs after it finds
// it, too, as in sandboxes of the template.
const install = `set -ef
into="$1"
shift
python3 -c 'import site, sys
with open(site.getsitepackages()[0] + "/_k2_built.pth", "w") as file:
    file.write("import site; site.addsitedir(%r)\n" % sys.argv[1])' "$into"
if command -v uv >/dev/null 2>&1; then
  unset UV_INDEX_URL UV_EXTRA_INDEX_URL
  if [ -n "$PIP_INDEX_URL" ]; then export UV_DEFAULT_INDEX="$PIP_INDEX_URL"; fi
  if [ -n "$PIP_EXTRA_INDEX_URL" ]; then export UV_INDEX="$PIP_EXTRA_INDEX_URL"; fi
  for place in $PIP_FIND_LINKS; do set -- "$@" --find-links "$place"; done
  exec uv pip install --no-cache --python "$(command -v python3)" --target "$into" "$@"
fi
exec python3 -m pip install --no-cache-dir --no-input --upgrade --target "$into" "$@"`

// noIndex is an argument of who installs.
func (b *building) noIndex() []string {
	if b.packages.NoIndex {
		return []string{"--no-index"}
	}
	return nil
}

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

// keep makes a layer of what the sandbox has in the directories of its user.
func (b *building) keep(ctx context.Context, c *client.Client, store *template.Store, t template.Template) (template.Template, error) {
	dirs := []string{t.Home}
	if t.Workdir != "" && local.Ownable(t.Workdir) && !strings.HasPrefix(t.Workdir+"/", t.Home+"/") {
		dirs = append(dirs, t.Workdir)
	}
	read, write := io.Pipe()
	go func() { // ends with the pipe
		archive := tar.NewWriter(write)
		var err error
		for _, dir := range dirs {
			err = errors.Join(err, graftDir(ctx, c, archive, dir, t))
		}
		_ = write.CloseWithError(errors.Join(err, archive.Close()))
	}()
	began := time.Now()
	t, err := store.Extend(ctx, t, read)
	_ = read.CloseWithError(errors.New("nobody reads any more"))
	if err == nil {
		l := t.Layers[len(t.Layers)-1]
		fmt.Fprintf(b.out, "k2sandbox: a layer of %d files, %d MiB, in %.1f s\n", l.Files, l.Size>>20, time.Since(began).Seconds())
	}
	return t, err
}

func graftDir(ctx context.Context, c *client.Client, w *tar.Writer, dir string, t template.Template) error {
	packed, err := c.PackFiles(ctx, dir)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", dir, err)
	}
	defer packed.Close()
	return template.Graft(w, dir, packed, cmp.Or(t.UID, 1000), cmp.Or(t.GID, t.UID, 1000))
}
