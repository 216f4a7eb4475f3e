// Package console serves the web console: its page, the frame in which hostile output is shown, and the sessions of browsers. The
// page is built from the folder console of the module, and embedded. All that it shows it gets from the native API.
package console

import (
	"net/http"
	"strings"

	"golang.org/x/time/rate"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
)

// Path is where the page is.
const Path = "/console/"

// Options of the console.
type Options struct {
	server.Options              // with the keys of the API
	Next           http.Handler // answers what is not for the console
	Sessions       *Sessions
}

// API serves the console.
type API struct {
	o     Options
	front http.Handler
	tries *rate.Limiter // of those who begin a session
}

// New returns what serves the console before Next.
func New(o Options) *API {
	o.Options = o.WithDefaults()
	a := &API{o: o, tries: rate.NewLimiter(5, 20)}
	common := o.Options
	common.Keys, common.Session = nil, nil // are looked at here: the page itself needs none
	a.front = server.New(a.routes(), common)
	return a
}

// ServeHTTP is for http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch path := r.URL.Path; {
	case strings.HasPrefix(path, Path) || strings.HasPrefix(path, "/v1/console/") || path == "/console" || path == "/":
		a.front.ServeHTTP(w, r)
	default:
		a.o.Next.ServeHTTP(w, r)
	}
}

func (a *API) routes() []server.Route {
	return []server.Route{
		{Method: "GET", Path: "/", Handle: toPage},
		{Method: "GET", Path: "/console", Handle: toPage},
		{Method: "GET", Path: Path, Handle: a.asset("index.html"), Query: anything},
		{Method: "GET", Path: Path + "theme.js", Handle: a.asset("theme.js")},
		{Method: "GET", Path: Path + "icon.svg", Handle: a.asset("icon.svg")},
		{Method: "GET", Path: Path + "assets/{name}", Handle: a.hashed},
		{Method: "GET", Path: Path + "frame", Handle: frame},
		{Method: "POST", Path: "/v1/console/links", Handle: a.link},
		{Method: "GET", Path: "/v1/console/session", Handle: a.session},
		{Method: "POST", Path: "/v1/console/session", Handle: a.begin},
		{Method: "DELETE", Path: "/v1/console/session", Handle: a.end},
		{Method: "GET", Path: "/v1/console/sessions", Handle: a.list},
		{Method: "DELETE", Path: "/v1/console/sessions/{id}", Handle: a.endOther},
	}
}

// anything is the query of the page, to which others link.
var anything = []string{"*"}

// nothing is the body of a request that has nothing to say.
type nothing struct{}

// toPage leads to the page, by a path relative to this one: a proxy may have put a path before.
func toPage(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Location", "console/")
	w.WriteHeader(http.StatusFound)
	return nil
}

// link makes a link for whoever has an API key, or anybody where none is needed.
func (a *API) link(w http.ResponseWriter, r *http.Request) error {
	if err := server.Decode(r, &nothing{}); err != nil {
		return err
	}
	name := ""
	if a.o.Keys.Len() > 0 {
		given := r.Header.Get("X-Api-Key")
		if given == "" {
			given = server.Bearer(r.Header)
		}
		var ok bool
		if name, ok = a.o.Keys.Find(given); !ok {
			w.Header().Set("WWW-Authenticate", `Bearer realm="k2sandbox"`) // RFC 6750
			return api.Errorf(api.Unauthenticated, "a link to the console needs an API key: send X-API-Key or Authorization: Bearer")
		}
	}
	token, expires := a.o.Sessions.Link(name)
	w.Header().Set("Cache-Control", "no-store")
	server.WriteJSON(w, http.StatusCreated, api.ConsoleLink{Token: token, Path: Path + "#t=" + token, ExpiresAt: expires})
	return nil
}

// begin exchanges the token of a link for a cookie.
func (a *API) begin(w http.ResponseWriter, r *http.Request) error {
	var req api.ConsoleSessionRequest
	if err := server.Decode(r, &req); err != nil {
		return err
	}
	if !a.tries.Allow() {
		w.Header().Set("Retry-After", "1")
		return api.Errorf(api.LimitReached, "too many try to log in now")
	}
	value, session, err := a.o.Sessions.Begin(req.Token)
	if err != nil {
		return err
	}
	http.SetCookie(w, a.cookie(r, value, int(lifetime.Seconds())))
	w.Header().Set("Cache-Control", "no-store")
	server.WriteJSON(w, http.StatusOK, a.told(session))
	return nil
}

// session tells who the browser is.
func (a *API) session(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Cache-Control", "no-store")
	if a.o.Keys.Len() == 0 {
		server.WriteJSON(w, http.StatusOK, api.ConsoleSession{Version: a.o.Version})
		return nil
	}
	session, err := a.loggedIn(r)
	if err != nil {
		return err
	}
	server.WriteJSON(w, http.StatusOK, a.told(session))
	return nil
}

func (a *API) loggedIn(r *http.Request) (session, error) {
	found, ok := a.o.Sessions.of(r)
	if !ok {
		return session{}, api.Errorf(api.Unauthenticated, "there is no session, or it has expired: k2sandbox console prints a link that begins one")
	}
	return found, nil
}

// end signs the browser out.
func (a *API) end(w http.ResponseWriter, r *http.Request) error {
	if err := server.Decode(r, &nothing{}); err != nil {
		return err
	}
	if c, err := r.Cookie(server.SessionCookie(r)); err == nil {
		if err := a.o.Sessions.End(c.Value); err != nil {
			return err
		}
	}
	http.SetCookie(w, a.cookie(r, "", -1))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// list tells of the sessions that stand for the same key.
func (a *API) list(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Cache-Control", "no-store")
	if _, err := a.loggedIn(r); err != nil {
		return err
	}
	server.WriteJSON(w, http.StatusOK, api.ConsoleBrowsers{Sessions: a.o.Sessions.like(r)})
	return nil
}

// endOther signs another browser out.
func (a *API) endOther(w http.ResponseWriter, r *http.Request) error {
	session, err := a.loggedIn(r)
	if err != nil {
		return err
	}
	if a.o.Sessions.readOnly {
		return api.Errorf(api.Forbidden, "this session is read-only")
	}
	if err := a.o.Sessions.endOf(session.Key, server.Param(r, "id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// cookie returns the browser's: no script reads it, and no other site's page has it sent.
func (a *API) cookie(r *http.Request, value string, age int) *http.Cookie {
	return &http.Cookie{
		Name: server.SessionCookie(r), Value: value, Path: "/", MaxAge: age,
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil,
	}
}

func (a *API) told(s session) api.ConsoleSession {
	return api.ConsoleSession{Key: s.Key, ReadOnly: a.o.Sessions.readOnly, ExpiresAt: &s.Expires, Version: a.o.Version}
}
