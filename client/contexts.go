package client

import (
	"context"
	"io"
	"iter"
	"net/url"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
)

// DefaultContext is the id of the context that is there from the start.
const DefaultContext = "default"

// Contexts lists the contexts, the oldest first.
func (c *Client) Contexts(ctx context.Context) ([]api.Context, error) {
	list, err := ask[api.Contexts](ctx, c, "GET", "/v1/contexts", nil, nil)
	return list.Contexts, err
}

// CreateContext starts a kernel with a context of its own, which is ready then.
func (c *Client) CreateContext(ctx context.Context, req api.ContextRequest) (api.Context, error) {
	return ask[api.Context](ctx, c, "POST", "/v1/contexts", nil, req)
}

// Context tells where a context stands.
func (c *Client) Context(ctx context.Context, id string) (api.Context, error) {
	return ask[api.Context](ctx, c, "GET", contextPath(id), nil, nil)
}

// DeleteContext ends a context and its kernel.
func (c *Client) DeleteContext(ctx context.Context, id string) error {
	return c.call(ctx, "DELETE", contextPath(id), nil, nil, nil)
}

// RestartContext puts a new kernel in place of the context's.
func (c *Client) RestartContext(ctx context.Context, id string) (api.Context, error) {
	return ask[api.Context](ctx, c, "POST", contextPath(id)+"/restart", nil, nothing{})
}

// InterruptContext interrupts what runs in the context, if anything does.
func (c *Client) InterruptContext(ctx context.Context, id string) (api.Context, error) {
	return ask[api.Context](ctx, c, "POST", contextPath(id)+"/interrupt", nil, nothing{})
}

// Reset restarts the default context.
func (c *Client) Reset(ctx context.Context) (api.Context, error) {
	return ask[api.Context](ctx, c, "POST", "/v1/reset", nil, nothing{})
}

// Complete tells how code can go on at the cursor.
func (c *Client) Complete(ctx context.Context, id string, req api.CompleteRequest) (executor.Completion, error) {
	return ask[executor.Completion](ctx, c, "POST", contextPath(id)+"/complete", nil, req)
}

// Inspect tells what is at the cursor.
func (c *Client) Inspect(ctx context.Context, id string, req api.InspectRequest) (executor.Inspection, error) {
	return ask[executor.Inspection](ctx, c, "POST", contextPath(id)+"/inspect", nil, req)
}

// Variables tells of the variables of a context.
func (c *Client) Variables(ctx context.Context, id string) (executor.Variables, error) {
	return ask[executor.Variables](ctx, c, "GET", contextPath(id)+"/variables", nil, nil)
}

// History returns what ran in a context, the oldest first; the newest limit, 0 being 100.
func (c *Client) History(ctx context.Context, id string, limit int) (api.History, error) {
	return ask[api.History](ctx, c, "GET", contextPath(id)+"/history", limited(limit), nil)
}

// ExportContext returns what ran in a context as a Jupyter notebook. The caller closes it.
func (c *Client) ExportContext(ctx context.Context, id string) (io.ReadCloser, error) {
	return c.download(ctx, contextPath(id)+"/notebook", nil)
}

// Background yields the output of a context that came outside of any run, after a
// number, and follows it until the context is gone.
func (c *Client) Background(ctx context.Context, id string, after int64) iter.Seq2[executor.Event, error] {
	return events[executor.Event](ctx, c, nil, contextPath(id)+"/events", after)
}

func contextPath(id string) string { return "/v1/contexts/" + url.PathEscape(id) }
