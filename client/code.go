package client

import (
	"context"
	"io"
	"iter"
	"net/url"
	"strconv"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
)

// Run runs a cell and yields its events, the last of which is an executor.End. The
// first, an executor.Start, has the run's id. Leaving the loop leaves the run to
// itself, unless the request says otherwise in OnDisconnect.
func (c *Client) Run(ctx context.Context, req api.RunRequest) iter.Seq2[executor.Event, error] {
	return start[executor.Event](ctx, c, "/v1/code", req, "X-Execution-Id", eventsOf)
}

// Submit queues a cell and returns at once; Events has what it does.
func (c *Client) Submit(ctx context.Context, req api.RunRequest) (executor.Summary, error) {
	req.Detach = true
	return ask[executor.Summary](ctx, c, "POST", "/v1/code", nil, req)
}

// Executions lists the runs in a state, "" being any, the newest first; at most limit, 0 being 100.
func (c *Client) Executions(ctx context.Context, state executor.State, limit int) ([]executor.Summary, error) {
	query := limited(limit)
	if state != "" {
		query.Set("state", string(state))
	}
	list, err := ask[api.Executions](ctx, c, "GET", "/v1/executions", query, nil)
	return list.Executions, err
}

// Execution tells where a run stands.
func (c *Client) Execution(ctx context.Context, id string) (executor.Summary, error) {
	return ask[executor.Summary](ctx, c, "GET", execution(id), nil, nil)
}

// Events yields the events of a run after a number, 0 being all, to its end.
func (c *Client) Events(ctx context.Context, id string, after int64) iter.Seq2[executor.Event, error] {
	return events[executor.Event](ctx, c, nil, eventsOf(id), after)
}

// Output is a part of what a run printed, stdout and stderr together.
type Output struct {
	Text      string
	Start     int64 // where in the output the text begins, in bytes
	Total     int64 // bytes of output so far
	Truncated int64 // bytes that were left out because the run's log was full
}

// Output returns a part of what a run printed so far: "head:N", "tail:N", "A-B" or
// "A-", in bytes; "" is all.
func (c *Client) Output(ctx context.Context, id, part string) (Output, error) {
	query := url.Values{}
	if part != "" {
		query.Set("range", part)
	}
	resp, err := c.send(ctx, request{method: "GET", path: execution(id) + "/output", query: query})
	if err != nil {
		return Output{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	number := func(header string) int64 { n, _ := strconv.ParseInt(resp.Header.Get(header), 10, 64); return n }
	return Output{string(text), number("X-Output-Start"), number("X-Output-Total"), number("X-Output-Truncated")}, err
}

// InterruptExecution stops a run; it does not wait for its end.
func (c *Client) InterruptExecution(ctx context.Context, id string) (executor.Summary, error) {
	return ask[executor.Summary](ctx, c, "POST", execution(id)+"/interrupt", nil, nothing{})
}

// Input answers the executor.Input event that a run waits on.
func (c *Client) Input(ctx context.Context, id, value string) error {
	return c.call(ctx, "POST", execution(id)+"/input", nil, api.InputRequest{Value: value}, nil)
}

// limited asks for so many of a list; 0 is what the server takes for enough.
func limited(limit int) url.Values {
	if limit == 0 {
		return url.Values{}
	}
	return url.Values{"limit": {strconv.Itoa(limit)}}
}

func execution(id string) string { return "/v1/executions/" + url.PathEscape(id) }

func eventsOf(id string) string { return execution(id) + "/events" }
