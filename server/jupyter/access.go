package jupyter

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/server"
)

// keyed has an operation need an API key or the token of a sandbox, where the server has keys. To whoever has a token
// there is nothing but that sandbox. A browser's question about CORS needs neither.
func (a *API) keyed(handle func(w http.ResponseWriter, r *http.Request) error) func(w http.ResponseWriter, r *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		caller, err := a.caller(r)
		if err != nil {
			w.Header().Set("WWW-Authenticate", `Bearer realm="k2sandbox"`) // RFC 6750
			return err
		}
		return handle(w, withoutSecrets(server.WithCaller(r, caller)))
	}
}

func (a *API) caller(r *http.Request) (server.Caller, error) {
	if a.keys.Len() == 0 {
		return server.Caller{}, nil
	}
	given := credential(r)
	if given == "" {
		return server.Caller{}, api.Errorf(api.Unauthenticated, "no token: send Authorization: token TOKEN, or ?token=TOKEN")
	}
	if name, ok := a.keys.Find(given); ok {
		return server.Caller{Key: name}, nil
	}
	if id, ok := a.opens(given); ok {
		return server.Caller{Sandbox: id}, nil
	}
	return server.Caller{}, api.Errorf(api.Unauthenticated, "the token is not known here")
}

// opens returns the sandbox whose token is given.
func (a *API) opens(token string) (id string, ok bool) {
	if !strings.HasPrefix(token, "sbt_") {
		return "", false
	}
	all, _ := a.all("") // of a fleet that is closed: nothing
	for _, info := range all {
		if a.o.Fleet.Token(info.ID, token) {
			return info.ID, true
		}
	}
	return "", false
}

// all returns the running and the paused sandboxes of an owner, or of all.
func (a *API) all(owner string) ([]fleet.Info, error) {
	var all []fleet.Info
	for o := (fleet.ListOptions{Owner: owner}); ; {
		page, err := a.o.Fleet.List(o)
		if err != nil {
			return nil, err
		}
		for _, info := range page.Sandboxes {
			if info.State == fleet.Running || info.State == fleet.Paused {
				all = append(all, info)
			}
		}
		if o.Cursor = page.Next; o.Cursor == "" {
			return all, nil
		}
	}
}

// visible returns the sandboxes whose kernels the caller may see.
func (a *API) visible(r *http.Request) ([]fleet.Info, error) {
	caller := server.CallerOf(r)
	if caller.Sandbox == "" {
		return a.all(caller.Key)
	}
	info, err := a.o.Fleet.Get(caller.Sandbox)
	return []fleet.Info{info}, err
}

// find returns a sandbox that the caller may see.
func (a *API) find(r *http.Request, id string) (fleet.Info, error) {
	if only := server.CallerOf(r).Sandbox; only != "" && only != id {
		return fleet.Info{}, fleet.ErrNotFound
	}
	return a.o.Native.Find(r, id)
}

// credential returns the key or token that a request has, in any of the ways in which Jupyter's clients give one.
func credential(r *http.Request) string {
	if scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "token") || strings.EqualFold(scheme, "Bearer") {
		if token = strings.TrimSpace(token); token != "" {
			return token
		}
	}
	if key := r.Header.Get("X-Api-Key"); key != "" {
		return key
	}
	return r.URL.Query().Get("token")
}

// withoutSecrets returns the request as one that may go to an agent: without what says who its client is, and without
// what tells of the web page that it comes from, which was looked at here.
func withoutSecrets(r *http.Request) *http.Request {
	r = r.Clone(r.Context())
	for _, name := range []string{"Authorization", "X-Api-Key", "Cookie", "Referer", "Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "X-Xsrftoken"} {
		r.Header.Del(name)
	}
	var kept []string
	for pair := range strings.SplitSeq(r.URL.RawQuery, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if plain, err := url.QueryUnescape(name); err == nil && plain != "token" && pair != "" {
			kept = append(kept, pair)
		}
	}
	r.URL.RawQuery = strings.Join(kept, "&")
	return r
}
