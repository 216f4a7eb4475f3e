package e2b

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/internal/lazy"
)

// The headers of E2B's clients.
const (
	idHeader      = "E2b-Sandbox-Id"
	portHeader    = "E2b-Sandbox-Port"
	keyHeader     = "X-Api-Key"
	tokenHeader   = "X-Access-Token"
	trafficHeader = "E2b-Traffic-Access-Token"
)

// Ports of a sandbox, as the clients know them, that no server of the sandbox's own has; and the control
// plane's of a debug listener.
const (
	controlPort     = 3000
	envdPort        = 49983
	interpreterPort = 49999
)

// plainID leaves out what old clients put behind an id.
func plainID(id string) string {
	id, _, _ = strings.Cut(id, "-")
	return id
}

// sandboxOf returns the id that the request's headers or host name.
func sandboxOf(r *http.Request) string {
	if id, _, ok := Hosted(r.Host); ok {
		return id
	}
	return plainID(r.Header.Get(idHeader))
}

var hostLabel = lazy.Regexp(`^([0-9]{1,5})-([a-z0-9_]+)\.`)

// Hosted returns what a host such as 8000-sb_x6cf4vzqj2m3n5b7k8l9.example.org names.
func Hosted(host string) (id string, port int, ok bool) {
	parts := hostLabel().FindStringSubmatch(strings.ToLower(host))
	if parts == nil {
		return "", 0, false
	}
	port, err := strconv.Atoi(parts[1])
	return parts[2], port, err == nil
}

// find returns the sandbox and the port that a request is for: by host, by headers, by the token that it has, by the
// signature of its URL.
func (a *API) find(r *http.Request) (fleet.Info, int, error) {
	if id, port, ok := Hosted(r.Host); ok {
		return a.get(id, strconv.Itoa(port))
	}
	id, port := plainID(r.Header.Get(idHeader)), r.Header.Get(portHeader)
	if (id != "" || port != "") && (a.debug == 0 || id != "" && id != implicitID) {
		return a.get(id, port)
	}
	info, err := a.first(a.opens(r))
	if errors.Is(err, fleet.ErrNotFound) && a.debug != 0 {
		info, err = a.newest(r.Context())
	}
	return info, a.port(r), err
}

// opens returns what tells whether a request has the token of a sandbox, or a signature that is made with it.
func (a *API) opens(r *http.Request) func(fleet.Info) bool {
	token := r.Header.Get(tokenHeader)
	switch {
	case token != "":
		return func(info fleet.Info) bool { return a.o.Fleet.Token(info.ID, token) }
	case r.URL.Path == filesPath:
		return func(info fleet.Info) bool { return a.signed(r, info.ID) }
	}
	return func(fleet.Info) bool { return false }
}

// port returns that of a request that does not say.
func (a *API) port(r *http.Request) int {
	switch {
	case a.debug != 0:
		return a.debug
	case under(r.URL.Path, []string{"/execute", "/contexts"}):
		return interpreterPort
	}
	return envdPort
}

// get returns the sandbox that a request names.
func (a *API) get(id, port string) (fleet.Info, int, error) {
	n, err := strconv.Atoi(port)
	if a.debug != 0 && port == "" {
		n, err = a.debug, nil
	}
	if id == "" || err != nil || n < 1 || n > 65535 {
		return fleet.Info{}, 0, api.Errorf(api.InvalidRequest,
			"a request to a sandbox needs both headers, E2b-Sandbox-Id and E2b-Sandbox-Port, the latter a number from 1 to 65535")
	}
	info, err := a.o.Fleet.Get(id)
	return info, n, err
}

// first returns the first sandbox there is that is the one.
func (a *API) first(is func(fleet.Info) bool) (fleet.Info, error) {
	all, err := a.all("")
	if err != nil {
		return fleet.Info{}, err
	}
	for _, info := range all {
		if is(info) {
			return info, nil
		}
	}
	return fleet.Info{}, fleet.ErrNotFound
}

// all returns the running and the paused sandboxes of an owner, or of all, the newest first.
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

// Reserved reports whether a port is one at which this API answers for a sandbox, and no server inside.
func Reserved(port int) bool { return port == envdPort || port == interpreterPort }
