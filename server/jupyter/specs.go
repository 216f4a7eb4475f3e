package jupyter

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/internal/lazy"
	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/server"
)

// The kernelspecs here are those that a new sandbox has: what code inside has installed is told below the path of its
// own sandbox, or with ?sandbox=ID.

func (a *API) listSpecs(w http.ResponseWriter, r *http.Request) error {
	if id := r.URL.Query().Get("sandbox"); id != "" {
		return missing("Sandbox", id, a.forward(w, r, id, a.url(Path+"/"+id), "/api/kernelspecs"))
	}
	told := api.JupyterSpecs{Default: a.name(""), Specs: map[string]api.JupyterSpec{}}
	for _, spec := range a.specs() {
		if _, known := told.Specs[spec.Name]; !known {
			told.Specs[spec.Name] = a.model(spec)
		}
	}
	server.WriteJSON(w, http.StatusOK, told)
	return nil
}

func (a *API) getSpec(w http.ResponseWriter, r *http.Request) error {
	spec, err := a.spec(server.Param(r, "name"))
	if err != nil {
		return err
	}
	server.WriteJSON(w, http.StatusOK, a.model(spec))
	return nil
}

// specs returns those of a new sandbox, its default context's first.
func (a *API) specs() []kernel.Spec {
	return append([]kernel.Spec{a.o.Kernel}, a.o.Others()...)
}

func (a *API) spec(name string) (kernel.Spec, error) {
	for _, spec := range a.specs() {
		if strings.EqualFold(spec.Name, name) {
			return spec, nil
		}
	}
	return kernel.Spec{}, a.unknown(name)
}

func (a *API) has(name string) bool {
	_, err := a.spec(name)
	return err == nil
}

func (a *API) unknown(name string) error {
	return refuse(http.StatusNotFound, "No such kernel named %.100s", name)
}

// resource is a file beside a kernel.json that clients show.
var resource = lazy.Regexp(`^(logo-[A-Za-z0-9_-]{1,64}|kernel)\.(svg|png|js|css)$`)

func (a *API) model(spec kernel.Spec) api.JupyterSpec {
	told := api.JupyterSpec{Name: spec.Name, Resources: map[string]string{}, Spec: api.JupyterSpecFile{
		Argv: spec.Argv, Env: spec.Env, DisplayName: spec.DisplayName, Language: spec.Language, InterruptMode: spec.InterruptMode, Metadata: spec.Metadata,
	}}
	if told.Spec.Env == nil {
		told.Spec.Env = map[string]string{}
	}
	if told.Spec.Metadata == nil {
		told.Spec.Metadata = json.RawMessage("{}")
	}
	var more struct {
		Protocol string `json:"kernel_protocol_version"`
	}
	_ = json.Unmarshal(spec.Raw, &more) // where there is none, or of another type: it is left out
	told.Spec.Protocol = more.Protocol
	if spec.ResourceDir == "" {
		return told
	}
	entries, _ := os.ReadDir(spec.ResourceDir)
	for _, entry := range entries {
		if file := entry.Name(); resource().MatchString(file) {
			name, _, _ := strings.Cut(file, ".")
			told.Resources[name] = a.url("/kernelspecs/" + spec.Name + "/" + file)
		}
	}
	return told
}

// specFile answers with a logo, which is a file of this host.
func (a *API) specFile(w http.ResponseWriter, r *http.Request) error {
	spec, err := a.spec(server.Param(r, "name"))
	if err != nil {
		return err
	}
	name := server.Param(r, "file")
	if spec.ResourceDir == "" || !resource().MatchString(name) {
		return api.Errorf(api.NotFound, "cannot find %s", r.URL.Path)
	}
	dir, err := os.OpenRoot(spec.ResourceDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	file, err := dir.Open(name)
	if err != nil {
		return api.Errorf(api.NotFound, "cannot find %s", r.URL.Path)
	}
	defer file.Close()
	w.Header().Set("Content-Security-Policy", "sandbox; default-src 'none'; style-src 'unsafe-inline'")
	w.Header().Set("Cache-Control", "max-age=3600")
	http.ServeContent(w, r, name, time.Time{}, file)
	return nil
}
