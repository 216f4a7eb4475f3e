package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet/local"
	"github.com/k2sandbox/k2sandbox/fleet/template"
	"github.com/k2sandbox/k2sandbox/kernel"
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
	whole        bool      // commands run as root, and all that they change is kept
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

From an image, and as root here, commands run as root of the sandbox, who is nobody on this machine, so that they can install programs: all that
they change is kept, and what lies in the home of the template's user and in its working directory is that user's. Else, and from the
server's own template, they run as the template's user, and what is kept is what they have put into these two. They begin in the working
directory. No server has to run; sandboxes have to be confined by namespaces here.`,
		Example: `  k2sandbox template build science --requirements requirements.txt
  k2sandbox template build tools --from debian:12 --run 'apt-get update && apt-get install -y --no-install-recommends git' --env DEBIAN_FRONTEND=noninteractive
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
	b.whole = os.Geteuid() == 0 && !base.Build.Host
	if t, err := b.built(ctx, store, &base, wanted); !errors.Is(err, template.ErrNotFound) {
		return t, err
	}
	return b.run(ctx, store, base, wanted)
}

// built returns the template where it has been built of the same things before. It fails with ErrNotFound.
func (b *building) built(ctx context.Context, store *template.Store, base *template.Template, wanted string) (t template.Template, err error) {
	if base.Build.Key, err = b.key(ctx, *base, wanted); err != nil {
		return t, err
	}
	if t, err = store.Built(base.Build.Key); err == nil && b.fresh {
		err = template.ErrNotFound
	}
	if err == nil {
		t, err = store.Rename(ctx, t, b.name)
	}
	if err == nil {
		fmt.Fprintln(b.out, "k2sandbox: that was built before")
	}
	return t, err
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
	text, err := json.Marshal([]any{base.ID, layers, base.Env, base.User, base.Workdir, wanted, b.commands, from, b.packages.NoIndex, b.network, b.whole})
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
