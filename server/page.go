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

// notOurs are headers that a server inside has no say in.
var notOurs = []string{
	"Service-Worker-Allowed", "Clear-Site-Data", "Strict-Transport-Security", "Alt-Svc",
	"X-Sendfile", "X-Lighttpd-Send-File", // proxies before us would send a file of the host
	"X-Request-Id", "X-Content-Type-Options", // this server has said its own
}
