package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/sudo"
)

// RootTemplate gives sandboxes a root: user 0 of their user namespace, whom no user of the host is, with the capabilities
// of cage.Root. All code starts as the user, who cannot become root by a program (no_new_privs holds for root, too): the
// agent starts for it what is to run as root. What root changes of the template lies on the sandbox's own disk.

// Root returns why there is no RootTemplate, nil where there is one.
func (r *Runtime) Root() error { return r.rootless }

// makeRoot makes RootTemplate, where one is asked for and works: which it has tried.
func (r *Runtime) makeRoot(ctx context.Context) error {
	if !r.options.Root {
		return errors.New("this server was not asked to have it")
	}
	if err := r.canRoot(); err != nil {
		return err
	}
	t, err := r.makeTemplate(ctx, true)
	if err != nil {
		return fmt.Errorf("cannot make the template: %w", err)
	}
	r.root = &t
	if err := r.try(ctx, r.level, true); err != nil {
		r.root = nil
		return err
	}
	return nil
}

// canRoot returns why no sandbox here can have a root, nil where it can.
func (r *Runtime) canRoot() error {
	switch {
	case r.level != fleet.LevelNamespace:
		return fmt.Errorf("sandboxes of the level %s have no users of their own", r.level)
	case os.Geteuid() != 0:
		return errors.New("only a server that runs as root can give a sandbox one that is nobody else on this machine")
	}
	for _, what := range []string{"pids", "memory"} { // limits of each user's are none for who has 65,536
		if why := r.parent.Missing()[what]; why != nil {
			return fmt.Errorf("only a control group can bound what a root uses of %s: %w", what, why)
		}
	}
	return nil
}

// template returns what the sandbox is made from.
func (m *machine) template() *template {
	switch {
	case m.image != nil:
		return m.image
	case m.record.Root:
		return m.runtime.root
	}
	return &m.runtime.template
}

// dpkgDir tells programs that install packages what there is.
const dpkgDir = "/var/lib/dpkg"

// etcOfRoot is what programs that install packages and set up services and users need of the host's /etc, passwords of
// repositories excepted.
var etcOfRoot = []string{
	"/etc/apt/sources.list", "/etc/apt/sources.list.d", "/etc/apt/trusted.gpg", "/etc/apt/trusted.gpg.d", "/etc/apt/keyrings", "/etc/apt/preferences.d", "/etc/apt/apt.conf.d",
	"/etc/dpkg", "/etc/debconf.conf", "/etc/adduser.conf", "/etc/deluser.conf", "/etc/pam.conf", "/etc/pam.d", "/etc/security", "/etc/environment", "/etc/ucf.conf",
}

// giveRoot adds to a template what its root needs: users and groups that packages count on, too.
func (t *template) giveRoot() {
	t.files = slices.Concat(t.files, etcOfRoot)
	t.written = maps.Clone(t.written)
	users := merged(written["/etc/passwd"], "/usr/share/base-passwd/passwd.master")
	t.written["/etc/passwd"] = users
	t.written["/etc/group"] = merged(written["/etc/group"], "/usr/share/base-passwd/group.master")
	var shadow strings.Builder // of whom nobody has a password
	for line := range strings.Lines(users) {
		name, _, _ := strings.Cut(line, ":")
		shadow.WriteString(name + ":*:19000:0:99999:7:::\n")
	}
	t.written["/etc/shadow"] = shadow.String()
	for _, dir := range []string{"/var/lib/apt/lists/partial", "/var/cache/apt/archives/partial", "/var/log/apt"} {
		t.written[dir+"/.keep"] = ""
	}
}

// merged adds to the lines of a table of users or groups those of a file of the host's, if there is one, with other
// names and numbers.
func merged(table, file string) string {
	more, _ := os.ReadFile(file)
	names, ids := map[string]bool{}, map[string]bool{}
	var all strings.Builder
	for line := range strings.Lines(table + string(more)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 4)
		if len(f) < 4 || names[f[0]] || ids[f[2]] {
			continue
		}
		names[f[0]], ids[f[2]] = true, true
		fmt.Fprintf(&all, "%s:x:%s:%s\n", f[0], f[2], f[3])
	}
	return all.String()
}

// rootFiles are those of a sandbox with a root.
func rootFiles(t *template, interpreter string) map[string]string {
	files := map[string]string{sudo.Path: sudo.Program(cmp.Or(interpreter, "/usr/bin/python3"))}
	if t.covers(dpkgDir) {
		files[dpkgDir+"/statoverride"] = "" // of users and groups that are only the host's
	}
	return files
}
