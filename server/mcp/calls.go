package mcp

import (
	"context"
	"sync"

	"github.com/k2sandbox/k2sandbox/server"
)

// callID names a call as a cancellation does: by the JSON of its id, which a client has once.
type callID struct {
	caller server.Caller
	client string
	id     string
}

// calls are those that are being answered. A cancellation comes with a request of its own, which the SDK, to which
// each request is for itself, knows nothing of. Before the protocol of 2026-07-28, a client that leaves cancels nothing.
type calls struct {
	mu   sync.Mutex
	open map[callID]context.CancelFunc
}

// begin returns a context that ends when the call is cancelled, or done.
func (c *calls) begin(id callID) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	if id.client == "" || id.id == "" {
		return ctx, cancel
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[id] != nil { // of a client that has an id twice, neither
		delete(c.open, id)
		return ctx, cancel
	}
	if c.open == nil {
		c.open = map[callID]context.CancelFunc{}
	}
	c.open[id] = cancel
	return ctx, func() {
		cancel()
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.open, id)
	}
}

// cancel ends a call, if there is one.
func (c *calls) cancel(id callID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cancel := c.open[id]; cancel != nil {
		cancel()
	}
}
