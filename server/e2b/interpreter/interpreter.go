// Package interpreter answers what E2B's clients ask of port 49999 of a sandbox: to run code in
// contexts. It works in the sandbox's agent.
package interpreter

import (
	"net/http"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/server"
)

// New returns the API of the sandbox, which stays the caller's to close.
func New(_ *agent.Sandbox, o server.Options) http.Handler {
	return server.New(nil, o)
}
