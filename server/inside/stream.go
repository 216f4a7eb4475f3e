package inside

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/files"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/server"
)

// stream answers with all that happens in the sandbox, over one connection.
func (h *timelineHandlers) stream(w http.ResponseWriter, r *http.Request) error {
	options, err := streamOptions(r)
	if err != nil {
		return err
	}
	cursor, err := h.cursor(r)
	if err != nil {
		return err
	}
	if path, ok := r.URL.Query()["watch"]; ok {
		if options.Watch, err = h.box.Files().Watch(r.Context(), path[0], true); err != nil {
			return fault("watch", err)
		}
		defer options.Watch.Close()
	}
	defer connected(h.box, w, r, api.TimelineEvent{Client: api.StreamClient})()
	sse := server.WantsSSE(r)
	_, err = server.Follow(w, r, h.o, 0, func(ctx context.Context, _ int64) iter.Seq2[executor.Line, error] {
		return func(yield func(executor.Line, error) bool) {
			if !yield(helloLine(cursor), nil) {
				return
			}
			if options.Watch != nil && !yield(missedLine(cursor), nil) {
				return
			}
			for line, err := range h.box.Stream(ctx, cursor, options) {
				if err != nil {
					yield(executor.Line{}, err)
					return
				}
				told := tagged(line)
				if cursor.Advance(line.Source, line.ID, line.Line, options.Follows); sse {
					told.ID = cursor.String()
				}
				if !yield(told, nil) {
					return
				}
			}
		}
	})
	return err
}

// cursor returns where the client stands. What it has from before a restart is worth
// nothing: it begins anew, and the hello tells.
func (h *timelineHandlers) cursor(r *http.Request) (api.Cursor, error) {
	field, after := "after", "0"
	if given, ok := r.URL.Query()["after"]; ok {
		after = given[0]
	}
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		field, after = "Last-Event-ID", id
	}
	now := h.box.Now()
	if after == "now" {
		return now, nil
	}
	c, err := api.ParseCursor(after)
	if err != nil {
		return c, api.Invalid(field, "%v", err)
	}
	if c.Epoch != "" && c.Epoch != now.Epoch {
		return api.Cursor{Epoch: now.Epoch, Logs: map[string]int64{}}, nil
	}
	if c.Timeline > now.Timeline {
		return c, api.Invalid(field, "the timeline has only %d events, got %d", now.Timeline, c.Timeline)
	}
	for id, seq := range c.Logs {
		if newest, ok := h.box.Newest(id); ok && seq > newest {
			return c, api.Invalid(field, "%s has only %d events, got %d", id, newest, seq)
		}
	}
	c.Epoch = now.Epoch
	return c, nil
}

// streamOptions reads what the stream is to have beside the timeline.
func streamOptions(r *http.Request) (agent.StreamOptions, error) {
	var o agent.StreamOptions
	interval, err := server.QueryInt(r, "interval", 5, 1, 3600)
	if err != nil {
		return o, err
	}
	include, ok := r.URL.Query()["include"]
	if !ok {
		include = []string{"executions"}
	}
	for part := range strings.SplitSeq(include[0], ",") {
		switch part {
		case "timeline": // is always there
		case "executions":
			o.Executions = true
		case "processes":
			o.Processes = true
		case "metrics":
			o.Metrics = time.Duration(interval) * time.Second
		default:
			return o, api.Invalid("include", `expected a list of "timeline", "executions", "processes" and "metrics", got %q`, include[0])
		}
	}
	return o, nil
}

// tagged returns the line with what says which log it is of. Its type is left out
// where the log ends, which is not the stream's end.
func tagged(line agent.StreamLine) executor.Line {
	if line.Err != nil {
		line.JSON = server.EndLine(line.Seq, api.Cut, api.Errorf(api.Gone, "%v", line.Err)).JSON
	}
	raw := append([]byte(`{"source":"`), line.Source...)
	raw = append(raw, '"', ',')
	if line.ID != "" {
		raw = append(append(append(raw, `"id":"`...), line.ID...), '"', ',')
	}
	line.JSON = append(raw, line.JSON[1:]...)
	if line.Source != api.FromTimeline {
		line.Type = ""
	}
	return line.Line
}

// missedLine tells that the client has to look at the directory that is watched: the
// watch has begun now.
func missedLine(c api.Cursor) executor.Line {
	raw := files.Event{Type: files.Overflow}.AppendLine(nil, 0, time.Now())
	return tagged(agent.StreamLine{Line: executor.Line{Type: files.Overflow, JSON: raw, ID: c.String()}, Source: api.FromWatch})
}

func helloLine(c api.Cursor) executor.Line {
	raw, _ := json.Marshal(api.StreamHello{
		Source: api.FromStream, Type: api.Hello, Time: journal.Time{Time: time.Now()}, Epoch: c.Epoch, Cursor: c.String(),
	})
	return executor.Line{Type: api.Hello, JSON: raw, ID: c.String()}
}
