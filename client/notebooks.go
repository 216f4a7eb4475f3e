package client

import (
	"context"
	"encoding/json"
	"io"
	"iter"
	"net/url"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
)

// NotebookEvent is a line of the stream of a notebook's run: an event of the run of
// one of its cells, or of the notebook. Error is of a journal.End.
type NotebookEvent struct {
	executor.Event                 // Bytes, of a journal.End, is the size of the executed notebook
	NotebookID     string          `json:"notebook_id"`
	Cells          int             `json:"cells"`
	Cell           *int            `json:"cell"` // place in the notebook, from 0
	CellID         string          `json:"cell_id"`
	Description    string          `json:"description"`
	OutputPath     string          `json:"output_path"`
	Notebook       json.RawMessage `json:"notebook"` // the executed notebook, where it is small and has no output path
	Fault          *api.Error      `json:"error"`
}

// RunNotebook runs a notebook and yields what happens, up to a journal.End. It goes on
// when the loop is left, unless the request says otherwise in OnDisconnect.
func (c *Client) RunNotebook(ctx context.Context, req api.NotebookRequest) iter.Seq2[NotebookEvent, error] {
	return start[NotebookEvent](ctx, c, "/v1/notebooks/run", req, "X-Notebook-Id", func(id string) string { return notebookPath(id) + "/events" })
}

// SubmitNotebook begins to run a notebook and returns at once.
func (c *Client) SubmitNotebook(ctx context.Context, req api.NotebookRequest) (api.Notebook, error) {
	req.Detach = true
	return ask[api.Notebook](ctx, c, "POST", "/v1/notebooks/run", nil, req)
}

// Notebooks lists the runs of notebooks, the newest first; at most limit, 0 being 100.
func (c *Client) Notebooks(ctx context.Context, limit int) ([]api.Notebook, error) {
	list, err := ask[api.Notebooks](ctx, c, "GET", "/v1/notebooks", limited(limit), nil)
	return list.Notebooks, err
}

// Notebook tells where the run of a notebook stands.
func (c *Client) Notebook(ctx context.Context, id string) (api.Notebook, error) {
	return ask[api.Notebook](ctx, c, "GET", notebookPath(id), nil, nil)
}

// NotebookEvents yields the events of a notebook's run after a number, 0 being all, to its end.
func (c *Client) NotebookEvents(ctx context.Context, id string, after int64) iter.Seq2[NotebookEvent, error] {
	return events[NotebookEvent](ctx, c, nil, notebookPath(id)+"/events", after)
}

// ExecutedNotebook returns a notebook as its run left it, once that has ended. The
// caller closes it.
func (c *Client) ExecutedNotebook(ctx context.Context, id string) (io.ReadCloser, error) {
	return c.download(ctx, notebookPath(id)+"/notebook", nil)
}

// InterruptNotebook stops the run of a notebook; it does not wait for its end.
func (c *Client) InterruptNotebook(ctx context.Context, id string) (api.Notebook, error) {
	return ask[api.Notebook](ctx, c, "POST", notebookPath(id)+"/interrupt", nil, nothing{})
}

func notebookPath(id string) string { return "/v1/notebooks/" + url.PathEscape(id) }
