package inside_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/fixtures"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/inside"
)

// Every recorded conversation comes over HTTP as it comes from the executor: the same
// golden lines.
func TestReplayOverHTTP(t *testing.T) {
	all, err := fixtures.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if slices.ContainsFunc(f.Cells, func(c fixtures.Cell) bool { return c.Silent || c.Cwd == "sub" }) {
			continue // the API has no silent runs and no relative paths
		}
		for _, accept := range []string{"application/x-ndjson", "text/event-stream"} {
			t.Run(f.Name+"/"+accept, func(t *testing.T) {
				t.Parallel()
				c := executor.New("default", f.Replay(fixtures.Recorded), f.Options())
				defer c.Close(executor.Aborted)
				srv := httptest.NewServer(inside.Serve(&replayed{c: c, runs: map[string]*executor.Execution{}}, server.Options{}))
				defer srv.Close()
				got, err := f.Play(t.Context(), player{srv, accept})
				if err != nil {
					t.Fatal(err)
				}
				if got.Events != f.Events || got.Background != f.Background {
					t.Errorf("got\n%.4000s\n%.4000s\nwant\n%.4000s\n%.4000s", got.Events, got.Background, f.Events, f.Background)
				}
			})
		}
	}
}

// replayed is a sandbox with one context.
type replayed struct {
	c    *executor.Context
	mu   sync.Mutex
	runs map[string]*executor.Execution
}

func (r *replayed) Submit(_ string, cell executor.Cell) (*executor.Execution, error) {
	e, err := r.c.Submit(cell)
	if err == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.runs[e.ID()] = e
	}
	return e, err
}

func (r *replayed) Execution(id string) (*executor.Execution, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.runs[id]; e != nil {
		return e, nil
	}
	return nil, agent.ErrNotFound
}

func (r *replayed) Executions() []*executor.Execution         { return nil }
func (r *replayed) Context(string) (*executor.Context, error) { return r.c, nil }
func (r *replayed) Contexts() []agent.ContextInfo             { return nil }
func (r *replayed) DeleteContext(string) error                { return agent.ErrDefaultContext }
func (r *replayed) ContextInfo(string) (agent.ContextInfo, error) {
	return agent.ContextInfo{ContextID: r.c.ID()}, nil
}
func (r *replayed) CreateContext(context.Context, agent.ContextOptions) (agent.ContextInfo, error) {
	return agent.ContextInfo{}, agent.ErrTooManyContexts
}

// client plays fixtures over HTTP.
type player struct {
	*httptest.Server
	accept string
}

func (c player) do(ctx context.Context, method, path string, body any) (*http.Response, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, c.URL+path, bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", c.accept)
	resp, err := c.Client().Do(req)
	if err == nil && resp.StatusCode >= 400 {
		defer resp.Body.Close()
		raw, _ := io.ReadAll(resp.Body)
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, raw)
	}
	return resp, err
}

func (c player) tell(ctx context.Context, path string, body any) error {
	resp, err := c.do(ctx, "POST", path, body)
	if err == nil {
		resp.Body.Close()
	}
	return err
}

func (c player) Start(ctx context.Context, cell executor.Cell) (fixtures.Run, error) {
	history := !cell.NoHistory
	resp, err := c.do(ctx, "POST", "/v1/code", api.RunRequest{
		Code: cell.Code, Timeout: cell.Timeout.Seconds(), Cwd: cell.Cwd, Envs: cell.Envs, AllowStdin: cell.AllowStdin, StoreHistory: &history,
	})
	if err != nil {
		return nil, err
	}
	return playerRun{c, resp}, nil
}

func (c player) Restart(ctx context.Context) error { return c.tell(ctx, "/v1/reset", struct{}{}) }

func (c player) Background(ctx context.Context) iter.Seq2[[]byte, error] {
	resp, err := c.do(ctx, "GET", "/v1/contexts/default/events", nil)
	return linesOf(resp, err)
}

type playerRun struct {
	player
	resp *http.Response
}

func (r playerRun) Lines(context.Context) iter.Seq2[[]byte, error] { return linesOf(r.resp, nil) }

func (r playerRun) path() string { return "/v1/executions/" + r.resp.Header.Get("X-Execution-Id") }

func (r playerRun) Interrupt(ctx context.Context) error {
	return r.tell(ctx, r.path()+"/interrupt", struct{}{})
}

func (r playerRun) Input(ctx context.Context, value string) error {
	return r.tell(ctx, r.path()+"/input", api.InputRequest{Value: value})
}

// linesOf yields the lines of a stream, as NDJSON or server-sent events.
func linesOf(resp *http.Response, err error) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if err != nil {
			yield(nil, err)
			return
		}
		defer resp.Body.Close()
		lines := bufio.NewReader(resp.Body)
		for {
			line, err := lines.ReadBytes('\n')
			if err == io.EOF {
				return
			}
			line = bytes.TrimPrefix(bytes.TrimSpace(line), []byte("data: "))
			if len(line) == 0 || bytes.HasPrefix(line, []byte("id: ")) {
				continue
			}
			if !yield(line, err) || err != nil {
				return
			}
		}
	}
}
