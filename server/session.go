package server

import (
	"net"
	"net/http"
	"strings"
)

// sessionCookie is what the names of cookies begin with that hold a session of the console: see SessionCookie.
const sessionCookie = "k2-console"

// SessionCookie returns the name of the cookie of the console's session on this server. Browsers send a cookie to all ports of a
// host, so that it has the port's number; over TLS it has the prefix of RFC 6265bis, 4.1.3.2, by which no other host can set it.
func SessionCookie(r *http.Request) string {
	if r.TLS != nil {
		return "__Host-" + sessionCookie
	}
	_, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		return sessionCookie // it is the port of the scheme
	}
	return sessionCookie + "-" + port
}

// DropSession takes cookies of the console's sessions from the headers of a request, which goes to somebody else.
func DropSession(h http.Header) {
	cookies := (&http.Request{Header: h}).Cookies()
	kept := &http.Request{Header: http.Header{}}
	for _, c := range cookies {
		if !strings.HasPrefix(strings.TrimPrefix(c.Name, "__Host-"), sessionCookie) {
			kept.AddCookie(c)
		}
	}
	if len(kept.Header) == 0 {
		h.Del("Cookie")
	} else if len(cookies) != len(kept.Cookies()) {
		h["Cookie"] = kept.Header["Cookie"]
	}
}

// fromOwnPage reports whether a request may be one of the console's own page, whose cookie counts: not of another port of
// the same host, which browsers send cookies for, too, nor of an origin that is allowed as it has a key.
func fromOwnPage(r *http.Request) bool {
	origin, site := r.Header.Get("Origin"), r.Header.Get("Sec-Fetch-Site")
	return (origin == "" || sameHost(origin, r.Host)) && (site == "" || site == "same-origin" || site == "none")
}

// readsOnly reports whether a request is one for whoever may only look: it changes nothing, and reaches no program inside.
func readsOnly(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions) &&
		r.Header.Get("Upgrade") == "" && !portPath().MatchString(r.URL.Path)
}
