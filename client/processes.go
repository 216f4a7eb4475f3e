package client

import (
	"context"
	"io"
	"iter"
	"net/url"
	"path"
	"strconv"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/process"
)

// ProcessEvent is a line of a process's stream: process.Started, Stdout, Stderr,
// journal.Truncated or journal.End. Fields that do not belong to its Type are zero.
type ProcessEvent struct {
	Seq   int64        `json:"seq"`
	Type  journal.Type `json:"type"`
	Time  time.Time    `json:"time"`
	Pid   int          `json:"pid"`
	Text  string       `json:"text"`  // what was written, where it is UTF-8, or
	Data  []byte       `json:"data"`  // what was written
	Bytes int64        `json:"bytes"` // that are no longer kept
	process.End
}

// Output returns what the process wrote, of a Stdout or Stderr.
func (e *ProcessEvent) Output() []byte {
	if e.Data != nil {
		return e.Data
	}
	return []byte(e.Text)
}

// RunProcess starts a process and yields what it writes, up to a journal.End. It goes
// on when the loop is left, unless the request says otherwise in OnDisconnect.
func (c *Client) RunProcess(ctx context.Context, req api.ProcessRequest) iter.Seq2[ProcessEvent, error] {
	return start[ProcessEvent](ctx, c, "/v1/processes", req, "Location", func(at string) string {
		return "/v1/processes/" + path.Base(at) + "/events"
	})
}

// StartProcess starts a process in the background and returns at once.
func (c *Client) StartProcess(ctx context.Context, req api.ProcessRequest) (api.Process, error) {
	req.Background = true
	return ask[api.Process](ctx, c, "POST", "/v1/processes", nil, req)
}

// Processes lists the processes that run and the newest of those that have ended,
// the newest first.
func (c *Client) Processes(ctx context.Context) ([]api.Process, error) {
	list, err := ask[api.Processes](ctx, c, "GET", "/v1/processes", nil, nil)
	return list.Processes, err
}

// Process tells about a process.
func (c *Client) Process(ctx context.Context, pid int) (api.Process, error) {
	return ask[api.Process](ctx, c, "GET", processPath(pid), nil, nil)
}

// ProcessEvents yields the events of a process after a number, 0 being all, to its end.
func (c *Client) ProcessEvents(ctx context.Context, pid int, after int64) iter.Seq2[ProcessEvent, error] {
	return events[ProcessEvent](ctx, c, nil, processPath(pid)+"/events", after)
}

// WriteStdin writes all of r to the process's stdin as it comes, and ends that with eof.
func (c *Client) WriteStdin(ctx context.Context, pid int, r io.Reader, eof bool) error {
	return c.call(ctx, "POST", processPath(pid)+"/stdin", url.Values{"eof": {strconv.FormatBool(eof)}}, r, nil)
}

// SignalProcess sends a signal, such as "SIGINT", to the process's group.
func (c *Client) SignalProcess(ctx context.Context, pid int, signal api.Signal) error {
	return c.call(ctx, "POST", processPath(pid)+"/signal", nil, api.SignalRequest{Signal: signal}, nil)
}

// ResizeProcess gives the process's terminal another size.
func (c *Client) ResizeProcess(ctx context.Context, pid, rows, cols int) error {
	return c.call(ctx, "POST", processPath(pid)+"/resize", nil, api.ResizeRequest{Rows: rows, Cols: cols}, nil)
}

// DeleteProcess kills a process and all that it started; one that has ended is forgotten.
func (c *Client) DeleteProcess(ctx context.Context, pid int) error {
	return c.call(ctx, "DELETE", processPath(pid), nil, nil, nil)
}

func processPath(pid int) string { return "/v1/processes/" + strconv.Itoa(pid) }
