package interpreter

import (
	"context"
	"errors"
	"net/http"
	"path"
	"strings"
	"sync"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/server"
)

// contexts are those of the sandbox, with what E2B has beside: a default context for each language.
type contexts struct {
	box *agent.Sandbox

	mu        sync.Mutex
	languages map[string]string   // as which a context was asked for, where its kernel has another
	defaults  map[string]*starter // by language
}

// starter starts the default context of a language, one at a time.
type starter struct {
	sync.Mutex
	id string
}

func newContexts(box *agent.Sandbox) *contexts {
	return &contexts{box: box, languages: map[string]string{}, defaults: map[string]*starter{}}
}

// of returns the id of the context with the id, or else of the language's default one, which
// it starts where there is none yet.
func (c *contexts) of(ctx context.Context, id, language string) (string, error) {
	language = canonical(language)
	if id != "" || language == "" {
		return id, nil
	}
	if def, err := c.box.ContextInfo(agent.DefaultContext); err == nil && def.Language == language {
		return def.ContextID, nil
	}
	c.mu.Lock()
	if c.defaults[language] == nil {
		c.defaults[language] = &starter{}
	}
	s := c.defaults[language]
	c.mu.Unlock()
	s.Lock()
	defer s.Unlock()
	if _, err := c.box.ContextInfo(s.id); s.id != "" && err == nil {
		return s.id, nil
	}
	info, err := c.create(ctx, language, "")
	s.id = info.ID
	return s.id, err
}

// create starts a context. A language is that of a kernel, or the name of one.
func (c *contexts) create(ctx context.Context, language, cwd string) (contextInfo, error) {
	language = canonical(language)
	var info agent.ContextInfo
	err := agent.ErrUnknownKernel
	for _, o := range kernels(language) {
		if o.Cwd = cwd; errors.Is(err, agent.ErrUnknownKernel) {
			info, err = c.box.CreateContext(ctx, o)
		}
	}
	switch {
	case errors.Is(err, agent.ErrUnknownKernel):
		return contextInfo{}, api.Invalid("language", "there is no kernel for %q here", language)
	case err != nil:
		return contextInfo{}, server.Explain(api.InvalidRequest, err)
	}
	if language != "" && language != info.Language {
		c.mu.Lock()
		c.languages[info.ContextID] = language
		c.mu.Unlock()
	}
	return c.info(info), nil
}

// kernels are what can be meant by a language, the likeliest first.
func kernels(language string) []agent.ContextOptions {
	all := []agent.ContextOptions{{Language: language}}
	if language == "javascript" {
		all = append(all, agent.ContextOptions{Language: "typescript"})
	}
	if language != "" && !strings.ContainsAny(language, "/\x00") {
		all = append(all, agent.ContextOptions{Kernel: language})
	}
	return all
}

// canonical returns the name of a language that has several.
func canonical(language string) string {
	switch language = strings.ToLower(strings.TrimSpace(language)); language {
	case "js":
		return "javascript"
	case "ts":
		return "typescript"
	case "py", "python3":
		return "python"
	case "sh", "shell":
		return "bash"
	}
	return language
}

func (c *contexts) info(of agent.ContextInfo) contextInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	language := of.Language
	if asked := c.languages[of.ContextID]; asked != "" {
		language = asked
	}
	return contextInfo{of.ContextID, language, of.Cwd}
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
		return api.Invalid("cwd", "expected an absolute path, got %q", r.Cwd)
	}
	return nil
}

func (h *handlers) list(w http.ResponseWriter, _ *http.Request) error {
	all := []contextInfo{}
	for _, info := range h.box.Contexts() {
		all = append(all, h.contexts.info(info))
	}
	server.WriteJSON(w, http.StatusOK, all)
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
	id := server.Param(r, "id")
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
	if err := h.box.DeleteContext(id); err != nil {
		return absent(id, err)
	}
	h.contexts.forget(id)
	server.WriteJSON(w, http.StatusOK, nil)
	return nil
}

func (c *contexts) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.languages, id)
}

// absent tells, as E2B does, that there is no such context, or none any more.
func absent(id string, err error) error {
	if errors.Is(err, agent.ErrNotFound) || errors.Is(err, executor.ErrClosed) {
		return api.Errorf(api.NotFound, "Context %s not found", id)
	}
	return err
}
