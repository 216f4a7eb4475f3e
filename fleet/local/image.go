package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/k2sandbox/k2sandbox/fleet"
	images "github.com/k2sandbox/k2sandbox/fleet/template"
	"github.com/k2sandbox/k2sandbox/kernel/python"
)

// imaged are the templates of images that sandboxes have been made of. Each has a layer of its own above the image's, with what a
// sandbox has from the server.
type imaged struct {
	user *images.User // nil where there is no store

	mu    sync.Mutex // held while one is made
	made  map[string]*template
	needs *needs // nil: not asked yet
}

// lookUp returns an image of the store that sandboxes can be made of here.
func (r *Runtime) lookUp(name string) (t images.Template, err error) {
	if r.options.Store == nil {
		return t, fmt.Errorf("%w %q", fleet.ErrUnknownTemplate, name)
	}
	t, err = r.options.Store.Get(name)
	if errors.Is(err, images.ErrNotFound) {
		return t, fmt.Errorf("%w %q", fleet.ErrUnknownTemplate, name)
	}
	if err == nil && r.level != fleet.LevelNamespace {
		err = fmt.Errorf("template %s: sandboxes of the level %s have the host's files, and none of an image: %w", t.Name, r.level, fleet.ErrUnsupported)
	}
	return t, err
}

// imageTemplate returns the template of an image, which it makes where that has not been done. It is kept until release.
func (r *Runtime) imageTemplate(ctx context.Context, name string) (*template, error) {
	t, err := r.lookUp(name)
	if err != nil {
		return nil, err
	}
	made, fresh, err := r.makeOnce(ctx, t)
	if fresh {
		if err := r.sweepTemplates(youngTemplate); err != nil {
			r.options.Log.Warn("cannot remove what templates have left", "error", err)
		}
	}
	return made, err
}

// youngTemplate is how long a layer that this process knows nothing of may be that of one which gets ready to take over.
const youngTemplate = time.Hour

func (r *Runtime) makeOnce(ctx context.Context, t images.Template) (made *template, fresh bool, err error) {
	r.imaged.mu.Lock()
	defer r.imaged.mu.Unlock()
	if made = r.imaged.made[t.ID]; made != nil {
		made.users.Add(1)
		return made, false, nil
	}
	for id, old := range r.imaged.made {
		if old.users.Load() == 0 && r.gone(old) {
			delete(r.imaged.made, id)
		}
	}
	release, err := r.hold(ctx, "making-"+t.ID[len("sha256:"):], t)
	if err != nil {
		return nil, false, err
	}
	defer release()
	if made, err = r.makeImage(ctx, t); err != nil {
		return nil, false, fmt.Errorf("template %s: %w", t.Name, err)
	}
	made.users.Add(1)
	r.imaged.made[t.ID] = made
	return made, true, nil
}

// gone reports whether a template's name stands for it no more.
func (r *Runtime) gone(t *template) bool {
	now, err := r.options.Store.Get(t.image.Name)
	return err != nil || now.ID != t.image.ID
}

// hold keeps an image's layers for one of this server's, until it is released.
func (r *Runtime) hold(ctx context.Context, name string, t images.Template) (release func(), err error) {
	if err := r.imaged.user.Hold(ctx, name, t); err != nil {
		if errors.Is(err, images.ErrNotFound) {
			err = fmt.Errorf("%w: %w", fleet.ErrUnknownTemplate, err)
		}
		return nil, err
	}
	return func() {
		if err := r.imaged.user.Release(name); err != nil {
			r.options.Log.Warn("cannot let go of a template", "template", t.Name, "error", err)
		}
	}, nil
}

// homeOf returns the home of an image's user.
func homeOf(t images.Template) string { return cmp.Or(t.Home, userHome) }

// makeImage plans the template of an image, and makes its own layer.
func (r *Runtime) makeImage(ctx context.Context, of images.Template) (*template, error) {
	if of.Build != nil && of.Build.Host {
		return r.builtOnHost(of), nil
	}
	v := r.options.Store.View(of)
	t := &template{moved: map[string]string{}, written: map[string]string{}, image: &of, code: cmp.Or(of.UID, userID), group: cmp.Or(of.GID, of.UID, userID), home: homeOf(of), interpreter: of.Python, cold: true, users: new(atomic.Int64)}
	t.layers = r.layersOf(of)
	libraries := map[string]string{}
	if of.Python == "" && r.options.Interpreter != "" {
		needs, err := r.askNeeds(ctx)
		if err == nil {
			err = needs.metBy(v, of.Libc)
		}
		if err != nil {
			return nil, fmt.Errorf("it has no Python with ipykernel, and cannot be given the server's: %w: %w", err, fleet.ErrUnsupported)
		}
		if t.links, err = needs.linksIn(v); err != nil {
			return nil, fmt.Errorf("%w: %w", err, fleet.ErrUnsupported)
		}
		t.binds, t.interpreter, t.cold = slices.Clone(needs.binds), r.options.Interpreter, needs.host.Less(of.Libc.Version)
		libraries = needs.missing(v, of.Libc)
	}
	for _, dir := range packagePlaces(r.options.Environ) {
		if real, _, err := route(dir); err == nil && real == dir && !systemDirs[dir] && dir != "/usr" && !t.covers(dir) {
			t.binds = append(t.binds, dir)
		}
	}
	slices.SortFunc(t.binds, func(a, b string) int { return len(parts(a)) - len(parts(b)) })
	if dir := placeOf(v, of.Workdir); dir != "" && Ownable(dir) {
		t.own = []string{dir}
	}
	t.write(v, of)
	t.adaptTo(v, r.options.Environ, of.Env)
	t.addPackages(of.Build)
	return t, r.makeLayer(t, libraries, placeOf(v, of.Workdir))
}

// Ownable reports whether a directory of an image is its user's where that works in it: none of the system's is.
func Ownable(dir string) bool {
	return !systemDirs[dir] && !slices.ContainsFunc([]string{"/usr", "/etc", "/proc", "/sys", "/dev"}, func(of string) bool { return within(dir, of) })
}

// makeLayer makes the template's own layer, which lies above the image's.
func (r *Runtime) makeLayer(t *template, libraries map[string]string, workdir string) error {
	part, err := os.MkdirTemp(r.templates(), ".part-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(part)
	t.dir = part
	if err := errors.Join(os.Chmod(part, 0o755), os.MkdirAll(part+workdir, 0o755)); err != nil {
		return err
	}
	for _, dir := range []string{"dev", "proc", "sys", "run"} { // where others are mounted there have to be directories, and no links
		if err := os.MkdirAll(filepath.Join(part, dir), 0o755); err != nil {
			return err
		}
	}
	for to, from := range libraries {
		text, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(part+to), 0o755), os.WriteFile(part+to, text, 0o755)); err != nil {
			return err
		}
	}
	if err := t.fill(); err != nil {
		return err
	}
	if err := python.Share(part); err != nil {
		return err
	}
	sum, err := sumTree(part)
	if err != nil {
		return err
	}
	t.dir = filepath.Join(r.templates(), sum)
	if err := os.Rename(part, t.dir); err != nil {
		if _, missing := os.Stat(t.dir); missing != nil {
			return err
		}
	}
	return nil
}

// placeOf returns where a path of the image is, or would be: what is there of it without links, and the rest.
func placeOf(v *images.View, name string) string {
	if name == "" {
		return ""
	}
	for rest := ""; ; name, rest = path.Dir(name), path.Join(path.Base(name), rest) {
		if real, err := v.Find(name); err == nil && v.IsDir(real) {
			return path.Join(real, rest)
		}
	}
}

// maxTable bounds what is read of an image's users and groups, in bytes.
const maxTable = 1 << 20

// write plans the files that a sandbox needs in /etc: users and groups beside the image's, and what names are looked up in.
func (t *template) write(v *images.View, of images.Template) {
	shell := "/bin/sh"
	if _, err := v.Find("/bin/bash"); err == nil {
		shell = "/bin/bash"
	}
	agent := agentOf(t.code, t.group)
	for file, rows := range map[string]string{
		"/etc/passwd": "root:x:0:0:root:/root:" + shell + "\n" + fmt.Sprintf("user:x:%d:%d::%s:%s\nagent:x:%d:%[5]d::/nonexistent:/usr/sbin/nologin\n", t.code, t.group, t.home, shell, agent) +
			"nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
		"/etc/group": fmt.Sprintf("root:x:0:\ntty:x:5:\nuser:x:%d:\nagent:x:%d:\nnogroup:x:65534:\n", t.group, agent),
	} {
		text, _ := v.Read(file, maxTable)
		t.written[file] = withRows(string(text), rows)
	}
	for _, file := range []string{"/etc/nsswitch.conf", "/etc/host.conf"} {
		if _, err := v.Find(file); errors.Is(err, fs.ErrNotExist) {
			t.written[file] = written[file]
		}
	}
	const script = "/etc/profile.d/k2sandbox.sh"
	t.written[script] = written[script]
}

// withRows adds to a table of users or groups the rows whose names and numbers it does not have.
func withRows(table, rows string) string {
	names, ids := map[string]bool{}, map[string]bool{}
	for line := range strings.Lines(table) {
		if row := strings.Split(line, ":"); len(row) > 3 {
			names[row[0]], ids[row[2]] = true, true
		}
	}
	if table != "" && !strings.HasSuffix(table, "\n") {
		table += "\n"
	}
	for line := range strings.Lines(rows) {
		row := strings.Split(line, ":")
		for n := 2; names[row[0]] && !ids[row[2]]; n++ { // a name of somebody else's
			row[0] = strings.TrimRight(row[0], "0123456789") + strconv.Itoa(n)
		}
		if !ids[row[2]] {
			table += strings.Join(row, ":")
		}
	}
	return table
}

// adaptTo makes of the image's environment, and of the server's, that of code inside. The image's comes first; but who the user is, and
// where, the server says.
func (t *template) adaptTo(v *images.View, environ, own []string) {
	t.adapt(environ)
	ours := t.environ
	t.environ = nil
	has := map[string]bool{}
	for _, e := range own {
		name, _, _ := strings.Cut(e, "=")
		if name == "HOME" || name == "USER" || name == "LOGNAME" || name == "SHELL" {
			continue
		}
		t.environ, has[name] = append(t.environ, e), true
	}
	for _, e := range ours {
		name, _, _ := strings.Cut(e, "=")
		switch {
		case has[name]:
			continue
		case name == "HOME":
			e = "HOME=" + t.home
		case name == "USER", name == "LOGNAME":
			e = name + "=" + t.userName()
		case name == "SHELL":
			if _, err := v.Find("/bin/bash"); err != nil {
				e = "SHELL=/bin/sh"
			}
		case name == "PATH":
			e = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
		}
		t.environ = append(t.environ, e)
	}
}

// userName returns the name of the user that code runs as.
func (t *template) userName() string {
	for line := range strings.Lines(t.written["/etc/passwd"]) {
		if row := strings.Split(line, ":"); len(row) > 3 && row[2] == strconv.Itoa(t.code) {
			return row[0]
		}
	}
	return "user"
}
