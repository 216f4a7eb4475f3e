package executor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/tidwall/gjson"

	"github.com/k2sandbox/k2sandbox/journal"
)

// Line is an event as one line of JSON, without the line end.
type Line = journal.Line

// DecodeLine returns the event of a line.
func DecodeLine(l Line) (Event, error) {
	var e Event
	if err := json.Unmarshal(l.JSON, &e); err != nil {
		return Event{}, fmt.Errorf("cannot decode event: %w", err)
	}
	return e, nil
}

// MarshalJSON returns the event's line.
func (e Event) MarshalJSON() ([]byte, error) { return e.AppendJSON(nil), nil }

// AppendLine is for a journal: AppendJSON, with a number and a time.
func (e *Event) AppendLine(dst []byte, seq int64, at time.Time) []byte {
	e.Seq, e.Time = seq, at
	return e.AppendJSON(dst)
}

// Piece is for a journal: pieces of stdout and stderr may be left out.
func (e *Event) Piece() (stream string, size int) {
	switch {
	case e.Type == Comm:
		return "", e.Comm.size()
	case e.Type != Stdout && e.Type != Stderr:
		return "", len(e.Data.Raw())
	case e.text != nil:
		return string(e.Type), len(e.text) - len(`""`)
	}
	return string(e.Type), len(e.Text)
}

// AppendJSON appends the event as one line of JSON, without the line end, to
// dst. It writes every field that belongs to the event's type, in one order,
// and the kernel's own JSON (text, data, metadata) as the kernel wrote it.
func (e Event) AppendJSON(dst []byte) []byte {
	o := object{journal.AppendHead(dst, e.Seq, e.Type, e.Time)}
	o.optional("execution_id", e.ExecutionID)
	o.optional("context", e.Context)
	switch e.Type {
	case Start:
		o.count(e.ExecutionCount)
	case Stdout, Stderr:
		if e.text != nil {
			o.raw("text", e.text)
		} else {
			o.string("text", e.Text)
		}
	case Result:
		o.bool("is_main", e.IsMain)
		o.optional("display_id", e.DisplayID)
		o.bundle("data", e.Data.Raw())
		o.bundle("metadata", e.Metadata.Raw())
	case Update:
		o.string("display_id", e.DisplayID)
		o.bundle("data", e.Data.Raw())
		o.bundle("metadata", e.Metadata.Raw())
	case Clear:
		o.bool("wait", e.Wait)
	case Input:
		o.string("prompt", e.Prompt)
		o.bool("password", e.Password)
	case Error:
		o.string("name", e.Name)
		o.string("value", e.Value)
		o.strings("traceback", e.Traceback)
	case Comm:
		raw, _ := json.Marshal(e.Comm) // its data is valid JSON, as wire.Decode guarantees
		o.raw("comm", raw)
	case Truncated:
		o.string("stream", e.Stream)
		o.int("bytes", e.Bytes)
	case End:
		o.end(e)
	}
	return append(o.b, '}')
}

// object builds a JSON object member by member.
type object struct{ b []byte }

func (o *object) key(k string) {
	if o.b[len(o.b)-1] != '{' {
		o.b = append(o.b, ',')
	}
	o.b = append(o.b, '"')
	o.b = append(o.b, k...)
	o.b = append(o.b, '"', ':')
}

func (o *object) raw(k string, v []byte) {
	o.key(k)
	n := len(o.b)
	o.b = append(o.b, v...)
	// A line end can only be white space between JSON tokens here; it would cut the line in two.
	for _, end := range []byte("\n\r") {
		for i := bytes.IndexByte(o.b[n:], end); i >= 0; i = bytes.IndexByte(o.b[n:], end) {
			o.b[n+i] = ' '
		}
	}
}

func (o *object) string(k, v string)    { o.key(k); o.b = gjson.AppendJSONString(o.b, v) }
func (o *object) int(k string, v int64) { o.key(k); o.b = strconv.AppendInt(o.b, v, 10) }
func (o *object) bool(k string, v bool) { o.key(k); o.b = strconv.AppendBool(o.b, v) }
func (o *object) float(k string, v float64) {
	o.key(k)
	o.b = strconv.AppendFloat(o.b, v, 'f', 6, 64)
}

func (o *object) optional(k, v string) {
	if v != "" {
		o.string(k, v)
	}
}

func (o *object) count(v *int) {
	if v == nil {
		o.raw("execution_count", []byte("null"))
	} else {
		o.int("execution_count", int64(*v))
	}
}

func (o *object) bundle(k string, raw []byte) {
	if len(raw) == 0 {
		raw = []byte("{}")
	}
	o.raw(k, raw)
}

func (o *object) strings(k string, vs []string) {
	o.key(k)
	o.b = append(o.b, '[')
	for i, v := range vs {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		o.b = gjson.AppendJSONString(o.b, v)
	}
	o.b = append(o.b, ']')
}

func (o *object) end(e Event) {
	o.string("status", string(e.Status))
	o.bool("state_lost", e.StateLost)
	if e.OutputLost {
		o.bool("output_lost", true)
	}
	if e.Exit != nil {
		raw, _ := json.Marshal(e.Exit) // a struct of an int, a bool and strings
		o.raw("exit", raw)
	}
	o.count(e.ExecutionCount)
	o.float("duration", e.Duration)
	if e.CPUTime > 0 {
		o.float("cpu_time", e.CPUTime)
	}
	if e.MemoryPeak > 0 {
		o.int("memory_peak", e.MemoryPeak)
	}
}
