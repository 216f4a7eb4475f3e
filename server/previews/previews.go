// Package previews serves the servers inside of sandboxes to browsers, each at a host of its own, PORT-ID.DOMAIN, and so as an
// origin that shares nothing with that of the API, of the console or of other sandboxes. Who has a signed link gets in, and who
// has a key. It believes nothing that comes out of a sandbox; nothing of any API is at such a host.
package previews

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/e2b"
	"github.com/k2sandbox/k2sandbox/server/sandboxes"
)

// Options of the hosts. All but the domain are required.
type Options struct {
	server.Options                      // with the keys of the API. Hosts may name more domains
	Domain         server.PreviewDomain // whose hosts they are; the zero value: only Hosts has any
	Fleet          *fleet.Fleet         // stays the caller's to close
	Native         *sandboxes.API       // of the same fleet
	E2B            *e2b.API             // likewise: its clients have other tokens for the same hosts
	Reserved       func(port int) bool  // ports at which E2B's API answers, which Next has; nil: none
	Next           http.Handler         // answers at all other hosts
}

// API serves the hosts.
type API struct {
	o     Options
	hosts http.Handler
}

// New returns what serves the hosts of previews before Next.
func New(o Options) *API {
	o.Options = o.WithDefaults()
	a := &API{o: o}
	common := o.Options
	common.Keys, common.Session, common.Token = nil, nil, nil // are looked at here: a link is enough
	common.Hosts = append(o.Domain.Hosts(), o.Hosts...)
	common.Fail, common.Observe = fail, o.Native.Observe
	common.Origins = nil                                         // are those of the API: here is another one
	common.TracePath = func(*http.Request) string { return "/" } // what a program's inside may be secret
	a.hosts = server.Guard(a.serve, common)
	return a
}

// ServeHTTP is for http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, port, ok := e2b.Hosted(r.Host); ok && (a.o.Reserved == nil || !a.o.Reserved(port)) {
		a.hosts.ServeHTTP(w, r)
		return
	}
	a.o.Next.ServeHTTP(w, r)
}

// serve sends a request on to the server inside that its host names.
func (a *API) serve(w http.ResponseWriter, r *http.Request) error {
	id, port, _ := e2b.Hosted(r.Host)
	if plain := strconv.Itoa(port) + "-" + id + "."; port < 1 || port > 65535 || !strings.HasPrefix(strings.ToLower(r.Host), plain) {
		return api.Errorf(api.NotFound, "there is no host %.300q here", r.Host)
	}
	v := a.visit(r, id, port)
	info, err := a.o.Fleet.Get(id)
	if err != nil {
		return a.discreet(v, err)
	}
	if err := a.admit(v, info, port); err != nil {
		return err
	}
	if v.token != "" && v.moves() {
		v.enter(w)
		return nil
	}
	release, box, err := a.o.E2B.Use(r, info, port)
	if err != nil {
		return err
	}
	defer release()
	if !v.until.IsZero() && !a.owns(v, id, info.Owner) && !a.lets(v, info, port) {
		ctx, cancel := context.WithDeadline(r.Context(), v.until) // also of a WebSocket
		defer cancel()
		r = r.WithContext(ctx)
	}
	if a.hasSecret(v, info) {
		r = server.WithCaller(r, server.Caller{Sandbox: id}) // no answer is to lead it elsewhere with that
	}
	if v.byCookie {
		w.Header().Add("Content-Security-Policy", "frame-ancestors 'self'") // what others would have the browser's user click
	}
	return a.o.Native.Forward(w, v.inner(r), box, sandboxes.Target{
		Path: e2b.PortPath + "/ports/" + strconv.Itoa(port) + server.RawPath(r), Port: true, Own: a.o.Domain.Has(r), // hosts of other domains may be one site with the console
	})
}

// admit reports whether a visitor may go to the port of a sandbox.
func (a *API) admit(v *visit, info fleet.Info, port int) error {
	if !v.until.IsZero() || a.owns(v, info.ID, info.Owner) || a.lets(v, info, port) {
		return nil
	}
	if v.token != "" {
		return api.Errorf(api.Unauthenticated, "this link has expired, or is not one to this place: ask for another one")
	}
	return api.Errorf(api.Unauthenticated, "what listens on port %d is shown to who has a link to it: POST /v1/sandboxes/%s/previews makes one", port, info.ID)
}

// lets reports whether a visitor may go there as E2B's clients may.
func (a *API) lets(v *visit, info fleet.Info, port int) bool {
	if a.o.Reserved == nil {
		port = 0 // none is envd's, which lets in some requests without a token
	}
	return a.o.E2B.Admit(v.r, info, port) == nil
}

// owns reports whether a visitor has the owner's key, or the sandbox's own token.
func (a *API) owns(v *visit, id, owner string) bool {
	given := v.credential()
	name, known := a.o.Keys.Find(given)
	return given != "" && (known && name == owner || a.o.Fleet.Token(id, given))
}

// hasSecret reports whether a request has something in its headers that opens more than this host.
func (a *API) hasSecret(v *visit, info fleet.Info) bool {
	h := v.r.Header
	return h.Get("X-Api-Key") != "" || h.Get("X-Access-Token") != "" || h.Get("E2b-Traffic-Access-Token") != "" || a.owns(v, info.ID, info.Owner)
}

// discreet tells what has become of a sandbox to those who could have used it.
func (a *API) discreet(v *visit, err error) error {
	var gone *fleet.GoneError
	if !errors.As(err, &gone) || !v.until.IsZero() || a.o.Keys.Len() == 0 || a.owns(v, gone.ID, gone.Owner) {
		return err
	}
	return fmt.Errorf("%w %.64q", fleet.ErrNotFound, gone.ID)
}

// errorPolicy lets the page of an error load nothing.
const errorPolicy = "default-src 'none'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"

// fail answers a browser that goes somewhere with a page.
func fail(w http.ResponseWriter, r *http.Request, _ error, told *api.Error) {
	status := server.Statuses[told.Code]
	w.Header().Set("Referrer-Policy", "no-referrer") // the address may have a token
	if !strings.Contains(r.Header.Get("Accept"), "text/html") {
		server.WriteJSON(w, status, api.ErrorBody{Error: *told})
		return
	}
	w.Header().Set("Content-Security-Policy", errorPolicy)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, "<!doctype html>\n<meta charset=\"utf-8\">\n<meta name=\"color-scheme\" content=\"light dark\">\n<title>"+ // fails only where the client is gone
		http.StatusText(status)+"</title>\n<h1>"+http.StatusText(status)+"</h1>\n<p>"+html.EscapeString(told.Message)+"</p>\n")
}
