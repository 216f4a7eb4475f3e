package mcp

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/k2sandbox/k2sandbox/api"
)

const (
	// patience is within how long every call is answered: less than what clients wait, which is 60 s for many.
	patience = 45 * time.Second
	// slack is what of that is for everything but waiting for a run.
	slack = time.Second
	// grace is how much longer a sandbox may take to answer, where the machine is slow.
	grace = 10 * time.Second
)

// call is one call of a tool.
type call struct {
	tool
	visit *visit
	req   *sdk.CallToolRequest
	until time.Time // when it is to be answered

	args    map[string]json.RawMessage
	sandbox string
}

// handle answers a call.
type handle func(ctx context.Context, c *call) (*sdk.CallToolResult, error)

// handler returns what the SDK calls for a tool.
func (a *API) handler(t tool) sdk.ToolHandler {
	return func(ctx context.Context, req *sdk.CallToolRequest) (result *sdk.CallToolResult, err error) {
		c := &call{tool: t, visit: visitOf(ctx), req: req, until: time.Now().Add(patience)}
		defer func() { // else it would end the server
			if p := recover(); p != nil {
				result, err = a.fail(c, fmt.Errorf("panic: %v\n%s", p, debug.Stack())), nil
			}
		}()
		ctx, cancel := context.WithDeadline(ctx, c.until.Add(grace))
		defer cancel()
		defer context.AfterFunc(c.visit.ended, cancel)()
		if result, err = a.answer(ctx, c); err != nil {
			return a.fail(c, err), nil
		}
		return result, nil
	}
}

// answer reads the arguments that all tools have.
func (a *API) answer(ctx context.Context, c *call) (*sdk.CallToolResult, error) {
	raw := c.req.Params.Arguments
	if len(bytes.TrimSpace(raw)) == 0 {
		raw = json.RawMessage("{}")
	}
	if err := json.Unmarshal(raw, &c.args); err != nil {
		return nil, api.Errorf(api.InvalidRequest, "the arguments are no JSON object")
	}
	if c.args == nil { // they are null
		c.args = map[string]json.RawMessage{}
	}
	maps.DeleteFunc(c.args, func(_ string, given json.RawMessage) bool { return string(given) == "null" }) // is as good as left out
	if err := c.checkNames(); err != nil {
		return nil, err
	}
	if given, ok := c.args["sandbox_id"]; ok {
		if err := json.Unmarshal(given, &c.sandbox); err != nil {
			return nil, api.Invalid("sandbox_id", "expected a string")
		}
		delete(c.args, "sandbox_id")
	}
	return c.do(ctx, c)
}

// checkNames refuses a call that nothing could come of, before it gets a sandbox.
func (c *call) checkNames() error {
	for _, name := range slices.Sorted(maps.Keys(c.args)) {
		if !slices.ContainsFunc(c.properties, func(p property) bool { return p.name == name }) {
			return api.Errorf(api.InvalidRequest, "%s: is no argument of %s", plain(name, maxName), c.name)
		}
	}
	for _, name := range c.required {
		if given := c.args[name]; given == nil || string(given) == "null" {
			return api.Invalid(name, "is required")
		}
	}
	return nil
}

// inside has the sandbox's agent answer.
func (a *API) inside(ctx context.Context, c *call) (*sdk.CallToolResult, error) {
	wait, err := c.waits()
	if err != nil {
		return nil, err
	}
	at, err := a.find(ctx, c.visit, c.sandbox, c.fresh)
	if err != nil {
		return nil, err
	}
	defer at.release()
	c.limitWait(wait)
	args, err := json.Marshal(c.args)
	if err != nil {
		return nil, fmt.Errorf("cannot write arguments: %w", err)
	}
	answer, err := a.ask(ctx, c.visit, at, c.name, args, newProgress(ctx, c.req).tell)
	if err != nil {
		return nil, err
	}
	return result(at, answer)
}

// within returns the arguments of a call so that it waits no longer than there is time. What cannot be read is left as it is,
// for the server to refuse.
func (t tool) within(raw json.RawMessage, until time.Time) json.RawMessage {
	c := call{tool: t, until: until}
	if t.wait == "" || json.Unmarshal(raw, &c.args) != nil || c.args == nil {
		return raw
	}
	wait, err := c.waits()
	if err != nil {
		return raw
	}
	c.limitWait(wait)
	args, err := json.Marshal(c.args)
	if err != nil {
		return raw
	}
	return args
}

// waits returns how many seconds a call is to wait; nil: it does not say.
func (c *call) waits() (seconds *float64, err error) {
	if given := c.args[c.wait]; given != nil && json.Unmarshal(given, &seconds) != nil {
		return nil, api.Invalid(c.wait, "expected a number of seconds")
	}
	return seconds, nil
}

// limitWait has a call wait no longer than there is time.
func (c *call) limitWait(given *float64) {
	left := max(time.Until(c.until)-slack, 0).Seconds()
	if c.wait != "" && (given == nil || *given > left) {
		c.args[c.wait] = fmt.Appendf(nil, "%.3f", left)
	}
}
