// Package channels joins Jupyter clients to the kernels of a sandbox: each by a WebSocket that carries
// the messages of all the kernel's channels, as Jupyter Server's /api/kernels/{id}/channels does. It
// works in the sandbox's agent.
package channels

import (
	"net/http"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
)

// Channels has the clients of a sandbox's kernels. It is safe for concurrent use.
type Channels struct {
	box *agent.Sandbox
	o   server.Options
}

// New returns the channels of the sandbox, which stays the caller's to close: its clients are told then, and leave.
func New(box *agent.Sandbox, o server.Options) *Channels {
	return &Channels{box: box, o: o.WithDefaults()}
}

// Serve joins the WebSocket of a request to the kernel of a context; "" is the default one. It returns when the client
// has left. An error is the answer in place of the WebSocket. The query may have session_id.
func (c *Channels) Serve(w http.ResponseWriter, r *http.Request, contextID string) error {
	if _, err := c.box.Context(contextID); err != nil {
		return err
	}
	return api.Errorf(api.Unavailable, "channels of kernels are not there yet")
}

// Connections returns how many clients are connected to the kernel of a context now.
func (c *Channels) Connections(contextID string) int { return 0 }
