package interpreter

import (
	"context"
	"errors"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/process"
	"github.com/k2sandbox/k2sandbox/server"
)

// contexts are those of the sandbox, with what E2B has beside: a default context for each language,
// which starts when it is first used.
type contexts struct{ box *agent.Sandbox }

const prefix = agent.LanguagePrefix

// ready is the language of which E2B has a context from the start, beside Python.
const ready = "javascript"

// of returns the id of the context with the id, or else of the language's default one. A
// default one that is not there yet, it starts.
func (c *contexts) of(ctx context.Context, id, language string) (string, error) {
	if id == prefix+ready {
		id, language = "", ready
	}
	if id != "" || language == "" {
		return id, nil
	}
	info, err := c.box.LanguageContext(ctx, language)
	return info.ContextID, explain(err, "")
}

// create starts a context. A language is that of a kernel, or the name of one.
func (c *contexts) create(ctx context.Context, language, cwd string) (contextInfo, error) {
	info, err := c.box.StartLanguage(ctx, agent.ContextOptions{Language: language, Cwd: cwd})
	return infoOf(info), explain(err, cwd)
}

func explain(err error, cwd string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, process.ErrDirectory):
		return api.Invalid("cwd", "%.1000s cannot be entered", cwd)
	}
	return server.Explain(api.InvalidRequest, err)
}

// all returns the contexts in the order of their creation, with the one that is ready to be started.
func (c *contexts) all() []contextInfo {
	all, started := []contextInfo{}, false
	for _, info := range c.box.Contexts() {
		all = append(all, infoOf(info))
		started = started || info.ContextID == prefix+ready
	}
	if !started && len(all) > 0 && c.hasReady() {
		all = slices.Insert(all, 1, contextInfo{prefix + ready, ready, all[0].Cwd})
	}
	return all
}

func (c *contexts) hasReady() bool {
	_, err := c.box.Installer()
	return err == nil || slices.ContainsFunc(c.box.Kernels(), func(k api.KernelCapability) bool {
		return k.Language == ready || k.Language == "typescript"
	})
}

func infoOf(c agent.ContextInfo) contextInfo {
	return contextInfo{c.ContextID, c.Language, c.Cwd}
}

// contextInfo tells of a context.
type contextInfo struct {
	ID       string `json:"id"`
	Language string `json:"language"`
	Cwd      string `json:"cwd"`
}

// contextRequest is the body of POST /contexts.
type contextRequest struct {
	Language string `json:"language"` // "" is python
	Cwd      string `json:"cwd"`      // absolute; "" is the sandbox's
}

// Validate returns an *api.Error that names the first wrong field.
func (r *contextRequest) Validate() error {
	if r.Cwd != "" && !path.IsAbs(r.Cwd) || strings.ContainsRune(r.Cwd, 0) {
		return api.Invalid("cwd", "expected an absolute path, got %.1000q", r.Cwd)
	}
	return nil
}

func (h *handlers) list(w http.ResponseWriter, _ *http.Request) error {
	server.WriteJSON(w, http.StatusOK, h.contexts.all())
	return nil
}

func (h *handlers) create(w http.ResponseWriter, r *http.Request) error {
	var req contextRequest
	if err := server.DecodeKnown(r, &req); err != nil {
		return err
	}
	info, err := h.contexts.create(r.Context(), req.Language, req.Cwd)
	if err != nil {
		return err
	}
	server.WriteJSON(w, http.StatusOK, info)
	return nil
}

// restart puts a new kernel in place of the context's, in its first working directory.
func (h *handlers) restart(w http.ResponseWriter, r *http.Request) error {
	id, err := h.contexts.of(r.Context(), server.Param(r, "id"), "")
	if err != nil {
		return err
	}
	c, err := h.box.Context(id)
	if err == nil {
		err = c.Restart(context.WithoutCancel(r.Context())) // not half of it where the client leaves
	}
	if err != nil {
		return server.Explain(api.Unavailable, absent(id, err))
	}
	server.WriteJSON(w, http.StatusOK, nil)
	return nil
}

func (h *handlers) remove(w http.ResponseWriter, r *http.Request) error {
	id := server.Param(r, "id")
	err := h.box.DeleteContext(id)
	if err != nil && !(id == prefix+ready && h.contexts.hasReady()) { // which may not have been started yet
		return absent(id, err)
	}
	server.WriteJSON(w, http.StatusOK, nil)
	return nil
}

// absent tells, as E2B does, that there is no such context, or none any more.
func absent(id string, err error) error {
	if errors.Is(err, agent.ErrNotFound) || errors.Is(err, executor.ErrClosed) {
		return api.Errorf(api.NotFound, "Context %.64s not found", id)
	}
	return err
}
