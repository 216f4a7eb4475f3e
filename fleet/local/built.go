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
	t.environ = withPackages(withVariables(t.environ, of.Env), of.Build)
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

// withPackages returns an environment in which the packages of a built template are found.
func withPackages(environ []string, b *images.Build) []string {
	if b == nil || b.Packages == "" {
		return environ
	}
	var more []string
	for name, dir := range map[string]string{"PYTHONPATH": b.Packages, "PATH": b.Packages + "/bin"} {
		value := dir
		for _, v := range environ {
			if old, ok := strings.CutPrefix(v, name+"="); ok && old != "" {
				value += ":" + old
			}
		}
		more = append(more, name+"="+value)
	}
	return withVariables(environ, more)
}
