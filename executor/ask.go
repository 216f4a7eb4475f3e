package executor

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
	"github.com/k2sandbox/k2sandbox/mime"
)

// Completion is what could stand at the cursor. Start and End bound the text that a
// match replaces, in Unicode code points.
type Completion struct {
	Matches  []string        `json:"matches"`
	Start    int             `json:"cursor_start"`
	End      int             `json:"cursor_end"`
	Metadata json.RawMessage `json:"metadata"`
}

// Inspection is what the kernel knows of the name at the cursor.
type Inspection struct {
	Found    bool        `json:"found"`
	Data     mime.Bundle `json:"data"`
	Metadata mime.Bundle `json:"metadata"`
}

// Complete asks the kernel for completions; cursor counts code points. The kernel
// answers between two runs. https://jupyter-client.readthedocs.io/en/stable/messaging.html#completion
func (c *Context) Complete(ctx context.Context, code string, cursor int) (Completion, error) {
	var answer Completion
	reply, err := c.ask(ctx, "complete_request", map[string]any{"code": code, "cursor_pos": cursor})
	if err != nil {
		return answer, err
	}
	if err := json.Unmarshal(reply.Content, &answer); err != nil {
		return answer, fmt.Errorf("cannot read the kernel's completion: %w", err)
	}
	if answer.Matches == nil {
		answer.Matches = []string{}
	}
	return answer, nil
}

// Inspect asks the kernel about the name at the cursor; cursor counts code points, and
// detail is 0, or 1 for source code. The kernel answers between two runs.
// https://jupyter-client.readthedocs.io/en/stable/messaging.html#introspection
func (c *Context) Inspect(ctx context.Context, code string, cursor, detail int) (Inspection, error) {
	reply, err := c.ask(ctx, "inspect_request", map[string]any{"code": code, "cursor_pos": cursor, "detail_level": detail})
	if err != nil {
		return Inspection{}, err
	}
	return Inspection{Found: reply.Get("found").Bool(), Data: bundle(&reply, "data"), Metadata: bundle(&reply, "metadata")}, nil
}

// ask sends a request on shell and returns its reply.
func (c *Context) ask(ctx context.Context, kind string, content map[string]any) (wire.Message, error) {
	if err := c.Revive(); err != nil {
		return wire.Message{}, err
	}
	raw, err := json.Marshal(content)
	if err != nil {
		return wire.Message{}, fmt.Errorf("cannot encode %s: %w", kind, err)
	}
	for m, err := range c.conn.Ask(ctx, wire.Request{Channel: wire.Shell, ID: wire.NewID(), Type: kind, Content: raw}) {
		if err != nil {
			return wire.Message{}, err
		}
		if m.Channel != wire.Shell {
			continue
		}
		if status := m.Get("status").String(); status != "ok" {
			return wire.Message{}, fmt.Errorf("the kernel answered %s with status %q: %s", kind, status, m.Get("evalue").String())
		}
		return m, nil
	}
	return wire.Message{}, errReplyLost
}
