package main

import (
	"crypto/subtle"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path"
	"strings"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/client"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/jupyter"
)

// labFront is what a browser talks to: pages and settings come from JupyterLab's server, all that runs or is a file of
// a sandbox from the server of sandboxes. So messages of kernels pass no Python, and the browser gets no key.
type labFront struct {
	pages, boxes http.Handler
	sandbox      string // whose files and terminals there are; "": JupyterLab's server has the files
	token        string
	cookie       string
}

func newLabFront(c *client.Client, pages *httputil.ReverseProxy, token, sandbox, address string, log *slog.Logger) http.Handler {
	f := &labFront{pages: pages, sandbox: sandbox, token: token, cookie: "k2-lab-" + address[strings.LastIndexByte(address, ':')+1:]}
	boxes := c.Proxy(f.inServer)
	pages.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	boxes.ErrorLog, f.boxes = pages.ErrorLog, boxes
	return server.Guard(f.serve, server.Options{Log: log})
}

func (f *labFront) serve(w http.ResponseWriter, r *http.Request) error {
	if !f.knows(r) {
		return api.Errorf(api.Unauthenticated, "no token: open the URL that k2sandbox lab has printed")
	}
	if given := r.URL.Query().Get("token"); given != "" && r.Header.Get("Upgrade") == "" {
		http.SetCookie(w, &http.Cookie{Name: f.cookie, Value: f.token, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
	}
	at := r.URL.Path
	switch {
	case r.Header.Get("Service-Worker") != "":
		return api.Errorf(api.Forbidden, "service workers are not allowed: what code shows could leave one behind")
	case at == "/":
		http.Redirect(w, r, "lab", http.StatusFound)
	case path.Clean(at) != strings.TrimSuffix(at, "/") || strings.Contains(at, "\\"):
		return api.Errorf(api.NotFound, "cannot find %s", at)
	case f.inBoxes(at):
		f.boxes.ServeHTTP(w, r)
	case anyBelow(at, f.ownPaths()) && (r.Method == http.MethodGet || !anyBelow(at, readPaths)):
		f.pages.ServeHTTP(w, r)
	default:
		return api.Errorf(api.NotFound, "cannot find %s", at)
	}
	return nil
}

// knows reports whether a request has the token: in the query, in a header or in the cookie.
func (f *labFront) knows(r *http.Request) bool {
	given := r.URL.Query().Get("token")
	if scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " "); given == "" && (strings.EqualFold(scheme, "token") || strings.EqualFold(scheme, "Bearer")) {
		given = token
	}
	if cookie, err := r.Cookie(f.cookie); given == "" && err == nil {
		given = cookie.Value
	}
	return subtle.ConstantTimeCompare([]byte(given), []byte(f.token)) == 1
}

// Paths of Jupyter's API that the server of sandboxes answers, and those that it does where a sandbox is named.
var (
	runPaths  = []string{"/api/kernels", "/api/kernelspecs", "/kernelspecs"}
	filePaths = []string{"/api/sessions", "/api/contents", "/files", "/api/terminals", "/terminals/websocket", "/api/events"}
)

// pagePaths are those that JupyterLab's server answers. It has more, of which none is needed: some would install packages,
// run language servers or write its configuration.
var pagePaths = []string{
	"/lab", "/static", "/favicon.ico", "/logo", "/api/me", "/api/status", "/api/nbconvert",
	"/api/security", "/lsp/status",
}

// readPaths are of those where pages may ask, and change nothing: what would be changed is code.
var readPaths = []string{"/lab/api/extensions", "/lab/api/build", "/lab/api/plugins"}

// ownPaths are those that JupyterLab's server answers. Where it has the files it has the sessions, too, which are kernels
// by the paths of files: those of other people's files are none of its.
func (f *labFront) ownPaths() []string {
	if f.sandbox == "" {
		return append([]string{"/api/sessions", "/api/contents", "/files", "/api/events"}, pagePaths...)
	}
	return pagePaths
}

func (f *labFront) inBoxes(at string) bool {
	if f.sandbox == "" {
		return anyBelow(at, runPaths)
	}
	return anyBelow(at, runPaths) || anyBelow(at, filePaths) || strings.HasPrefix(at, jupyter.Path+"/"+f.sandbox+"/")
}

// inServer returns where the server of sandboxes has what a request is about.
func (f *labFront) inServer(r *http.Request) string {
	raw := server.RawPath(r)
	if f.sandbox == "" || strings.HasPrefix(raw, jupyter.Path+"/") {
		return raw
	}
	return fmt.Sprintf("%s/%s%s", jupyter.Path, url.PathEscape(f.sandbox), raw)
}

// anyBelow reports whether a path is one of others, or below it.
func anyBelow(at string, paths []string) bool {
	for _, p := range paths {
		if at == p || strings.HasPrefix(at, p+"/") {
			return true
		}
	}
	return false
}
