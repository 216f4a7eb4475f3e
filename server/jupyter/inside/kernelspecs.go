package inside

import (
	"encoding/json"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/server"
)

func (h *handlers) listSpecs(w http.ResponseWriter, r *http.Request) error {
	specs := h.box.Kernelspecs()
	list := api.JupyterSpecs{Default: specs[0].Name, Specs: map[string]api.JupyterSpec{}}
	for _, spec := range specs {
		list.Specs[spec.Name] = h.specModel(r, spec)
	}
	server.WriteJSON(w, http.StatusOK, list)
	return nil
}

func (h *handlers) getSpec(w http.ResponseWriter, r *http.Request) error {
	spec, err := h.spec(server.Param(r, "name"))
	if err != nil {
		return err
	}
	server.WriteJSON(w, http.StatusOK, h.specModel(r, spec))
	return nil
}

func (h *handlers) spec(name string) (kernel.Spec, error) {
	for _, spec := range h.box.Kernelspecs() {
		if strings.EqualFold(spec.Name, name) {
			return spec, nil
		}
	}
	return kernel.Spec{}, refuse(http.StatusNotFound, "Kernel spec not found: %.300s", name)
}

func (h *handlers) specModel(r *http.Request, spec kernel.Spec) api.JupyterSpec {
	file := api.JupyterSpecFile{
		Argv: spec.Argv, Env: spec.Env, DisplayName: spec.DisplayName, Language: spec.Language,
		InterruptMode: spec.InterruptMode, Metadata: spec.Metadata,
	}
	if file.Env == nil {
		file.Env = map[string]string{}
	}
	if len(file.Metadata) == 0 {
		file.Metadata = json.RawMessage("{}")
	}
	resources := map[string]string{}
	for _, name := range resourcesIn(spec.ResourceDir) {
		key, _, _ := strings.Cut(name, ".")
		if strings.HasPrefix(name, "kernel.") {
			key = name
		}
		resources[key] = h.base(r) + "/kernelspecs/" + url.PathEscape(spec.Name) + "/" + url.PathEscape(name)
	}
	return api.JupyterSpec{Name: spec.Name, Spec: file, Resources: resources}
}

// isResource reports whether clients get a file of a kernel's directory.
func isResource(name string) bool {
	return name == "kernel.js" || name == "kernel.css" || strings.HasPrefix(name, "logo-")
}

func resourcesIn(dir string) []string {
	if dir == "" {
		return nil
	}
	entries, _ := os.ReadDir(dir) // one that is not there has none
	var names []string
	for _, e := range entries {
		if isResource(e.Name()) && e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names
}

// maxResource is the most bytes of a kernel's logo.
const maxResource = 4 << 20

// resource sends a file of a kernel's directory, such as its logo.
func (h *handlers) resource(w http.ResponseWriter, r *http.Request) error {
	spec, err := h.spec(server.Param(r, "name"))
	if err != nil {
		return err
	}
	name := server.Param(r, "file")
	content, err := readResource(spec.ResourceDir, name)
	if err != nil {
		return refuse(http.StatusNotFound, "Kernel resource not found: %.300s", name)
	}
	typ := mime.TypeByExtension(path.Ext(name))
	if typ == "" {
		typ = "application/octet-stream"
	}
	w.Header().Set("Content-Type", typ)
	w.Header().Set("Content-Security-Policy", "sandbox; default-src 'none'; style-src 'unsafe-inline'")
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(content) // fails only where the client is gone
	return nil
}

// readResource reads a regular file, which code in the sandbox may have made, and which no link leads out of.
func readResource(dir, name string) ([]byte, error) {
	if dir == "" || !isResource(name) {
		return nil, fs.ErrNotExist
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > maxResource {
		return nil, fs.ErrNotExist
	}
	return io.ReadAll(io.LimitReader(f, maxResource))
}
