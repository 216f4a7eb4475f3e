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

// ours reports whether a cookie, given as NAME=VALUE, is one of the console's sessions, or of a preview.
func ours(cookie string) bool {
	name, _, _ := strings.Cut(cookie, "=")
	name = strings.TrimPrefix(strings.Trim(name, " \t"), "__Host-")
	return strings.HasPrefix(name, sessionCookie) || strings.HasPrefix(name, previewCookie)
}

// DropSession takes cookies of the console's sessions and of previews from the headers of a request, which goes to somebody else.
// All others stay as they are, also those that net/http would not read.
func DropSession(h http.Header) {
	var lines []string
	for _, line := range h["Cookie"] {
		var kept []string
		for cookie := range strings.SplitSeq(line, ";") {
			if !ours(cookie) {
				kept = append(kept, cookie)
			}
		}
		if line = strings.TrimPrefix(strings.Join(kept, ";"), " "); line != "" {
			lines = append(lines, line)
		}
	}
	h.Del("Cookie")
	if len(lines) > 0 {
		h["Cookie"] = lines
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
