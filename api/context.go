package api

import (
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/executor"
)

// ContextRequest asks for a new context: the body of POST /v1/contexts.
type ContextRequest struct {
	Language string            `json:"language,omitempty"` // such as "python"; at most one of Language and Kernel
	Kernel   string            `json:"kernel,omitempty"`   // name of a kernelspec
	Cwd      string            `json:"cwd,omitempty"`      // absolute
	Envs     map[string]string `json:"envs,omitempty"`
}

// Validate returns an *Error that names the first wrong field.
func (r *ContextRequest) Validate() error {
	if r.Language != "" && r.Kernel != "" {
		return Invalid("kernel", "cannot be combined with language: give one of the two")
	}
	if strings.ContainsAny(r.Kernel, "/\x00") {
		return Invalid("kernel", "%q is not the name of a kernelspec", r.Kernel)
	}
	return validPlace(r.Cwd, r.Envs)
}

// Context tells about a context.
type Context struct {
	ContextID      string    `json:"context_id"`
	Language       string    `json:"language"`
	Kernel         string    `json:"kernel"` // the name of its kernelspec
	Cwd            string    `json:"cwd"`
	State          string    `json:"state"` // idle, busy or dead
	Running        string    `json:"running,omitempty"`
	Queued         int       `json:"queued"`
	ExecutionCount int       `json:"execution_count"`
	CreatedAt      time.Time `json:"created_at"`
	LastActiveAt   time.Time `json:"last_active_at"`
}

// Contexts is a list of contexts, the oldest first.
type Contexts struct {
	Contexts []Context `json:"contexts" api:"required"`
}

// CompleteRequest asks how code can go on at the cursor.
type CompleteRequest struct {
	Code   string `json:"code" api:"required"`
	Cursor *int   `json:"cursor,omitempty"` // in Unicode code points; nil is the end of the code
}

// InspectRequest asks what is at the cursor.
type InspectRequest struct {
	Code   string `json:"code" api:"required"`
	Cursor *int   `json:"cursor,omitempty"` // in Unicode code points; nil is the end of the code
	Detail int    `json:"detail,omitempty"` // 0, or 1 for more, such as the source
}

// Validate returns an *Error that names the first wrong field.
func (r *InspectRequest) Validate() error {
	if r.Detail != 0 && r.Detail != 1 {
		return Invalid("detail", "expected 0 or 1, got %d", r.Detail)
	}
	return nil
}

// History is what ran in a context, the oldest first: the answer of GET /v1/contexts/{cid}/history.
type History struct {
	History   []HistoryEntry `json:"history"`
	Truncated bool           `json:"truncated"` // there is older
}

// HistoryEntry is one run of a history.
type HistoryEntry struct {
	ExecutionID    string          `json:"execution_id"`
	ExecutionCount *int            `json:"execution_count"` // it counts from 1 again after a restart
	Code           string          `json:"code"`
	State          executor.State  `json:"state"`
	Status         executor.Status `json:"status,omitempty"` // once it is done
	StartedAt      time.Time       `json:"started_at"`
	EndedAt        *time.Time      `json:"ended_at"`
}

// Health says whether a server works: the answer of /healthz and /readyz.
type Health struct {
	Status string `json:"status" api:"required"`
}
