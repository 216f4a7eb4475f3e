package notebook

import (
	"cmp"
	"encoding/json"
	"fmt"
	"iter"
	"strings"

	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/mime"
)

// Outputs returns the outputs of a cell that ran, from the events of its run
// (executor.Execution.Events), as a frontend would show them at the end: pieces of a
// stream that follow each other are one, displays are up to date, what was cleared
// is gone. It returns what it has, and the first error of the events.
func Outputs(events iter.Seq2[executor.Event, error]) ([]Output, error) {
	c := newCollector(displays{}, false, newBudget(0))
	for e, err := range events {
		if err != nil {
			return c.outputs, err
		}
		c.take(e)
	}
	return c.outputs, nil
}

// displays tells where each display id is shown, over all cells of a run.
type displays map[string][]place

// place is an output of a cell that a later clear has not removed.
type place struct {
	in    *collector
	index int
	age   int
}

// update changes what every place of a display id shows.
func (d displays) update(id string, data, metadata mime.Bundle) {
	for _, p := range d[id] {
		if p.age == p.in.age {
			p.in.outputs[p.index].Data, p.in.outputs[p.index].Metadata = data, metadata
		}
	}
}

// budget bounds the bytes of outputs that a notebook takes in while it runs.
type budget struct{ left, all int64 }

// newBudget returns a budget of n bytes, where 0 stands for 256 MiB.
func newBudget(n int64) *budget {
	n = cmp.Or(n, 256<<20)
	return &budget{left: n, all: n}
}

// collector makes outputs of the events of one cell's run.
type collector struct {
	outputs  []Output
	displays displays
	coalesce bool // one output for each stream, wherever its pieces stand
	budget   *budget
	count    *int
	clear    bool               // before the next output
	age      int                // how often the outputs were cleared
	streams  map[string]*stream // by name
}

// stream is an output that grows.
type stream struct {
	index int
	text  strings.Builder
	full  bool // says so already
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
		c.add(Output{Type: ErrorOutput, Ename: e.Name, Evalue: e.Value, Traceback: e.Traceback})
	case executor.Clear:
		if c.clear = e.Wait; !e.Wait {
			c.wipe()
		}
	}
}

// wipe removes all outputs.
func (c *collector) wipe() {
	c.outputs, c.clear = nil, false
	c.streams = map[string]*stream{}
	c.age++
}

func (c *collector) add(o Output) {
	if c.clear {
		c.wipe()
	}
	c.outputs = append(c.outputs, o)
}

// write appends to a stream: to the output before, where that is of the same
// stream, or wherever it is.
func (c *collector) write(name, text string) {
	if c.clear {
		c.wipe()
	}
	s := c.streams[name]
	if s == nil || !c.coalesce && s.index != len(c.outputs)-1 {
		s = &stream{index: len(c.outputs)}
		c.streams[name] = s
		c.outputs = append(c.outputs, Output{Type: Stream, Name: name})
	}
	if s.full {
		return
	}
	if !c.budget.take(len(text)) {
		text, s.full = c.budget.refusal(), true
	}
	s.text.WriteString(text)
	c.outputs[s.index].Text = s.text.String() // shares the builder's bytes
}

func (c *collector) display(e executor.Event) {
	if e.DisplayID != "" {
		c.displays.update(e.DisplayID, e.Data, e.Metadata)
	}
	o := Output{Type: DisplayData, Data: orEmpty(e.Data), Metadata: orEmpty(e.Metadata)}
	if e.IsMain {
		o.Type, o.ExecutionCount = ExecuteResult, c.count
	}
	if !c.budget.take(len(e.Data.Raw())) {
		o.Data = mime.New([]byte(`{"text/plain":` + encode(c.budget.refusal()) + `}`))
	}
	c.add(o)
	if e.DisplayID != "" {
		c.displays[e.DisplayID] = append(c.displays[e.DisplayID], place{c, len(c.outputs) - 1, c.age})
	}
}

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
	var kept []rune
	line := 0 // where in kept the line begins
	runes := []rune(text)
	for i, r := range runes {
		switch {
		case r == '\n':
			kept = append(kept, r)
			line = len(kept)
		case r == '\b' && len(kept) > line:
			kept = kept[:len(kept)-1]
		case r == '\r' && i+1 < len(runes) && runes[i+1] != '\n':
			kept = kept[:line]
		default:
			kept = append(kept, r)
		}
	}
	return string(kept)
}

// take takes n bytes, and reports whether they were there.
func (b *budget) take(n int) bool {
	b.left -= int64(n)
	return b.left >= 0
}

func (b *budget) refusal() string {
	return fmt.Sprintf("\n[left out: the outputs of this notebook are longer than %d bytes]\n", b.all)
}

// document returns the output as nbformat has it in memory, with texts in one piece.
func (o *Output) document() json.RawMessage {
	doc := `{"output_type":` + encode(o.Type)
	add := func(key string, value any) { doc += `,"` + key + `":` + encode(value) }
	switch o.Type {
	case Stream:
		add("name", o.Name)
		add("text", o.Text)
	case ErrorOutput:
		add("ename", o.Ename)
		add("evalue", o.Evalue)
		add("traceback", o.Traceback)
	case ExecuteResult, DisplayData:
		add("metadata", o.Metadata)
		add("data", o.Data)
	}
	if o.Type == ExecuteResult {
		add("execution_count", o.ExecutionCount)
	}
	return json.RawMessage(doc + "}")
}
