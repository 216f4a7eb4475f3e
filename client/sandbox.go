package client

import (
	"context"
	"encoding/json"
	"io"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/journal"
)

// Timeline yields what happened to the sandbox after a number, 0 being all, and
// follows it until the sandbox ends.
func (c *Client) Timeline(ctx context.Context, after int64) iter.Seq2[api.TimelineEvent, error] {
	return events[api.TimelineEvent](ctx, c, nil, "/v1/timeline", after)
}

// Stream is all that happens in a sandbox, over one connection.
type Stream struct {
	After    api.Cursor    // where it begins; it moves with what was read. The zero value is the beginning of all
	Now      bool          // it begins now instead, with the open runs and processes
	Include  []api.Source  // beside the timeline: FromExecution, FromProcess, FromMetrics
	Watch    string        // a directory, of which an overflow comes first in each connection: look at all of it then
	Interval time.Duration // between two metrics, in whole seconds; 0 is 5 s
}

// StreamLine is a line of a stream.
type StreamLine struct {
	Source api.Source      `json:"source"`
	ID     string          `json:"id"` // of the run or process
	Seq    int64           `json:"seq"`
	Type   journal.Type    `json:"type"`
	Epoch  string          `json:"epoch"` // of an api.Hello: another than before after a restart
	Cursor string          `json:"cursor"`
	JSON   json.RawMessage `json:"-"` // the line as it came
}

// Decode reads the line into what its source says: an *api.TimelineEvent, an
// *executor.Event and so on.
func (l StreamLine) Decode(v any) error { return json.Unmarshal(l.JSON, v) }

var includes = map[api.Source]string{api.FromExecution: "executions", api.FromProcess: "processes", api.FromMetrics: "metrics"}

func (s *Stream) follows(source api.Source) bool {
	return slices.Contains(s.Include, source)
}

func (s *Stream) query() url.Values {
	after, include := s.After.String(), []string{"timeline"}
	if s.Now && s.After.Epoch == "" {
		after = "now"
	}
	for _, source := range s.Include {
		include = append(include, includes[source])
	}
	query := url.Values{"after": {after}, "include": {strings.Join(include, ",")}}
	if s.Watch != "" {
		query.Set("watch", s.Watch)
	}
	if s.Interval > 0 {
		query.Set("interval", strconv.FormatInt(int64(s.Interval/time.Second), 10))
	}
	return query
}

// advance moves After behind the line.
func (s *Stream) advance(l StreamLine) error {
	if l.Type == api.Hello {
		at, err := api.ParseCursor(l.Cursor)
		s.After = at
		return err
	}
	s.After.Advance(l.Source, l.ID, journal.Line{Seq: l.Seq, Type: l.Type, JSON: l.JSON}, s.follows)
	return nil
}

// Stream yields all that happens in the sandbox, until it ends. Where the stream is
// cut it goes on by itself; each connection begins with an api.Hello.
func (c *Client) Stream(ctx context.Context, s *Stream) iter.Seq2[StreamLine, error] {
	return func(yield func(StreamLine, error) bool) {
		again := func(ctx context.Context) (*http.Response, error) {
			return c.send(ctx, request{method: "GET", path: "/v1/stream", query: s.query()})
		}
		for l, err := range c.follow(ctx, nil, again) {
			told := StreamLine{JSON: l.raw}
			if err == nil {
				err = json.Unmarshal(l.raw, &told)
			}
			if err == nil {
				err = s.advance(told)
			}
			if !yield(told, err) || err != nil {
				return
			}
		}
	}
}

// Capabilities tells what can be done in the sandbox, and what cannot, and why.
func (c *Client) Capabilities(ctx context.Context) (api.Capabilities, error) {
	return ask[api.Capabilities](ctx, c, "GET", "/v1/capabilities", nil, nil)
}

// Activity tells whether the sandbox does something, and how long it has not.
func (c *Client) Activity(ctx context.Context) (api.Activity, error) {
	return ask[api.Activity](ctx, c, "GET", "/v1/activity", nil, nil)
}

// Health asks whether the server answers.
func (c *Client) Health(ctx context.Context) (api.Health, error) {
	return ask[api.Health](ctx, c, "GET", "/healthz", nil, nil)
}

// Ready asks whether a run would begin now.
func (c *Client) Ready(ctx context.Context) (api.Health, error) {
	return ask[api.Health](ctx, c, "GET", "/readyz", nil, nil)
}

// OpenAPI returns the OpenAPI document of the server, in YAML.
func (c *Client) OpenAPI(ctx context.Context) ([]byte, error) {
	resp, err := c.send(ctx, request{method: "GET", path: "/openapi.yaml"})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}
