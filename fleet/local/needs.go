package local

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	images "github.com/k2sandbox/k2sandbox/fleet/template"
)

// needs are what the server's Python needs of a root file system that is not the host's.
type needs struct {
	binds     []string          // directories and files of the host that it consists of
	links     []link            // that lead to them
	glibc     images.Version    // at least
	host      images.Version    // the glibc that it runs with on the host, and in what is forked there
	family    map[string]bool   // libraries of glibc itself, by name
	libraries map[string]string // others that it is linked with, by name, and where they are on the host
}

// askNeeds finds them out, once. The lock of the images is held.
func (r *Runtime) askNeeds(ctx context.Context) (*needs, error) {
	if r.imaged.needs != nil {
		return r.imaged.needs, nil
	}
	dirs, err := prefixes(ctx, r.options.Interpreter)
	if err != nil {
		return nil, err
	}
	n := &needs{family: map[string]bool{}, libraries: map[string]string{}}
	if err := n.find(r.options.Interpreter, dirs); err != nil {
		return nil, fmt.Errorf("cannot find what %s consists of: %w", r.options.Interpreter, err)
	}
	if err := n.link(); err != nil {
		return nil, err
	}
	r.imaged.needs = n
	return n, nil
}

// find finds what of the host is the interpreter's own: the directories that it runs from, or, of one of the system's, its program and
// its library.
func (n *needs) find(interpreter string, dirs []string) error {
	all := []string{}
	for _, path := range append([]string{filepath.Dir(filepath.Dir(interpreter)), interpreter}, dirs...) {
		real, links, err := route(path)
		if err != nil {
			return err
		}
		n.links = append(n.links, links...)
		if !systemDirs[real] && real != "/usr" && real != "/usr/local" {
			all = append(all, real)
		}
	}
	slices.SortFunc(all, func(a, b string) int { return len(parts(a)) - len(parts(b)) })
	for _, path := range all {
		if !n.covers(path) {
			n.binds = append(n.binds, path)
		}
	}
	n.links = slices.DeleteFunc(n.links, func(l link) bool { return n.covers(l.path) })
	return nil
}

func (n *needs) covers(path string) bool {
	return slices.ContainsFunc(n.binds, func(dir string) bool { return within(path, dir) })
}

// libc are the libraries of glibc itself, which an image has of its own.
var libc = []string{"libc.so.", "libm.so.", "libpthread.so.", "libdl.so.", "librt.so.", "libutil.so.", "libresolv.so.", "libmvec.so.", "ld-linux"}

// link finds out what the files of the interpreter are linked with.
func (n *needs) link() error {
	own, wanted := map[string]bool{}, []string{}
	for _, bind := range n.binds {
		err := filepath.WalkDir(bind, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil
			}
			if info, err := d.Info(); !strings.Contains(d.Name(), ".so") && (err != nil || info.Mode()&0o111 == 0 || filepath.Base(filepath.Dir(path)) != "bin") {
				return nil
			}
			own[d.Name()] = true
			return n.read(path, &wanted)
		})
		if err != nil {
			return err
		}
	}
	for len(wanted) > 0 {
		name := wanted[0]
		wanted = wanted[1:]
		if slices.ContainsFunc(libc, func(start string) bool { return strings.HasPrefix(name, start) }) {
			n.family[name] = true
			continue
		}
		if own[name] || n.libraries[name] != "" {
			continue
		}
		if file := onHost(name); file != "" { // what is not there the interpreter does without here, too
			n.libraries[name] = file
			if err := n.read(file, &wanted); err != nil {
				return err
			}
		}
	}
	if file := onHost("libc.so.6"); file != "" {
		if text, err := os.ReadFile(file); err == nil {
			n.host = images.NewestVersion(text)
		}
	}
	if n.host == (images.Version{}) || n.glibc == (images.Version{}) {
		return errors.New("the server's Python does not run with glibc")
	}
	return nil
}

// read notes what a file is linked with. It is the host's own; one that is no program is passed over.
func (n *needs) read(path string, wanted *[]string) error {
	f, err := elf.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	names, err := f.ImportedLibraries()
	if err != nil {
		return nil
	}
	*wanted = append(*wanted, names...)
	versions, err := f.DynamicVersionNeeds()
	if err != nil {
		return nil
	}
	for _, of := range versions {
		for _, need := range of.Needs {
			if v := images.NewestVersion([]byte(need.Dep)); n.glibc.Less(v) {
				n.glibc = v
			}
		}
	}
	return nil
}

// onHost returns the file of a library of the host, "" where there is none.
func onHost(name string) string {
	machine := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	for _, dir := range []string{"/lib/" + machine + "-linux-gnu", "/usr/lib/" + machine + "-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib"} {
		if file, err := filepath.EvalSymlinks(filepath.Join(dir, name)); err == nil {
			return file
		}
	}
	return ""
}

// metBy returns why an image's C library cannot run the interpreter.
func (n *needs) metBy(v *images.View, l images.Libc) error {
	switch {
	case l.Name == "":
		return fmt.Errorf("it has no C library, and the server's Python needs glibc %s", n.glibc)
	case l.Name != "glibc":
		return fmt.Errorf("its C library is %s, and the server's Python needs glibc %s", l.Name, n.glibc)
	case l.Version.Less(n.glibc):
		return fmt.Errorf("its C library is glibc %s, and the server's Python needs %s", l.Version, n.glibc)
	}
	for name := range n.family {
		if !inImage(v, l, name) {
			return fmt.Errorf("its glibc has no %s, which the server's Python needs", name)
		}
	}
	return nil
}

// inImage reports whether an image has a library where programs look for it.
func inImage(v *images.View, l images.Libc, name string) bool {
	return slices.ContainsFunc([]string{l.Dir, "/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr" + l.Dir}, func(dir string) bool {
		_, err := v.Find(dir + "/" + name)
		return err == nil
	})
}

// linksIn returns those that an image lacks. One that leads elsewhere in the image stands in the way.
func (n *needs) linksIn(v *images.View) ([]link, error) {
	var lacking []link
	for _, l := range n.links {
		ours, _, err := route(l.path)
		if err != nil {
			return nil, err
		}
		theirs, err := v.Find(l.path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			lacking = append(lacking, l)
		case err != nil || theirs != ours:
			return nil, fmt.Errorf("its %s stands in the way of the server's Python, which is that of the system: one in a directory of its own (--python) does not", l.path)
		}
	}
	return lacking, nil
}

// missing returns the libraries that an image lacks, by the place that they are to have in it.
func (n *needs) missing(v *images.View, l images.Libc) map[string]string {
	found := map[string]string{}
	for name, file := range n.libraries {
		if !inImage(v, l, name) {
			found[l.Dir+"/"+name] = file
		}
	}
	return found
}
