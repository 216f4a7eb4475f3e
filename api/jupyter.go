package api

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/internal/lazy"
)

// LocalSandbox stands in ids for Jupyter's clients for the sandbox of an agent that no server is before.
const LocalSandbox = "local"

// KernelID returns the id by which Jupyter's clients know a context of a sandbox, which is a kernel to them. It has the
// form that they and their servers expect, that of a UUID: \w+-\w+-\w+-\w+-\w+.
func KernelID(sandboxID, contextID string) string {
	return sandboxID + "-" + strings.ReplaceAll(contextID, "-", "__") + "-k-k-k" // as of default-javascript
}

// SessionID returns the id by which Jupyter's clients know a session, of the form of KernelID. name is the agent's.
func SessionID(sandboxID, name string) string { return sandboxID + "-" + name + "-s-s-s" }

var jupyterID = lazy.Regexp(`^(\w+)-(\w+)-(k-k-k|s-s-s)$`)

// ParseKernelID returns what KernelID was made of.
func ParseKernelID(id string) (sandboxID, contextID string, ok bool) {
	sandboxID, contextID, ok = parseJupyterID(id, "k-k-k")
	return sandboxID, strings.ReplaceAll(contextID, "__", "-"), ok
}

// ParseSessionID returns what SessionID was made of.
func ParseSessionID(id string) (sandboxID, name string, ok bool) { return parseJupyterID(id, "s-s-s") }

func parseJupyterID(id, kind string) (sandboxID, name string, ok bool) {
	parts := jupyterID().FindStringSubmatch(id)
	if len(id) > 256 || parts == nil || parts[3] != kind {
		return "", "", false
	}
	return parts[1], parts[2], true
}

// JupyterTime is a time as Jupyter's clients parse it: UTC, always with microseconds.
type JupyterTime struct{ time.Time }

const jupyterTime = "2006-01-02T15:04:05.000000Z"

// MarshalJSON is for json.Marshaler.
func (t JupyterTime) MarshalJSON() ([]byte, error) { return json.Marshal(t.UTC().Format(jupyterTime)) }

// JupyterKernel is a kernel of Jupyter's REST API.
type JupyterKernel struct {
	ID             string      `json:"id"`
	Name           string      `json:"name"` // of its kernelspec
	LastActivity   JupyterTime `json:"last_activity"`
	ExecutionState string      `json:"execution_state"` // starting, idle, busy, restarting, dead or unknown
	Connections    int         `json:"connections"`     // WebSockets
	Reason         string      `json:"reason,omitempty"`
}

// JupyterKernelRequest is the body of POST /api/kernels. Clients send more than there is a place for.
type JupyterKernelRequest struct {
	Name string            `json:"name,omitempty"` // of a kernelspec; "" is the default
	Path string            `json:"path,omitempty"` // of the notebook's folder, in the contents
	Env  map[string]string `json:"env,omitempty"`
}

// JupyterSession is a session: a kernel by the path of what uses it.
type JupyterSession struct {
	ID       string          `json:"id"`
	Path     string          `json:"path"`
	Name     string          `json:"name"`
	Type     string          `json:"type"` // notebook, console or file
	Kernel   JupyterKernel   `json:"kernel"`
	Notebook JupyterNotebook `json:"notebook"` // the same again, as clients of long ago know it
}

// JupyterNotebook is the path of a session.
type JupyterNotebook struct {
	Path string `json:"path"`
	Name string `json:"name"`
}

// JupyterSpecs are the kernelspecs there are.
type JupyterSpecs struct {
	Default string                 `json:"default"`
	Specs   map[string]JupyterSpec `json:"kernelspecs"`
}

// JupyterSpec is a kernelspec.
type JupyterSpec struct {
	Name      string            `json:"name"`
	Spec      JupyterSpecFile   `json:"spec"`
	Resources map[string]string `json:"resources"` // URLs, by the name of the file without its extension
}

// JupyterSpecFile is what a kernel.json says.
type JupyterSpecFile struct {
	Argv          []string          `json:"argv"`
	Env           map[string]string `json:"env"`
	DisplayName   string            `json:"display_name"`
	Language      string            `json:"language"`
	InterruptMode string            `json:"interrupt_mode"`
	Metadata      json.RawMessage   `json:"metadata"`
	Protocol      string            `json:"kernel_protocol_version,omitempty"`
}

// JupyterError is the body of an answer that tells of an error.
type JupyterError struct {
	Reason  string `json:"reason"` // of the status
	Message string `json:"message"`
}
