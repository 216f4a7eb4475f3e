// Package envd answers what E2B's clients ask of port 49983 of a sandbox: files, processes and
// terminals, as plain HTTP and as Connect-JSON. It works in the sandbox's agent.
package envd

import (
	"net/http"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/server"
)

// New returns the API of the sandbox, which stays the caller's to close. The server in front
// has checked the access token, or the signature of a URL.
func New(_ *agent.Sandbox, o server.Options) http.Handler {
	return server.New(nil, o)
}
