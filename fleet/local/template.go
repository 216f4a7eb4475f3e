package local

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/k2sandbox/k2sandbox/fleet"
	images "github.com/k2sandbox/k2sandbox/fleet/template"
	"github.com/k2sandbox/k2sandbox/kernel/python"
)

// template is what sandboxes are made from: the layer that is their root, and what of
// the host is mounted over it, read-only.
type template struct {
	dir     string            // of the layer, on the host
	binds   []string          // directories of the host, which are at the same place inside; parents first
	links   []link            // that lead to them
	files   []string          // of the host, which are copied to the same place
	moved   map[string]string // places in the layer, and the files of the host that are copied there
	written map[string]string // files of our own, by place
	environ []string          // of code inside

	image       *images.Template // of the store, which it is made of; nil: of the host's files
	layers      []string         // of the image, on the host, the topmost first: the layer above lies over them
	code, group int              // the user and group ids of code
	home        string           // of that user, an absolute path inside
	own         []string         // other directories that are that user's
	interpreter string           // of kernels, a path inside; "" is the server's
	packages    string           // a folder of Python packages beside those of the interpreter, a path inside; "": there is none
	cold        bool             // the server's zygote forks no kernels of it
	users       *atomic.Int64    // of one of an image: starts and sandboxes
}

// Of the host's /etc goes into a sandbox what a /usr of the host needs and what is no secret anywhere.
var etc = []string{
	"/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/ca-certificates.conf", "/etc/pki/tls/certs", "/etc/pki/ca-trust/extracted",
	"/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime", "/etc/timezone",
	"/etc/mime.types", "/etc/services", "/etc/protocols", "/etc/rpc", "/etc/ethertypes", "/etc/terminfo", "/etc/inputrc", "/etc/bash.bashrc",
	"/etc/fonts", "/etc/ImageMagick-6", "/etc/ImageMagick-7", "/etc/magic", "/etc/magic.mime", "/etc/os-release", "/etc/debian_version",
	"/etc/lsb-release", "/etc/locale.alias", "/etc/locale.conf", "/etc/default/locale", "/etc/java-11-openjdk", "/etc/java-17-openjdk", "/etc/java-21-openjdk",
	"/etc/R", "/etc/OpenCL", "/etc/vulkan", "/etc/xml", "/etc/sgml", "/etc/perl", "/etc/python3", "/etc/python3.11", "/etc/python3.12", "/etc/python3.13",
	"/etc/pip.conf", "/etc/uv/uv.toml", "/etc/gai.conf", "/etc/profile", "/etc/skel", "/etc/shells", "/etc/login.defs",
}

// written are the files of /etc that are the same in all sandboxes.
var written = map[string]string{
	"/etc/passwd": "root:x:0:0:root:/root:/bin/bash\nuser:x:1000:1000::/home/user:/bin/bash\nagent:x:999:999::/nonexistent:/usr/sbin/nologin\n" +
		"nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
	"/etc/group":         "root:x:0:\ntty:x:5:\nagent:x:999:\nuser:x:1000:\nnogroup:x:65534:\n",
	"/etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n",
	"/etc/host.conf":     "multi on\n",

	"/etc/profile.d/k2sandbox.sh": loginScript,
}

// loginScript has a login shell find the programs that others find: /etc/profile sets PATH anew,
// and what the agent starts is told by K2_PATH what that was.
const loginScript = "if [ -n \"${K2_PATH-}\" ]; then\n  PATH=$K2_PATH\n  export PATH\nfi\n"

// maxCopy bounds what is copied of one file of the host, in bytes.
const maxCopy = 16 << 20

// prefixes asks an interpreter for the directories that it runs from.
func prefixes(ctx context.Context, interpreter string) ([]string, error) {
	const ask = `import json, sys, sysconfig
print(json.dumps([sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix, sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]))`
	out, err := exec.CommandContext(ctx, interpreter, "-I", "-c", ask).Output()
	if err != nil {
		return nil, fmt.Errorf("cannot ask %s for its directories: %w", interpreter, err)
	}
	var dirs []string
	if err := json.Unmarshal(out, &dirs); err != nil {
		return nil, fmt.Errorf("cannot read what %s said of its directories: %w", interpreter, err)
	}
	return dirs, nil
}

// hostTemplate plans the template of the host: its /usr, the directories that an interpreter needs,
// and those of packages. They are mounted at the same place, each once.
func hostTemplate(needed, packages []string) (template, error) {
	t := template{files: etc, moved: map[string]string{}, code: userID, group: userID, home: userHome}
	real := []string{"/usr"}
	system := []string{"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}
	for _, dir := range slices.Concat(system, needed, packages) {
		end, links, err := route(dir)
		switch {
		case err == nil && !systemDirs[end]:
			real = append(real, end)
			t.links = append(t.links, links...)
		case !slices.Contains(needed, dir): // need not be there
		case err == nil:
			return template{}, fmt.Errorf("cannot give sandboxes %s: it is a directory of the system", end)
		case !os.IsNotExist(err):
			return template{}, fmt.Errorf("cannot follow %s: %w", dir, err)
		}
	}
	slices.SortFunc(real, func(a, b string) int { return cmp.Or(len(parts(a))-len(parts(b)), strings.Compare(a, b)) })
	for _, dir := range real {
		if !t.covers(dir) {
			t.binds = append(t.binds, dir)
		}
	}
	t.links = slices.DeleteFunc(t.links, func(l link) bool { return t.covers(l.path) })
	return t, nil
}

// systemDirs are no place for an interpreter alone: they hold what is not for sandboxes.
var systemDirs = map[string]bool{
	"/": true, "/boot": true, "/dev": true, "/etc": true, "/home": true, "/mnt": true, "/proc": true, "/root": true,
	"/run": true, "/srv": true, "/sys": true, "/tmp": true, "/var": true, "/var/lib": true, "/var/tmp": true,
}

// covers reports whether the path is in something mounted.
func (t *template) covers(path string) bool {
	return slices.ContainsFunc(t.binds, func(dir string) bool { return within(path, dir) })
}

// build makes the layer in an empty directory.
func (t *template) build(dir string) error {
	t.dir = dir
	for _, d := range []string{"etc", "dev", "proc", "sys", "run", "var/lib", "var/log", "var/cache", "opt", "srv", "mnt", "media", "root", "home/user", "usr"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	for _, d := range []string{"tmp", "var/tmp"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o777); err != nil {
			return err
		}
		if err := os.Chmod(filepath.Join(dir, d), 0o777|os.ModeSticky); err != nil {
			return err
		}
	}
	for _, f := range t.files {
		if err := t.copy(f, f); err != nil {
			return err
		}
	}
	t.links = append(t.links, link{"/var/run", "../run"}, link{"/etc/mtab", "../proc/self/mounts"})
	return t.fill()
}

// fill makes in the layer what is not copied from the host.
func (t *template) fill() error {
	for to, from := range t.moved {
		text, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		to = filepath.Join(t.dir, to)
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, text, 0o644)); err != nil {
			return err
		}
	}
	for path, text := range t.written {
		to := filepath.Join(t.dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, []byte(text), 0o644)); err != nil {
			return err
		}
	}
	for _, b := range t.binds {
		if err := t.place(b); err != nil {
			return err
		}
	}
	for _, l := range t.links {
		to := filepath.Join(t.dir, l.path)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(l.target, to); err != nil && !os.IsExist(err) {
			return err
		}
	}
	return nil
}

// place makes the directory, or the file, at which something is mounted.
func (t *template) place(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	to := filepath.Join(t.dir, path)
	if info.IsDir() {
		return os.MkdirAll(to, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, nil, 0o644)
}

// copy copies what others than its owner may read: files, directories and links. What
// is not there, or is something else, is passed over.
func (t *template) copy(from, to string) error {
	root, err := filepath.EvalSymlinks(from)
	if err != nil {
		return nil
	}
	if info, err := os.Lstat(from); err == nil && info.Mode()&fs.ModeSymlink != 0 && t.covers(root) {
		return t.link(from, to) // such as /etc/localtime, into /usr
	}
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		return t.entry(path, filepath.Join(to, strings.TrimPrefix(path, root)), d)
	})
}

func (t *template) entry(from, to string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return nil
	}
	switch {
	case d.IsDir() && info.Mode().Perm()&0o005 != 0o005:
		return fs.SkipDir
	case d.IsDir():
		return os.MkdirAll(filepath.Join(t.dir, to), 0o755)
	case d.Type() == fs.ModeSymlink:
		return t.link(from, to)
	case !d.Type().IsRegular() || info.Mode().Perm()&0o004 == 0 || info.Size() > maxCopy:
		return nil
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return nil
	}
	to = filepath.Join(t.dir, to)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o644|info.Mode().Perm()&0o111)
}

// link copies a link. One to a place that the sandbox does not have hangs, as it may on a host.
func (t *template) link(from, to string) error {
	target, err := os.Readlink(from)
	if err != nil {
		return nil
	}
	to = filepath.Join(t.dir, to)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if err := os.Symlink(target, to); err != nil && !os.IsExist(err) {
		return err
	}
	return nil
}

// makeTemplate makes the template's layer, or finds that it has been made before: the
// name of its directory is that of its contents, as sandboxes may be using it.
func (r *Runtime) makeTemplate(ctx context.Context, root bool) (template, error) {
	var dirs []string
	if r.options.Interpreter != "" {
		var err error
		if dirs, err = prefixes(ctx, r.options.Interpreter); err != nil {
			return template{}, err
		}
	}
	if os.Geteuid() == 0 && r.options.Level != fleet.LevelNone {
		for _, dir := range dirs {
			if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o005 != 0o005 {
				return template{}, fmt.Errorf("no other user than root can read %s: sandboxes cannot use its Python", dir)
			}
		}
	}
	more := packagePlaces(r.options.Environ)
	if root {
		more = append(more, dpkgDir)
	}
	t, err := hostTemplate(dirs, more)
	if err != nil {
		return template{}, err
	}
	t.written = written
	if root {
		t.giveRoot()
	}
	if r.options.Interpreter != "" {
		if r.options.Interpreter, err = t.reach(ctx, r.options.Interpreter); err != nil {
			return template{}, err
		}
	}
	t.adapt(r.options.Environ)
	part, err := os.MkdirTemp(r.templates(), ".part-")
	if err != nil {
		return template{}, err
	}
	defer os.RemoveAll(part)
	if err := os.Chmod(part, 0o755); err != nil {
		return template{}, err
	}
	if err := t.build(part); err != nil {
		return template{}, err
	}
	if err := python.Share(part); err != nil {
		return template{}, err
	}
	if root {
		if err := t.mask(ctx); err != nil {
			return template{}, err
		}
	}
	sum, err := sumTree(part)
	if err != nil {
		return template{}, err
	}
	t.dir = filepath.Join(r.templates(), sum)
	if err := os.Rename(part, t.dir); err != nil {
		if _, missing := os.Stat(t.dir); missing != nil {
			return template{}, err
		}
	}
	return t, nil
}

// sumTree returns a name for what is in a directory.
func sumTree(root string) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var text []byte
		switch {
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			text = []byte(target)
		case d.Type().IsRegular():
			if text, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		fmt.Fprintf(h, "%q %v %d\n", strings.TrimPrefix(path, root), info.Mode(), len(text))
		h.Write(text)
		return nil
	})
	return hex.EncodeToString(h.Sum(nil)[:16]), err
}
