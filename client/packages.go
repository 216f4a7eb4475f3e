package client

import (
	"context"
	"iter"
	"net/url"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/packages"
)

// InstallEvent is a line of an installation's stream: an api.InstallStart, an
// api.InstallOutput or an api.InstallEnd, by its Type.
type InstallEvent struct {
	api.InstallEnd
	InstallID string   `json:"install_id"`
	Packages  []string `json:"packages"`
	Installer string   `json:"installer"`
	Text      string   `json:"text"`
}

// Packages lists what is installed, by name.
func (c *Client) Packages(ctx context.Context) ([]packages.Distribution, error) {
	list, err := ask[api.Packages](ctx, c, "GET", "/v1/packages", nil, nil)
	return list.Packages, err
}

// InstallPackages installs packages and yields what the installer says. The last
// event tells whether it worked, and what changed. It goes on when the loop is left.
func (c *Client) InstallPackages(ctx context.Context, req api.PackagesRequest) iter.Seq2[InstallEvent, error] {
	return start[InstallEvent](ctx, c, "/v1/packages", req, "X-Install-Id", func(id string) string { return installPath(id) + "/events" })
}

// SubmitInstall queues an installation and returns at once.
func (c *Client) SubmitInstall(ctx context.Context, req api.PackagesRequest) (api.Install, error) {
	req.Detach = true
	return ask[api.Install](ctx, c, "POST", "/v1/packages", nil, req)
}

// Install tells where an installation stands.
func (c *Client) Install(ctx context.Context, id string) (api.Install, error) {
	return ask[api.Install](ctx, c, "GET", installPath(id), nil, nil)
}

// InstallEvents yields the events of an installation after a number, 0 being all, to its end.
func (c *Client) InstallEvents(ctx context.Context, id string, after int64) iter.Seq2[InstallEvent, error] {
	return events[InstallEvent](ctx, c, nil, installPath(id)+"/events", after)
}

// InterruptInstall stops an installation; it does not wait for its end.
func (c *Client) InterruptInstall(ctx context.Context, id string) (api.Install, error) {
	return ask[api.Install](ctx, c, "POST", installPath(id)+"/interrupt", nil, nothing{})
}

func installPath(id string) string { return "/v1/packages/installs/" + url.PathEscape(id) }
