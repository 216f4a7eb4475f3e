package inside

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
)

// Bounds of sessions.
const (
	maxSessions = 1000
	maxWords    = 4096 // bytes of a path or a name
	maxType     = 256  // bytes of a type
)

// session is what uses a kernel, such as a notebook, by its path.
type session struct {
	id               string // the name in its SessionID
	path, name, kind string
	contextID        string
	began            time.Time
}

// sessions are those of a sandbox, as long as their contexts are there.
type sessions struct {
	starting sync.Mutex // held while one gets its kernel: two requests for a path are one session

	mu   sync.Mutex
	open map[string]*session // by id
}

// forget ends all sessions of a context.
func (s *sessions) forget(contextID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, one := range s.open {
		if one.contextID == contextID {
			delete(s.open, id)
		}
	}
}

// list returns the sessions, the oldest first.
func (s *sessions) list() []session {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]session, 0, len(s.open))
	for _, one := range s.open {
		all = append(all, *one)
	}
	slices.SortFunc(all, func(a, b session) int { return a.began.Compare(b.began) })
	return all
}

// put keeps a session as it is now.
func (s *sessions) put(one session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[one.id] == nil && len(s.open) >= maxSessions {
		return api.Errorf(api.LimitReached, "too many sessions: %d at most", maxSessions)
	}
	s.open[one.id] = &one
	return nil
}

// take returns a session and ends it.
func (s *sessions) take(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, id)
}

// models are the sessions whose kernels are there. The others are forgotten.
func (h *handlers) models() ([]session, []api.JupyterSession) {
	var open []session
	models := []api.JupyterSession{}
	for _, one := range h.sessions.list() {
		c, err := h.box.ContextInfo(one.contextID)
		if errors.Is(err, agent.ErrNotFound) {
			h.sessions.take(one.id)
			continue
		}
		if err == nil {
			open, models = append(open, one), append(models, h.model(one, c))
		}
	}
	return open, models
}

func (h *handlers) model(s session, c agent.ContextInfo) api.JupyterSession {
	return api.JupyterSession{
		ID: api.SessionID(h.id, s.id), Path: s.path, Name: s.name, Type: s.kind, Kernel: h.kernel(c),
		Notebook: api.JupyterNotebook{Path: s.path, Name: s.name},
	}
}

func (h *handlers) listSessions(w http.ResponseWriter, _ *http.Request) error {
	_, models := h.models()
	server.WriteJSON(w, http.StatusOK, models)
	return nil
}

// sessionRequest is the body of POST and PATCH. Notebook is how clients of long ago say it.
type sessionRequest struct {
	Path     *string              `json:"path"`
	Name     *string              `json:"name"`
	Type     *string              `json:"type"`
	Kernel   *kernelOf            `json:"kernel"`
	Notebook *api.JupyterNotebook `json:"notebook"`
}

type kernelOf struct {
	ID   string            `json:"id"`
	Name string            `json:"name"`
	Env  map[string]string `json:"env"`
}

func (r *sessionRequest) Validate() error {
	if r.Notebook != nil {
		kind := "notebook"
		r.Path, r.Name, r.Type = &r.Notebook.Path, &r.Notebook.Name, &kind
	}
	for field, text := range map[string]*string{"path": r.Path, "name": r.Name, "type": r.Type} {
		if text != nil && len(*text) > maxWords {
			return api.Invalid(field, "is longer than %d bytes", maxWords)
		}
	}
	if r.Type != nil && len(*r.Type) > maxType {
		return api.Invalid("type", "is longer than %d bytes", maxType)
	}
	return nil
}

// startSession starts a kernel for a path, or returns the session that it has.
func (h *handlers) startSession(w http.ResponseWriter, r *http.Request) error {
	var req sessionRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	switch {
	case req.Path == nil:
		return refuse(http.StatusBadRequest, "Missing field in JSON data: path")
	case req.Type == nil:
		return refuse(http.StatusBadRequest, "Missing field in JSON data: type")
	}
	h.sessions.starting.Lock()
	defer h.sessions.starting.Unlock()
	_, models := h.models()
	for _, m := range models {
		if m.Path == *req.Path {
			h.created(w, r, "/api/sessions/"+m.ID, m)
			return nil
		}
	}
	s := session{id: strings.ToLower(rand.Text()), path: *req.Path, kind: *req.Type, began: time.Now()}
	if req.Name != nil {
		s.name = *req.Name
	}
	c, err := h.kernelFor(r.Context(), s.path, cmp.Or(req.Kernel, &kernelOf{}))
	if errors.Is(err, agent.ErrUnknownKernel) {
		h.unknownKernel(w, err)
		return nil
	}
	if err != nil {
		return err
	}
	s.contextID = c.ContextID
	if err := h.sessions.put(s); err != nil {
		if req.Kernel == nil || req.Kernel.ID == "" { // else the kernel was there before
			err = errors.Join(err, h.box.DeleteContext(c.ContextID))
		}
		return err
	}
	h.created(w, r, "/api/sessions/"+api.SessionID(h.id, s.id), h.model(s, c))
	return nil
}

// unknownKernel is what JupyterLab has a dialog for.
func (h *handlers) unknownKernel(w http.ResponseWriter, err error) {
	server.WriteJSON(w, http.StatusNotImplemented, map[string]string{"message": err.Error(), "short_message": err.Error()})
}

// kernelFor returns the kernel that a session asks for: by its id, or else a new one.
func (h *handlers) kernelFor(ctx context.Context, path string, k *kernelOf) (agent.ContextInfo, error) {
	if k.ID != "" {
		return h.find(k.ID)
	}
	env := map[string]string{"JPY_SESSION_NAME": path} // what ipykernel has as __session__
	for name, value := range k.Env {
		env[name] = value
	}
	return h.start(ctx, api.JupyterKernelRequest{Name: k.Name, Path: path, Env: env})
}

// session returns the session that a request is about, and its kernel.
func (h *handlers) session(r *http.Request) (session, agent.ContextInfo, error) {
	given := server.Param(r, "id")
	for _, s := range h.sessions.list() {
		if api.SessionID(h.id, s.id) != given {
			continue
		}
		c, err := h.box.ContextInfo(s.contextID)
		if errors.Is(err, agent.ErrNotFound) {
			h.sessions.take(s.id)
			return s, c, refuse(http.StatusGone, "Kernel deleted before session")
		}
		return s, c, err
	}
	return session{}, agent.ContextInfo{}, refuse(http.StatusNotFound, "Session not found: session_id=%.300s", given)
}

func (h *handlers) getSession(w http.ResponseWriter, r *http.Request) error {
	s, c, err := h.session(r)
	if err != nil {
		return err
	}
	server.WriteJSON(w, http.StatusOK, h.model(s, c))
	return nil
}

// changeSession gives a session another path, name, type or kernel. The kernel that it had ends, unless others use it.
func (h *handlers) changeSession(w http.ResponseWriter, r *http.Request) error {
	var req sessionRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	h.sessions.starting.Lock()
	defer h.sessions.starting.Unlock()
	s, c, err := h.session(r)
	if err != nil {
		return err
	}
	for to, text := range map[*string]*string{&s.path: req.Path, &s.name: req.Name, &s.kind: req.Type} {
		if text != nil {
			*to = *text
		}
	}
	before := s.contextID
	if req.Kernel != nil && (req.Kernel.ID != "" || req.Kernel.Name != "") {
		if c, err = h.kernelFor(r.Context(), s.path, req.Kernel); err != nil {
			return err
		}
		s.contextID = c.ContextID
	}
	if err := h.sessions.put(s); err != nil {
		return err
	}
	if before != s.contextID && !slices.ContainsFunc(h.sessions.list(), func(o session) bool { return o.contextID == before }) {
		_ = h.box.DeleteContext(before) // it is gone, or the default one, which stays
	}
	server.WriteJSON(w, http.StatusOK, h.model(s, c))
	return nil
}

// endSession ends a session and its kernel.
func (h *handlers) endSession(w http.ResponseWriter, r *http.Request) error {
	s, _, err := h.session(r)
	if err != nil {
		return err
	}
	h.sessions.take(s.id)
	if err := h.end(r.Context(), s.contextID); err != nil && !errors.Is(err, agent.ErrNotFound) {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
