package client

import (
	"context"
	"net/url"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
)

// CreateSandbox creates a sandbox and returns when its kernel is ready. Its access
// token is told here only. Where ctx ends before, nothing is left of it.
func (c *Client) CreateSandbox(ctx context.Context, req api.SandboxRequest) (api.Sandbox, error) {
	return ask[api.Sandbox](ctx, c, "POST", "/v1/sandboxes", nil, req)
}

// SandboxFilter says which sandboxes are meant. The zero value is all but the ended.
type SandboxFilter struct {
	Metadata map[string]string // what theirs has
	State    api.SandboxState  // theirs
	Limit    int               // the most on a page; 0 is 100
	Cursor   string            // Sandboxes.NextCursor of the page before
	Usage    bool              // with what each uses now
}

// Sandboxes lists a page of sandboxes, the newest first.
func (c *Client) Sandboxes(ctx context.Context, f SandboxFilter) (api.Sandboxes, error) {
	query := limited(f.Limit)
	for key, value := range f.Metadata {
		query.Set("metadata."+key, value)
	}
	if f.State != "" {
		query.Set("state", string(f.State))
	}
	if f.Usage {
		query.Set("usage", "true")
	}
	if f.Cursor != "" {
		query.Set("cursor", f.Cursor)
	}
	return ask[api.Sandboxes](ctx, c, "GET", "/v1/sandboxes", query, nil)
}

// GetSandbox tells about a sandbox.
func (c *Client) GetSandbox(ctx context.Context, id string) (api.Sandbox, error) {
	return ask[api.Sandbox](ctx, c, "GET", sandbox(id), nil, nil)
}

// KillSandbox ends a sandbox at once; nothing is left of it when it returns.
func (c *Client) KillSandbox(ctx context.Context, id string) error {
	return c.call(ctx, "DELETE", sandbox(id), nil, nil, nil)
}

// CloseSandbox ends a sandbox as gently as its code lets it, in bounded time.
func (c *Client) CloseSandbox(ctx context.Context, id string) error {
	return c.call(ctx, "POST", sandbox(id)+"/close", nil, nothing{}, nil)
}

// SetTimeout gives a sandbox another inactivity timeout, in seconds, which begins anew.
func (c *Client) SetTimeout(ctx context.Context, id string, timeout float64) (api.Sandbox, error) {
	return ask[api.Sandbox](ctx, c, "POST", sandbox(id)+"/timeout", nil, api.TimeoutRequest{Timeout: timeout})
}

// SetNetwork has a sandbox reach something else from now on.
func (c *Client) SetNetwork(ctx context.Context, id string, network api.NetworkRequest) (api.Sandbox, error) {
	return ask[api.Sandbox](ctx, c, "PUT", sandbox(id)+"/network", nil, network)
}

// SandboxMetrics tells what a sandbox uses, and has used since a time, of which the zero value is the beginning.
func (c *Client) SandboxMetrics(ctx context.Context, id string, since time.Time) (api.UsageHistory, error) {
	query := url.Values{}
	if !since.IsZero() {
		query.Set("since", since.Format(time.RFC3339Nano))
	}
	return ask[api.UsageHistory](ctx, c, "GET", sandbox(id)+"/metrics", query, nil)
}

// PauseSandbox freezes a sandbox: it uses no CPU, and keeps its memory.
func (c *Client) PauseSandbox(ctx context.Context, id string) (api.Sandbox, error) {
	return ask[api.Sandbox](ctx, c, "POST", sandbox(id)+"/pause", nil, nothing{})
}

// ResumeSandbox lets a paused sandbox go on.
func (c *Client) ResumeSandbox(ctx context.Context, id string) (api.Sandbox, error) {
	return ask[api.Sandbox](ctx, c, "POST", sandbox(id)+"/resume", nil, nothing{})
}

// Templates lists what sandboxes can be made of.
func (c *Client) Templates(ctx context.Context) (api.Templates, error) {
	return ask[api.Templates](ctx, c, "GET", "/v1/templates", nil, nil)
}

// ServerCapabilities tells what the server can do where it runs, and what it cannot, and why.
func (c *Client) ServerCapabilities(ctx context.Context) (api.ServerCapabilities, error) {
	return ask[api.ServerCapabilities](ctx, c, "GET", "/v1/capabilities", nil, nil)
}

// In returns a client of one of the server's sandboxes, which shares this one's connections.
func (c *Client) In(id string) *Client {
	in := *c
	in.base += sandbox(id)
	return &in
}

func sandbox(id string) string { return "/v1/sandboxes/" + url.PathEscape(id) }
