package server

import (
	"net/http"
	"slices"
	"strings"
)

const pagePolicy = "sandbox allow-scripts allow-forms allow-popups allow-modals allow-downloads"

// GuardPage takes from the answer of a server inside a sandbox what says something about
// this origin, under which a browser would show it, or to proxies before us. Unless
// the code inside is trusted, a page gets an origin of its own that it shares with
// nobody (CSP sandbox), and a browser no cookie: those of other servers on the same
// host are not for it.
func GuardPage(h http.Header, trusted, browser bool) {
	for name := range h {
		if strings.HasPrefix(name, "X-Accel-") && name != "X-Accel-Buffering" || slices.Contains(notOurs, name) {
			h.Del(name)
		}
	}
	if trusted {
		return
	}
	if !slices.Contains(h["Content-Security-Policy"], pagePolicy) {
		h.Add("Content-Security-Policy", pagePolicy)
	}
	if browser {
		h.Del("Set-Cookie")
	}
}

// GuardOwnPage is GuardPage for a server that a browser knows as an origin of its own: what it says is about itself, as long as its
// cookies stay at its host, and are not those by which it is reached.
func GuardOwnPage(h http.Header) {
	GuardPage(h, true, false)
	var kept []string
	for _, line := range h["Set-Cookie"] {
		if !ours(line) {
			kept = append(kept, hostOnly(line))
		}
	}
	h.Del("Set-Cookie")
	if len(kept) > 0 {
		h["Set-Cookie"] = kept
	}
}

// hostOnly returns a Set-Cookie without the attribute by which other hosts would get it (RFC 6265, 5.2.3).
func hostOnly(line string) string {
	parts := strings.Split(line, ";")
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool {
		name, _, _ := strings.Cut(part, "=")
		return strings.EqualFold(strings.Trim(name, " \t"), "domain")
	}), ";")
}

// notOurs are headers that a server inside has no say in.
var notOurs = []string{
	"Service-Worker-Allowed", "Clear-Site-Data", "Strict-Transport-Security", "Alt-Svc",
	"X-Sendfile", "X-Lighttpd-Send-File", // proxies before us would send a file of the host
	"X-Request-Id", "X-Content-Type-Options", // this server has said its own
}
