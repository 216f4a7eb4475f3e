package notebook

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/mime"
)

// collector makes outputs of the events of one cell's run.
type collector struct {
	outputs  []Output
	displays displays
	coalesce bool // one output for each stream, wherever its pieces stand
	budget   *budget
	taken    int64 // of the budget
	full     bool  // an output says that something was left out
	count    *int
	clear    bool               // before the next output
	cleared  bool               // at least once
	shown    []string           // display ids of outputs
	streams  map[string]*stream // by name
}

// stream is an output that grows.
type stream struct {
	index int
	text  strings.Builder
}

func newCollector(d displays, coalesce bool, b *budget) *collector {
	return &collector{displays: d, coalesce: coalesce, budget: b, streams: map[string]*stream{}}
}

// take turns an event into what it means for the outputs.
func (c *collector) take(e executor.Event) {
	switch e.Type {
	case executor.Start:
		c.count = e.ExecutionCount
	case executor.Stdout, executor.Stderr:
		c.write(string(e.Type), e.Text)
	case executor.Truncated:
		c.write(e.Stream, fmt.Sprintf("\n[%d bytes of %s were left out]\n", e.Bytes, e.Stream))
	case executor.Result:
		c.display(e)
	case executor.Update:
		c.displays.update(e.DisplayID, e.Data, e.Metadata)
	case executor.Error:
		c.fail(CellError{e.Name, e.Value, e.Traceback})
	case executor.Clear:
		if c.clear = e.Wait; !e.Wait {
			c.wipe()
		}
	}
}

// wipe removes all outputs.
func (c *collector) wipe() {
	c.budget.left += c.taken
	for _, id := range c.shown {
		c.displays.forget(id, c)
	}
	*c = collector{displays: c.displays, coalesce: c.coalesce, budget: c.budget, count: c.count, cleared: true, streams: map[string]*stream{}}
}

// before makes room for an output, or a piece of one, of n bytes. Where there is
// none it says so, once, and the output is left out.
func (c *collector) before(n int) bool {
	if c.clear {
		c.wipe()
	}
	if c.budget.take(int64(n)) {
		c.taken += int64(n)
		return true
	}
	if !c.full {
		c.full = true
		c.outputs = append(c.outputs, Output{Type: Stream, Name: "stderr", Text: c.budget.refusal()})
	}
	return false
}

// write appends to a stream: to the output before, where that is of the same
// stream, or wherever it is.
func (c *collector) write(name, text string) {
	if !c.before(len(text)) {
		return
	}
	s := c.streams[name]
	if s == nil || !c.coalesce && s.index != len(c.outputs)-1 {
		if !c.before(outputSize) {
			return
		}
		s = &stream{index: len(c.outputs)}
		c.streams[name] = s
		c.outputs = append(c.outputs, Output{Type: Stream, Name: name})
	}
	s.text.WriteString(text)
	c.outputs[s.index].Text = s.text.String() // shares the builder's bytes
}

func (c *collector) display(e executor.Event) {
	if e.DisplayID != "" {
		c.displays.update(e.DisplayID, e.Data, e.Metadata)
	}
	if !c.before(outputSize + 2*len(e.DisplayID) + size(e.Data, e.Metadata)) {
		return
	}
	o := Output{Type: DisplayData, Data: orEmpty(e.Data), Metadata: orEmpty(e.Metadata)}
	if e.IsMain {
		o.Type, o.ExecutionCount = ExecuteResult, c.count
	}
	if e.DisplayID != "" {
		c.displays[e.DisplayID] = append(c.displays[e.DisplayID], place{c, len(c.outputs)})
		c.shown = append(c.shown, e.DisplayID)
	}
	c.outputs = append(c.outputs, o)
}

// replace changes what an output shows, if there is room for it.
func (c *collector) replace(index int, data, metadata mime.Bundle) {
	o := &c.outputs[index]
	more := int64(size(data, metadata) - size(o.Data, o.Metadata))
	if c.budget.take(more) {
		c.taken += more
		o.Data, o.Metadata = orEmpty(data), orEmpty(metadata)
	}
}

// fail adds the output of an error.
func (c *collector) fail(e CellError) {
	n := outputSize + len(e.Name) + len(e.Value)
	for _, line := range e.Traceback {
		n += len(line)
	}
	if c.before(n) {
		c.outputs = append(c.outputs, Output{Type: ErrorOutput, Ename: e.Name, Evalue: e.Value, Traceback: e.Traceback})
	}
}

func size(data, metadata mime.Bundle) int { return len(data.Raw()) + len(metadata.Raw()) }

func orEmpty(b mime.Bundle) mime.Bundle {
	if b.IsZero() {
		return mime.New([]byte("{}"))
	}
	return b
}

// finish does to coalesced streams what a terminal does with \b and \r, and puts
// stdout before a stderr that it follows, for their order is no kernel's promise.
func (c *collector) finish() {
	if !c.coalesce {
		return
	}
	for _, s := range c.streams {
		c.outputs[s.index].Text = typedOver(c.outputs[s.index].Text)
	}
	for i := 1; i < len(c.outputs); i++ {
		a, b := &c.outputs[i-1], &c.outputs[i]
		if a.Type == Stream && b.Type == Stream && a.Name == "stderr" && b.Name == "stdout" {
			*a, *b = *b, *a
		}
	}
}

// typedOver returns text without what \b and \r take back: a backspace the character
// before it in its line, a carriage return the line so far, unless it ends it.
func typedOver(text string) string {
	if !strings.ContainsAny(text, "\b\r") {
		return text
	}
	kept := make([]byte, 0, len(text))
	line := 0 // where in kept the line begins
	for i := range len(text) {
		switch b := text[i]; {
		case b == '\n':
			kept = append(kept, b)
			line = len(kept)
		case b == '\b' && len(kept) > line:
			_, n := utf8.DecodeLastRune(kept[line:])
			kept = kept[:len(kept)-n]
		case b == '\r' && i+1 < len(text) && text[i+1] != '\n':
			kept = kept[:line]
		default:
			kept = append(kept, b)
		}
	}
	return string(kept)
}
