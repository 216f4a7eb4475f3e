package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/k2sandbox/k2sandbox/api"
)

// PortURL returns the URL under which a server inside the sandbox is reached, which
// listens on the port: the path is that server's.
func (c *Client) PortURL(port int, path string) string {
	return c.base + "/v1/ports/" + strconv.Itoa(port) + "/" + strings.TrimPrefix(path, "/")
}

// Port returns an HTTP client whose requests, whatever host they name, go to the
// server inside the sandbox that listens on the port.
func (c *Client) Port(port int) *http.Client {
	return &http.Client{Transport: &portTransport{c, port}, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // its Location is the server's own
	}}
}

// portTransport sends requests to one port.
type portTransport struct {
	c    *Client
	port int
}

// RoundTrip is for http.Client.
func (t *portTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	u, err := url.Parse(t.c.PortURL(t.port, req.URL.EscapedPath()))
	if err != nil {
		return nil, err
	}
	u.RawQuery = req.URL.RawQuery
	forwarded := req.Clone(req.Context())
	forwarded.URL, forwarded.Host = u, ""
	for name, values := range t.c.auth() {
		forwarded.Header[name] = values
	}
	return t.c.o.Transport.RoundTrip(forwarded)
}

// Preview makes a link by which a browser reaches a server inside a sandbox: see api.PreviewRequest.
func (c *Client) Preview(ctx context.Context, id string, req api.PreviewRequest) (api.Preview, error) {
	return ask[api.Preview](ctx, c, "POST", sandbox(id)+"/previews", nil, req)
}
