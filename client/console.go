package client

import (
	"context"

	"github.com/k2sandbox/k2sandbox/api"
)

// ConsoleLink makes a link to the web console, which works once, for a minute, with the rights of this client's key.
func (c *Client) ConsoleLink(ctx context.Context) (api.ConsoleLink, error) {
	return ask[api.ConsoleLink](ctx, c, "POST", "/v1/console/links", nil, nothing{})
}
