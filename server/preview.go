package server

import (
	"cmp"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/k2sandbox/k2sandbox/internal/lazy"
)

// PreviewParam is the parameter of a query that has the token of a link to a preview.
const PreviewParam = "k2-preview"

// previewCookie is what the names of cookies begin with that hold the token of a preview: see PreviewCookie.
const previewCookie = "k2-preview"

// PreviewCookie returns the name of the cookie of a preview's host. Over TLS it has the prefix of RFC 6265bis, 4.1.3.2, by which
// no other host can set it.
func PreviewCookie(secure bool) string {
	if secure {
		return "__Host-" + previewCookie
	}
	return previewCookie
}

// PreviewDomain is the domain of the hosts PORT-ID.DOMAIN at which a browser finds the servers inside of sandboxes, each as an
// origin of its own. The zero value is none.
type PreviewDomain struct {
	scheme, port string // "": those of the request for a link
	name         string
}

var validDomain = lazy.Regexp(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

const longestDomain = 200 // bytes, which leave room for PORT-ID in the 253 of a name

// ParsePreviewDomain reads DOMAIN, DOMAIN:PORT or either behind http:// or https://, for servers that browsers reach in another
// way than the clients who ask for links. "" is none.
func ParsePreviewDomain(given string) (PreviewDomain, error) {
	if given == "" {
		return PreviewDomain{}, nil
	}
	scheme, rest, found := strings.Cut(strings.ToLower(given), "://")
	if !found {
		scheme, rest = "", scheme
	}
	name, port, hasPort := strings.Cut(rest, ":")
	n, err := strconv.ParseUint(port, 10, 16)
	switch {
	case found && scheme != "http" && scheme != "https":
		return PreviewDomain{}, fmt.Errorf("%q: expected http:// or https://, or neither", given)
	case len(name) > longestDomain || !validDomain().MatchString(name):
		return PreviewDomain{}, fmt.Errorf("%q: expected a domain, such as previews.example.org", given)
	case hasPort && (err != nil || n == 0):
		return PreviewDomain{}, fmt.Errorf("%q: expected a port from 1 to 65535 behind the colon", given)
	}
	return PreviewDomain{scheme, port, name}, nil
}

// Hosts are what Options.Hosts needs for the hosts of the domain.
func (d PreviewDomain) Hosts() []string {
	if d.name == "" {
		return nil
	}
	return []string{"*." + d.name}
}

// URL returns where a browser finds the server at a port of a sandbox, for a client that has reached this server by a request.
func (d PreviewDomain) URL(r *http.Request, id string, port int) *url.URL {
	scheme, at := d.scheme, d.port
	if scheme == "" {
		scheme = "http"
		if r.TLS != nil {
			scheme = "https"
		}
		if _, asked, err := net.SplitHostPort(r.Host); err == nil {
			at = cmp.Or(at, asked)
		}
	}
	host := strconv.Itoa(port) + "-" + id + "." + d.name
	if at != "" {
		host = net.JoinHostPort(host, at)
	}
	return &url.URL{Scheme: scheme, Host: host, Path: "/"}
}

// Has reports whether a request is to a host of the domain, or to one below localhost, which is nobody else's either.
func (d PreviewDomain) Has(r *http.Request) bool {
	host := strings.ToLower(hostname(r.Host))
	return strings.HasSuffix(host, ".localhost") || d.name != "" && strings.HasSuffix(host, "."+d.name)
}

// Secure reports whether a browser that has sent a request to a host of the domain did so by TLS.
func (d PreviewDomain) Secure(r *http.Request) bool {
	return r.TLS != nil || d.scheme == "https" && strings.HasSuffix(strings.ToLower(hostname(r.Host)), "."+d.name)
}

// Reaches reports whether the browser of a client that has sent a request finds the hosts of the domain: those below localhost are
// of its own machine.
func (d PreviewDomain) Reaches(r *http.Request) bool {
	if d.name != "localhost" && !strings.HasSuffix(d.name, ".localhost") {
		return true
	}
	host := strings.ToLower(hostname(r.Host))
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || net.ParseIP(host).IsLoopback()
}
