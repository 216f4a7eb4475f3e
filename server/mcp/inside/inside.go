// Package inside answers what the tools of MCP ask of one sandbox, in the sandbox's agent: each with one call, by a
// deadline, in few words. What a model is to read is made here, where the sandbox pays for it and its content can
// do no harm: the head and the tail of long texts, without escape sequences; small pictures; tables as Markdown.
// The payloads are in package api, mcp.go.
package inside

import (
	"net/http"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
)

// maxRequest is how many bytes the body of a request may have: base64 of what write_file may write, and some.
const maxRequest = 12 << 20

// New returns what answers below api.MCPPath, without that prefix. The sandbox stays the caller's to close.
func New(box *agent.Sandbox, o server.Options) http.Handler {
	o = o.WithDefaults()
	o.Ping = time.Hour // progress comes more often
	h := &handlers{box: box, o: o}
	routes := []server.Route{{Method: "GET", Path: "/output", Query: []string{"run_id", "output"}, Handle: h.output}}
	for name, handle := range map[string]func(http.ResponseWriter, *http.Request) error{
		api.ToolRunCode:         h.runCode,
		api.ToolGetRun:          h.getRun,
		api.ToolInterruptRun:    h.interruptRun,
		api.ToolRunCommand:      h.runCommand,
		api.ToolReadFile:        h.readFile,
		api.ToolWriteFile:       h.writeFile,
		api.ToolListFiles:       h.listFiles,
		api.ToolInstallPackages: h.installPackages,
	} {
		routes = append(routes, server.Route{Method: "POST", Path: "/" + name, Handle: handle, Body: maxRequest})
	}
	return server.New(routes, o)
}

type handlers struct {
	box       *agent.Sandbox
	o         server.Options
	shrinking sync.Mutex // held while an image is in memory
}

// answer answers a tool that has nothing to wait for.
func answer(w http.ResponseWriter, a *api.MCPAnswer) error {
	server.WriteJSON(w, http.StatusOK, api.MCPLine{Answer: a})
	return nil
}

// say returns an answer of one text.
func say(text string) *api.MCPAnswer {
	return &api.MCPAnswer{Content: []api.MCPContent{{Type: api.TextContent, Text: text}}}
}
