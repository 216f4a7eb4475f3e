package jupyter

import (
	"cmp"
	"context"
	"errors"
	"net/http"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/server"
)

func (a *API) listSessions(w http.ResponseWriter, r *http.Request) error {
	if a.o.Hide {
		return refuse(http.StatusForbidden, "sessions are not listed here")
	}
	all, err := a.sessions(r)
	if err != nil {
		return err
	}
	server.WriteJSON(w, http.StatusOK, all)
	return nil
}

// mostSessions are those that an agent can tell of: as many as one has.
const mostSessions = 1000

// sessions returns those of all sandboxes that the caller may see.
func (a *API) sessions(r *http.Request) ([]api.JupyterSession, error) {
	infos, err := a.visible(r)
	if err != nil {
		return nil, err
	}
	return gather(r.Context(), a, infos, func(ctx context.Context, info fleet.Info) ([]api.JupyterSession, error) {
		box, err := a.o.Fleet.Look(info.ID)
		if err != nil {
			return nil, err
		}
		var all []api.JupyterSession
		if err := ask(ctx, box, http.MethodGet, "/api/sessions", nil, &all); err != nil || len(all) > mostSessions {
			return nil, err
		}
		var known []api.JupyterSession
		for _, s := range all {
			if checkSession(info.ID, &s) {
				known = append(known, s)
			}
		}
		return known, nil
	}), nil
}

// sessionRequest is the body of POST /api/sessions.
type sessionRequest struct {
	Path   *string `json:"path"`
	Name   string  `json:"name"`
	Type   string  `json:"type"`
	Kernel struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	} `json:"kernel"`
	Notebook struct { // of clients of long ago
		Path string `json:"path"`
		Name string `json:"name"`
	} `json:"notebook"`
}

// normal puts what clients of long ago say in its place.
func (q *sessionRequest) normal() error {
	if q.Path == nil && q.Notebook.Path != "" {
		q.Path, q.Type = &q.Notebook.Path, "notebook"
	}
	switch {
	case q.Path == nil:
		return refuse(http.StatusBadRequest, "Missing field in JSON data: path")
	case q.Type == "":
		return refuse(http.StatusBadRequest, "Missing field in JSON data: type")
	case len(*q.Path) > longest || len(q.Name) > longest:
		return refuse(http.StatusBadRequest, "path, name: longer than %d bytes", longest)
	case len(q.Type) > longestType:
		return refuse(http.StatusBadRequest, "type: longer than %d bytes", longestType)
	}
	return nil
}

// sessionPayload is what an agent is asked for: a session of a kernel that there is.
type sessionPayload struct {
	Path   string `json:"path"`
	Name   string `json:"name"`
	Type   string `json:"type"`
	Kernel struct {
		ID string `json:"id"`
	} `json:"kernel"`
}

// createSession answers with the session that has the path, or a new one, of a kernel that there is or of a new one.
func (a *API) createSession(w http.ResponseWriter, r *http.Request) error {
	var req sessionRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	if err := req.normal(); err != nil {
		return err
	}
	caller := server.CallerOf(r)
	leave, err := a.turns.Take(r.Context(), caller.Key+"\n"+caller.Sandbox+"\n"+*req.Path)
	if err != nil {
		return err
	}
	defer leave()
	s, err := a.session(w, r, req)
	if err != nil {
		return err
	}
	w.Header().Set("Location", a.url("/api/sessions/"+s.ID))
	server.WriteJSON(w, http.StatusCreated, s)
	return nil
}

func (a *API) session(w http.ResponseWriter, r *http.Request, req sessionRequest) (api.JupyterSession, error) {
	all, err := a.sessions(r)
	if err != nil {
		return api.JupyterSession{}, err
	}
	in := cmp.Or(r.URL.Query().Get("sandbox"), server.CallerOf(r).Sandbox)
	for _, s := range all {
		if box, _, _ := api.ParseSessionID(s.ID); s.Path == *req.Path && (in == "" || box == in) {
			return s, nil
		}
	}
	asked := sessionPayload{Path: *req.Path, Name: req.Name, Type: req.Type}
	if asked.Kernel.ID = req.Kernel.ID; asked.Kernel.ID != "" {
		return a.attach(r, asked)
	}
	k, err := a.start(w, r, api.JupyterKernelRequest{Name: req.Kernel.Name, Path: *req.Path})
	if err != nil {
		return api.JupyterSession{}, unavailable(req.Kernel.Name, err)
	}
	asked.Kernel.ID = k.ID
	s, err := a.attach(r, asked)
	if err != nil { // nobody knows of its kernel
		err = errors.Join(err, a.endKernel(w, r.WithContext(context.WithoutCancel(r.Context())), k.ID))
	}
	return s, err
}

// attach has an agent make a session of one of its kernels.
func (a *API) attach(r *http.Request, asked sessionPayload) (s api.JupyterSession, err error) {
	id, _, ok := api.ParseKernelID(asked.Kernel.ID)
	if !ok {
		return s, refuse(http.StatusNotFound, "Kernel does not exist: %.100q", asked.Kernel.ID)
	}
	info, err := a.find(r, id)
	if err != nil {
		return s, missing("Kernel", asked.Kernel.ID, err)
	}
	release, box, err := a.o.Fleet.Use(info.ID)
	if err != nil {
		return s, missing("Kernel", asked.Kernel.ID, err)
	}
	defer release()
	ctx, cancel := context.WithTimeout(r.Context(), a.o.AskTimeout)
	defer cancel()
	if err := ask(ctx, box, http.MethodPost, "/api/sessions", asked, &s); err != nil {
		return s, err
	}
	if !checkSession(info.ID, &s) {
		return s, senseless(box, "its session makes no sense: %+v", s)
	}
	return s, nil
}

// unavailable tells clients that there is no such kernel in the way in which they show it.
func unavailable(name string, err error) error {
	if statusOf(err) != http.StatusNotFound {
		return err
	}
	told := &refusal{http.StatusNotImplemented, "The '" + plain(name, 100) + "' kernel is not available. Please pick another suitable kernel instead, or install that kernel.", plain(name, 100) + " not found"}
	return server.Explain(api.Unprocessable, told)
}

// deleteSession ends a session with its kernel.
func (a *API) deleteSession(w http.ResponseWriter, r *http.Request) error {
	id := server.Param(r, "id")
	sandbox, _, ok := api.ParseSessionID(id)
	if !ok {
		return refuse(http.StatusNotFound, "Session does not exist: %.100q", id)
	}
	info, err := a.find(r, sandbox)
	if err != nil {
		return missing("Session", id, err)
	}
	s, err := a.getSession(r, info, id)
	if err != nil {
		return missing("Session", id, err)
	}
	_, context, _ := api.ParseKernelID(s.Kernel.ID)
	if err := a.end(w, r, info, "/api/sessions/"+id, context); err != nil {
		return missing("Session", id, err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *API) getSession(r *http.Request, info fleet.Info, id string) (s api.JupyterSession, err error) {
	release, box, err := a.o.Fleet.Use(info.ID)
	if err != nil {
		return s, err
	}
	defer release()
	ctx, cancel := context.WithTimeout(r.Context(), a.o.AskTimeout)
	defer cancel()
	if err := ask(ctx, box, http.MethodGet, "/api/sessions/"+id, nil, &s); err != nil {
		return s, err
	}
	if !checkSession(info.ID, &s) {
		return s, senseless(box, "its session makes no sense: %+v", s)
	}
	return s, nil
}
