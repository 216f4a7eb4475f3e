package mcp

import (
	"context"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/k2sandbox/k2sandbox/api"
)

const (
	progressPause = 500 * time.Millisecond // between two that a client is sent
	progressText  = 300                    // bytes
)

// progress tells the client of a call how far that is, if it wants to know.
type progress struct {
	ctx   context.Context
	req   *sdk.CallToolRequest
	token any
	last  time.Time
	value float64
}

func newProgress(ctx context.Context, req *sdk.CallToolRequest) *progress {
	return &progress{ctx: ctx, req: req, token: req.Params.GetProgressToken(), value: -1}
}

// tell sends what an agent says of it, which is hostile. The progress of the protocol has to grow.
func (p *progress) tell(said api.MCPProgress) {
	if p.token == nil || time.Since(p.last) < progressPause || !(said.ElapsedS > p.value) {
		return
	}
	p.last, p.value = time.Now(), said.ElapsedS
	// A client that is gone is seen elsewhere.
	_ = p.req.Session.NotifyProgress(p.ctx, &sdk.ProgressNotificationParams{
		ProgressToken: p.token, Progress: said.ElapsedS, Message: plain(said.Line, progressText),
	})
}
