package client

import (
	"net/http"
	"net/http/httputil"
	"net/url"
)

// foreign are headers of requests that are between a browser and who forwards them.
var foreign = []string{"Authorization", "X-Api-Key", "Cookie", "Origin", "Referer", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "Sec-Fetch-User"}

// Proxy returns what sends requests on to the server as this client's own, with its key, and the answers back as they
// come, also WebSockets. path returns where a request goes, as it stands in a URL. Whom a request comes from, and
// whether that may be, the caller has checked; what a request has of keys and cookies stays with the caller, and so
// does a token in the query.
func (c *Client) Proxy(path func(r *http.Request) string) *httputil.ReverseProxy {
	base, _ := url.Parse(c.base) // as New did
	return &httputil.ReverseProxy{
		Transport: c.o.Transport, FlushInterval: -1,
		Rewrite: func(p *httputil.ProxyRequest) {
			raw := base.EscapedPath() + path(p.In)
			p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = base.Scheme, base.Host, base.Host
			p.Out.URL.Path, p.Out.URL.RawPath = raw, raw
			if plain, err := url.PathUnescape(raw); err == nil {
				p.Out.URL.Path = plain
			}
			query := p.In.URL.Query()
			if query.Has("token") {
				query.Del("token")
				p.Out.URL.RawQuery = query.Encode()
			}
			for _, name := range foreign {
				p.Out.Header.Del(name)
			}
			if c.o.Key != "" {
				p.Out.Header.Set("X-API-Key", c.o.Key)
			}
		},
	}
}
