package local

import (
	"slices"
	"strings"
	"sync/atomic"

	images "github.com/k2sandbox/k2sandbox/fleet/template"
)

// builtOnHost is the template of what was built from this server's own: its layers lie below that one's.
func (r *Runtime) builtOnHost(of images.Template) *template {
	t := r.template
	t.image, t.users, t.layers = &of, new(atomic.Int64), r.layersOf(of)
	t.environ = withVariables(t.environ, of.Env)
	t.addPackages(of.Build)
	return &t
}

// layersOf returns the directories of an image's layers, the topmost first.
func (r *Runtime) layersOf(of images.Template) (dirs []string) {
	for _, l := range slices.Backward(of.Layers) {
		if dir := r.options.Store.FS(l); !slices.Contains(dirs, dir) { // an image may have one several times, and overlayfs not
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// withVariables returns an environment with others in place of those of the same names, or beside them.
func withVariables(environ, more []string) []string {
	all := slices.Clone(environ)
	for _, v := range more {
		name, _, _ := strings.Cut(v, "=")
		all = append(slices.DeleteFunc(all, func(old string) bool { return strings.HasPrefix(old, name+"=") }), v)
	}
	return all
}

// addPackages gives code inside the packages of a built template: those of Python, which the agent puts behind the standard library, and
// their programs.
func (t *template) addPackages(b *images.Build) {
	if b == nil || b.Packages == "" {
		return
	}
	t.packages = b.Packages
	path := b.Packages + "/bin"
	for _, v := range t.environ {
		if old, ok := strings.CutPrefix(v, "PATH="); ok && old != "" {
			path += ":" + old
		}
	}
	t.environ = withVariables(t.environ, []string{"PATH=" + path})
}
