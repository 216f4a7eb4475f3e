package jupyter

import (
	"cmp"
	"net/http"
	"slices"

	"github.com/k2sandbox/k2sandbox/server"
)

// CORS says which web pages of other origins may use the API, and how (https://fetch.spec.whatwg.org/#http-cors-protocol).
// The zero value is: none.
type CORS struct {
	Origins     []string // such as "https://lab.example.org"; "*" is any
	Headers     string   // that requests may have, as in Access-Control-Allow-Headers; "" are those that Jupyter's clients send
	Methods     string   // likewise; "" are those of the API
	Expose      string   // headers of answers that pages may read
	MaxAge      string   // seconds for which a browser may remember all that
	Credentials bool     // browsers may send cookies, which mean nothing here
}

// tell adds to an answer what a browser has to know of it.
func (c *CORS) tell(w http.ResponseWriter, r *http.Request) {
	if len(c.Origins) == 0 {
		return
	}
	h, origin := w.Header(), r.Header.Get("Origin")
	h.Add("Vary", "Origin")
	if !(server.Options{Origins: c.Origins}).AllowsOrigin(origin) {
		return
	}
	if slices.Contains(c.Origins, "*") && !c.Credentials {
		origin = "*"
	}
	h.Set("Access-Control-Allow-Origin", origin)
	set := func(name, value string) {
		if value != "" {
			h.Set(name, value)
		}
	}
	set("Access-Control-Expose-Headers", c.Expose)
	if c.Credentials {
		h.Set("Access-Control-Allow-Credentials", "true")
	}
	if r.Method == http.MethodOptions {
		set("Access-Control-Allow-Headers", cmp.Or(c.Headers, "Authorization, Content-Type, X-API-Key, X-XSRFToken"))
		set("Access-Control-Allow-Methods", cmp.Or(c.Methods, "GET, POST, PUT, PATCH, DELETE, OPTIONS"))
		set("Access-Control-Max-Age", c.MaxAge)
	}
}
