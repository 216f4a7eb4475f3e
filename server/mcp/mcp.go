// Package mcp is the Model Context Protocol in front of the sandboxes of a fleet, over streamable HTTP at /mcp: doc/mcp.md.
// It knows the tools and finds the sandbox of each call. What works in a sandbox is answered there, by package
// server/mcp/inside; this one believes nothing that comes out of it.
package mcp

import (
	"net/http"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/sandboxes"
)

// Path is where the protocol is spoken.
const Path = "/mcp"

// Options of the API. Fleet and Native are required.
type Options struct {
	server.Options
	Fleet   *fleet.Fleet   // stays the caller's to close
	Native  *sandboxes.API // of the same fleet
	Next    http.Handler   // answers what is not for this API; nil: Native does
	Timeout time.Duration  // of inactivity, of the sandboxes that calls get which name none; 0 is the fleet's own
	Offline bool           // sandboxes reach no network
}

// API answers MCP clients at Path.
type API struct {
	o        Options
	keys     *server.Keys
	guarded  http.Handler
	protocol http.Handler
	calls    calls
	turns    server.Turns
}

// New returns the API of a fleet.
func New(o Options) *API {
	o.Options = o.WithDefaults()
	if o.Next == nil {
		o.Next = o.Native
	}
	a := &API{o: o, keys: o.Keys}
	protocol := newServer(o.Options)
	for _, t := range tools(a) {
		protocol.AddTool(t.describe(o.Offline), a.handler(t))
	}
	for _, t := range resourceTemplates {
		protocol.AddResourceTemplate(&t, a.readResource)
	}
	a.protocol = sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return protocol }, &sdk.StreamableHTTPOptions{
		Stateless: true, PropagateRequestCancellation: true, MaxRequestBodyBytes: o.MaxBody,
		DisableLocalhostProtection: true, // the guard knows the hosts
	})
	o.Keys, o.Observe = nil, o.Native.Observe // keys are looked at here: a sandbox's token needs its id
	a.guarded = server.Guard(a.serve, o.Options)
	return a
}

// ServeHTTP is for http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == Path {
		a.guarded.ServeHTTP(w, r)
	} else {
		a.o.Next.ServeHTTP(w, r)
	}
}

// newServer returns a server of the protocol, without tools yet.
func newServer(o server.Options) *sdk.Server {
	return sdk.NewServer(&sdk.Implementation{Name: "k2sandbox", Title: "k2sandbox", Version: o.Version}, &sdk.ServerOptions{
		Instructions: instructions,
		Capabilities: &sdk.ServerCapabilities{Tools: &sdk.ToolCapabilities{}, Resources: &sdk.ResourceCapabilities{}}, // lists do not change, and nothing is logged
	})
}
