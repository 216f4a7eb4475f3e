package inside

import (
	"context"
	"encoding/json"
	"io"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/server"
)

// getOutput answers with a part of the text that a run wrote so far: stdout and
// stderr together, in the order of its events.
func (h *handlers) getOutput(w http.ResponseWriter, r *http.Request) error {
	e, err := h.box.Execution(server.Param(r, "eid"))
	if err != nil {
		return err
	}
	want, err := parseRange(r)
	if err != nil {
		return err
	}
	out := output{r.Context(), e, e.Summary().Events}
	total, truncated, err := out.measure()
	if err != nil {
		return err
	}
	w.Header().Set("X-Output-Total", strconv.FormatInt(total, 10))
	if truncated > 0 {
		w.Header().Set("X-Output-Truncated", strconv.FormatInt(truncated, 10))
	}
	from, to, err := want.bounds(total)
	if err != nil {
		return err
	}
	if from, err = out.boundary(from, total, true); err != nil {
		return err
	}
	if to, err = out.boundary(to, total, want.kind == middle); err != nil {
		return err
	}
	return out.write(w, r.Method == http.MethodHead, from, to)
}

// span is a part of a text, in bytes.
type span struct {
	kind spanKind
	a, b int64 // of a range; a alone of a head or tail
}

type spanKind int

const (
	all spanKind = iota
	head
	tail
	middle
)

const unbounded = 1 << 62

// parseRange reads the query parameter range: head:N, tail:N, A-B or A-.
func parseRange(r *http.Request) (span, error) {
	given, ok := r.URL.Query()["range"]
	if !ok {
		return span{}, nil
	}
	text := given[0]
	wrong := api.Invalid("range", "expected head:N, tail:N, A-B or A-, in bytes, got %q", text)
	if n, ok := strings.CutPrefix(text, "head:"); ok {
		return parseSpan(head, n, "0", wrong)
	}
	if n, ok := strings.CutPrefix(text, "tail:"); ok {
		return parseSpan(tail, n, "0", wrong)
	}
	a, b, ok := strings.Cut(text, "-")
	if !ok {
		return span{}, wrong
	}
	if b == "" {
		b = strconv.Itoa(unbounded)
	}
	s, err := parseSpan(middle, a, b, wrong)
	if err == nil && s.a > s.b {
		return span{}, api.Invalid("range", "ends before it begins: %q", text)
	}
	return s, err
}

func parseSpan(kind spanKind, a, b string, wrong error) (span, error) {
	first, err := strconv.ParseUint(a, 10, 63)
	if err != nil {
		return span{}, wrong
	}
	second, err := strconv.ParseUint(b, 10, 63)
	if err != nil {
		return span{}, wrong
	}
	return span{kind, int64(first), int64(second)}, nil
}

// bounds returns the bytes that are asked for, from the first to before the second.
func (s span) bounds(total int64) (int64, int64, error) {
	switch {
	case s.kind == head:
		return 0, min(s.a, total), nil
	case s.kind == tail:
		return max(total-s.a, 0), total, nil
	case s.kind == middle && s.a > total:
		return 0, 0, api.Errorf(api.RangeInvalid, "range: begins at byte %d, but the output has %d bytes", s.a, total)
	case s.kind == middle:
		return s.a, min(s.b, total-1) + 1, nil
	}
	return 0, total, nil
}

// output is the text of the events of a run up to number last.
type output struct {
	ctx  context.Context // of the request that it is made for
	run  *executor.Execution
	last int64
}

// text is what there is to know of an event that is text, or tells of text that is missing.
type text struct {
	Text  string `json:"text"`
	Bytes int64  `json:"bytes"` // that are missing
}

// texts yields the texts of the events, in order.
func (o output) texts() iter.Seq2[text, error] {
	return func(yield func(text, error) bool) {
		if o.last == 0 {
			return // there is nothing yet, and nothing to wait for
		}
		for line, err := range o.run.Lines(o.ctx, 0) {
			if err != nil {
				yield(text{}, err)
				return
			}
			if line.Type == executor.Stdout || line.Type == executor.Stderr || line.Type == executor.Truncated {
				var t text
				err := json.Unmarshal(line.JSON, &t)
				if !yield(t, err) {
					return
				}
			}
			if line.Seq >= o.last {
				return
			}
		}
	}
}

// measure returns how many bytes there are, and how many were left out of the log.
func (o output) measure() (total, truncated int64, err error) {
	for t, err := range o.texts() {
		if err != nil {
			return 0, 0, err
		}
		total += int64(len(t.Text))
		truncated += t.Bytes
	}
	return total, truncated, nil
}

// boundary returns the nearest place from at on, up or down, where a character begins.
func (o output) boundary(at, total int64, up bool) (int64, error) {
	if at == 0 || at == total {
		return at, nil
	}
	step := int64(-1)
	if up {
		step = 1
	}
	start := int64(0)
	for t, err := range o.texts() {
		if err != nil {
			return 0, err
		}
		if end := start + int64(len(t.Text)); at >= end {
			start = end
			continue
		}
		for at-start < int64(len(t.Text)) && !utf8.RuneStart(t.Text[at-start]) {
			at += step
		}
		return at, nil
	}
	return at, nil
}

// write answers with the bytes from the first to before the second.
func (o output) write(w http.ResponseWriter, headOnly bool, from, to int64) error {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.FormatInt(to-from, 10))
	h.Set("X-Output-Start", strconv.FormatInt(from, 10))
	w.WriteHeader(http.StatusOK)
	if headOnly {
		return nil
	}
	at := int64(0)
	for t, err := range o.texts() {
		if at >= to {
			return nil
		}
		if err != nil {
			panic(http.ErrAbortHandler) // what the head promised will not come
		}
		end := at + int64(len(t.Text))
		if end > from {
			if _, err := io.WriteString(w, t.Text[max(from-at, 0):min(to, end)-at]); err != nil {
				return nil // the client is gone
			}
		}
		at = end
	}
	return nil
}
