package previews

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/server"
)

// visit is one request to the host of a server inside.
type visit struct {
	r        *http.Request
	secure   bool      // the browser came by TLS
	token    string    // of the link, in the query; "" where there is none
	query    string    // that without it
	until    time.Time // how long the link, or the cookie that it became, opens the host; zero: there is neither
	byLink   bool      // it is the link that opens it
	byCookie bool
}

// visit reads what a request has to say for itself.
func (a *API) visit(r *http.Request, id string, port int) *visit {
	v := &visit{r: r, secure: a.o.Domain.Secure(r)}
	v.token, v.query = cut(r.URL.RawQuery)
	v.until = a.o.Fleet.PreviewUntil(id, port, v.token)
	v.byLink = !v.until.IsZero()
	for _, cookie := range r.CookiesNamed(server.PreviewCookie(v.secure)) { // pages inside can set more of that name
		if until := a.o.Fleet.PreviewUntil(id, port, cookie.Value); v.until.IsZero() && !until.IsZero() {
			v.until, v.byCookie = until, true
		}
	}
	return v
}

// cut takes the token of a link out of a query, which stays as it was written otherwise.
func cut(query string) (token, rest string) {
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if plain, err := url.QueryUnescape(name); err != nil || plain != server.PreviewParam {
			kept = append(kept, pair)
		} else if token == "" {
			token, _ = url.QueryUnescape(value) // what cannot be read opens nothing
		}
	}
	return token, strings.Join(kept, "&")
}

// credential returns the key or token that the headers have; "" where there is none.
func (v *visit) credential() string {
	if key := v.r.Header.Get("X-Api-Key"); key != "" {
		return key
	}
	return server.Bearer(v.r.Header)
}

// moves reports whether a browser can be sent to the address without the token.
func (v *visit) moves() bool {
	return (v.r.Method == http.MethodGet || v.r.Method == http.MethodHead) && v.r.Header.Get("Upgrade") == ""
}

// enter exchanges the token of the link for a cookie of this host alone, and leads to the same place without it: it comes into no
// Referer, no history, and not to the server inside. The cookie is sent also where another site, such as the console, leads here.
func (v *visit) enter(w http.ResponseWriter) {
	if v.byLink {
		http.SetCookie(w, &http.Cookie{
			Name: server.PreviewCookie(v.secure), Value: v.token, Path: "/", MaxAge: max(1, int(time.Until(v.until).Seconds())),
			HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: v.secure,
		})
	}
	to := url.URL{Path: v.r.URL.Path, RawPath: v.r.URL.RawPath, RawQuery: v.query}
	where := to.EscapedPath()
	switch {
	case strings.HasPrefix(where, "//"):
		where = "/." + where // it would be a host
	case !strings.HasPrefix(where, "/"):
		where = "/" + where
	}
	if v.query != "" {
		where += "?" + v.query
	}
	w.Header().Set("Location", where)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(http.StatusSeeOther)
}

// inner returns the request as the server inside is to see it: without the token of the link. Cookies, keys and other tokens are
// taken from all requests to sandboxes.
func (v *visit) inner(r *http.Request) *http.Request {
	inner := r.WithContext(r.Context())
	where := *r.URL
	where.RawQuery, where.ForceQuery = v.query, r.URL.ForceQuery && v.token == ""
	inner.URL, inner.Header = &where, r.Header.Clone()
	if strings.Contains(r.Header.Get("Referer"), server.PreviewParam+"=") {
		inner.Header.Del("Referer")
	}
	return inner
}
