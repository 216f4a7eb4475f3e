package jupyter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/server"
)

// labelKernel is of sandboxes that were made for a kernel, and end with it: the name that its kernelspec has.
const labelKernel = "jupyter.kernel"

// sandboxVariable is what clients that cannot add to a URL name a sandbox by, in which their kernel is to be.
const sandboxVariable = "K2_SANDBOX_ID"

func (a *API) listKernels(w http.ResponseWriter, r *http.Request) error {
	if a.o.Hide {
		return refuse(http.StatusForbidden, "kernels are not listed here")
	}
	all, err := a.kernels(r)
	if err != nil {
		return err
	}
	server.WriteJSON(w, http.StatusOK, all)
	return nil
}

func (a *API) createKernel(w http.ResponseWriter, r *http.Request) error {
	var req api.JupyterKernelRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	k, err := a.start(w, r, req)
	if err != nil {
		return err
	}
	w.Header().Set("Location", a.url("/api/kernels/"+k.ID))
	server.WriteJSON(w, http.StatusCreated, k)
	return nil
}

// decode reads the body of a request. What it says of its type is nothing to go by: curl and Tornado call any body a form.
func decode(r *http.Request, into any) error {
	r.Header.Del("Content-Type")
	return server.DecodeKnown(r, into)
}

// start starts a kernel, in the sandbox that the request names or in one of its own.
func (a *API) start(w http.ResponseWriter, r *http.Request, req api.JupyterKernelRequest) (api.JupyterKernel, error) {
	in := cmp.Or(r.URL.Query().Get("sandbox"), req.Env[sandboxVariable], server.CallerOf(r).Sandbox)
	req.Name, req.Env = a.name(req.Name), a.environ(req.Env)
	if !specName().MatchString(req.Name) {
		return api.JupyterKernel{}, refuse(http.StatusBadRequest, "name: %.100q is not that of a kernelspec", req.Name)
	}
	if in == "" {
		return a.startAlone(w, r, req)
	}
	info, err := a.find(r, in)
	if err != nil {
		return api.JupyterKernel{}, missing("Sandbox", in, err)
	}
	release, box, err := a.o.Fleet.Use(info.ID)
	if err != nil {
		return api.JupyterKernel{}, missing("Sandbox", in, err)
	}
	defer release()
	return a.startIn(r.Context(), box, req)
}

// environ returns the variables of a new kernel.
func (a *API) environ(asked map[string]string) map[string]string {
	envs := maps.Clone(a.o.Envs)
	if envs == nil {
		envs = map[string]string{}
	}
	for name, value := range asked {
		if name != sandboxVariable && (a.o.AllowEnv == nil || strings.HasPrefix(name, "KERNEL_") || slices.Contains(a.o.AllowEnv, name)) {
			envs[name] = value
		}
	}
	envs["KERNEL_GATEWAY"] = "1" // as a gateway tells its kernels
	return envs
}

// startAlone makes a sandbox for a kernel: its default context or, if that is of another kind, a second one. Nothing
// is left of it where that fails.
func (a *API) startAlone(w http.ResponseWriter, r *http.Request, req api.JupyterKernelRequest) (api.JupyterKernel, error) {
	if !a.has(req.Name) {
		return api.JupyterKernel{}, a.unknown(req.Name)
	}
	k, id, err := a.make(r.Context(), server.CallerOf(r).Key, a.o.Timeout, req)
	if id != "" {
		a.o.Audit(w, r, "create", id)
	}
	if id != "" && err != nil {
		a.o.Audit(w, r, "kill", id)
	}
	return k, err
}

// make makes a sandbox for a kernel, which it kills where there is an error. The id is "" where there was none.
func (a *API) make(ctx context.Context, owner string, timeout time.Duration, req api.JupyterKernelRequest) (k api.JupyterKernel, id string, err error) {
	info, _, err := a.o.Fleet.Create(ctx, fleet.CreateOptions{
		Envs: req.Env, Timeout: timeout, Owner: owner, Labels: map[string]string{labelKernel: req.Name},
	})
	if err != nil {
		return k, "", whyNotCreated(err)
	}
	if a.o.Seed != nil {
		a.young.Store(info.ID, nil)
		defer a.young.Delete(info.ID)
	}
	if k, err = a.first(ctx, info, req); err != nil {
		err = errors.Join(err, a.o.Fleet.Kill(context.WithoutCancel(ctx), info.ID))
	}
	return k, info.ID, err
}

// first returns the kernel for which a sandbox was made.
func (a *API) first(ctx context.Context, info fleet.Info, req api.JupyterKernelRequest) (api.JupyterKernel, error) {
	release, box, err := a.o.Fleet.Use(info.ID)
	if err != nil {
		return api.JupyterKernel{}, err
	}
	defer release()
	if !a.isDefault(req.Name) {
		req.Env = nil // it has them
		return a.startIn(ctx, box, req)
	}
	brief, cancel := context.WithTimeout(ctx, a.o.AskTimeout)
	defer cancel()
	k, err := askKernel(brief, box, http.MethodGet, "/api/kernels/"+api.KernelID(info.ID, agent.DefaultContext), nil)
	if err == nil {
		err = a.seed(ctx, box, k)
	}
	return k, err
}

// startIn starts a kernel in a sandbox that there is.
func (a *API) startIn(ctx context.Context, box *fleet.Sandbox, req api.JupyterKernelRequest) (api.JupyterKernel, error) {
	brief, cancel := context.WithTimeout(ctx, a.o.AnswerTimeout)
	defer cancel()
	k, err := askKernel(brief, box, http.MethodPost, "/api/kernels", req)
	if err != nil {
		return k, err
	}
	if err = a.seed(ctx, box, k); err != nil {
		brief, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.o.AskTimeout)
		defer cancel()
		err = errors.Join(err, ask(brief, box, http.MethodDelete, "/api/kernels/"+k.ID, nil, nil))
	}
	return k, err
}

func askKernel(ctx context.Context, box *fleet.Sandbox, method, path string, payload any) (api.JupyterKernel, error) {
	var k api.JupyterKernel
	if err := ask(ctx, box, method, path, payload, &k); err != nil {
		return api.JupyterKernel{}, err
	}
	if !checkKernel(box.ID(), &k) {
		return api.JupyterKernel{}, senseless(box, "its kernel makes no sense: %+v", k)
	}
	return k, nil
}

// whyNotCreated tells by the names that the request has.
func whyNotCreated(err error) error {
	var told *api.Error
	switch {
	case errors.Is(err, fleet.ErrEnvs):
		return api.Invalid("env", "no kernel starts with these variables")
	case errors.As(err, &told) && told.Details["field"] == "envs":
		return api.Invalid("env", "%s", strings.TrimPrefix(told.Message, "envs: "))
	}
	return err
}

// getKernel tells of a kernel whose sandbox is paused, too, and does not wake it.
func (a *API) getKernel(w http.ResponseWriter, r *http.Request) error {
	err := a.forwardKernel("")(w, r)
	if !errors.Is(err, fleet.ErrPaused) {
		return err
	}
	id, _, _ := api.ParseKernelID(server.Param(r, "id"))
	info, gone := a.find(r, id)
	for _, k := range a.standIn(info) {
		if gone == nil && k.ID == server.Param(r, "id") {
			server.WriteJSON(w, http.StatusOK, k)
			return nil
		}
	}
	return err
}

// deleteKernel ends a kernel, and its sandbox where that was made for it.
func (a *API) deleteKernel(w http.ResponseWriter, r *http.Request) error {
	if err := a.endKernel(w, r, server.Param(r, "id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *API) endKernel(w http.ResponseWriter, r *http.Request, id string) error {
	sandbox, name, ok := api.ParseKernelID(id)
	if !ok {
		return refuse(http.StatusNotFound, "Kernel does not exist: %.100q", id)
	}
	info, err := a.find(r, sandbox)
	if err != nil {
		return missing("Kernel", id, err)
	}
	return missing("Kernel", id, a.end(w, r, info, "/api/kernels/"+id, name))
}

// end has an agent delete what is at the path, with the kernel of the context, and ends the sandbox where that was made
// for that kernel, or has none left.
func (a *API) end(w http.ResponseWriter, r *http.Request, info fleet.Info, path, contextID string) error {
	made := info.Labels[labelKernel]
	if made != "" && contextID == agent.DefaultContext {
		return a.endSandbox(w, r, info.ID)
	}
	release, box, err := a.o.Fleet.Use(info.ID)
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithTimeout(r.Context(), a.o.AnswerTimeout)
	defer cancel()
	if err := ask(ctx, box, http.MethodDelete, path, nil, nil); err != nil {
		return err
	}
	if made == "" || a.isDefault(made) {
		return nil
	}
	if left, err := a.askKernels(ctx, info); err != nil || len(left) > 0 {
		return nil // the sandbox ends when it was idle for long
	}
	return a.endSandbox(w, r, info.ID)
}

func (a *API) endSandbox(w http.ResponseWriter, r *http.Request, id string) error {
	a.o.Audit(w, r, "close", id)
	if err := a.o.Fleet.CloseSandbox(context.WithoutCancel(r.Context()), id); err != nil {
		return fmt.Errorf("cannot end sandbox: %w", err)
	}
	return nil
}
