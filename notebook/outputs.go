package notebook

import (
	"encoding/json"
	"iter"
	"slices"

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

// place is an output of a cell.
type place struct {
	in    *collector
	index int
}

// update changes what every place of a display id shows.
func (d displays) update(id string, data, metadata mime.Bundle) {
	for _, p := range d[id] {
		p.in.replace(p.index, data, metadata)
	}
}

// forget removes the places of a display id in a cell, whose outputs were cleared.
func (d displays) forget(id string, in *collector) {
	d[id] = slices.DeleteFunc(d[id], func(p place) bool { return p.in == in })
	if len(d[id]) == 0 {
		delete(d, id)
	}
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
