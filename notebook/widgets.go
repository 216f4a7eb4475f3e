package notebook

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/k2sandbox/k2sandbox/executor"
)

// widgetTarget is the comm target of widgets, widgetState the MIME type of their state.
// https://github.com/jupyter-widgets/ipywidgets/blob/main/packages/schema/messages.md
const (
	widgetTarget = "jupyter.widget"
	widgetState  = "application/vnd.jupyter.widget-state+json"
)

// widgets are the models that the kernel has told of, and what a frontend does for
// those of Output widgets: while one captures a cell's output, it has it.
type widgets struct {
	displays displays
	budget   *budget
	models   map[string]*model // by comm id
	hooks    []*model          // those that capture now, innermost last
}

// model is the state of a widget.
type model struct {
	state   map[string]json.RawMessage
	buffers map[string]widgetBuffer // by path

	// Of an Output widget.
	output   bool
	before   []json.RawMessage // what the kernel last said that it shows
	captured *collector        // what it has captured since
	changed  bool              // the kernel does not know its outputs yet
}

// widgetBuffer is a binary value in the state of a widget.
type widgetBuffer struct {
	Data     []byte          `json:"data"` // base64 in JSON
	Encoding string          `json:"encoding"`
	Path     json.RawMessage `json:"path"`
}

func newWidgets(d displays, b *budget) *widgets {
	return &widgets{displays: d, budget: b, models: map[string]*model{}}
}

// comm takes a comm message of the run with that id. What the budget has no room
// for is left out.
func (w *widgets) comm(runID string, c *executor.CommMessage) {
	state := gjson.GetBytes(c.Data, "state")
	if !state.IsObject() { // a custom message, or not a widget's
		return
	}
	m := w.models[c.ID]
	if m == nil {
		if !w.budget.take(int64(outputSize + len(c.ID))) {
			return
		}
		m = &model{state: map[string]json.RawMessage{}, buffers: map[string]widgetBuffer{}}
		w.models[strings.Clone(c.ID)] = m
	}
	state.ForEach(func(key, value gjson.Result) bool {
		name := strings.Clone(key.String())
		if old, known := m.state[name]; w.room(name, known, len(value.Raw)-len(old)) {
			m.state[name] = json.RawMessage(value.Raw)
		}
		return true
	})
	for i, path := range gjson.GetBytes(c.Data, "buffer_paths").Array() {
		name := strings.Clone(path.Raw)
		if old, known := m.buffers[name]; i < len(c.Buffers) && w.room(name, known, len(c.Buffers[i])-len(old.Data)) {
			m.buffers[name] = widgetBuffer{c.Buffers[i], "base64", json.RawMessage(name)}
		}
	}
	if c.Type == "comm_open" && c.Target == widgetTarget {
		m.output = string(m.state["_model_module"]) == `"@jupyter-widgets/output"` && string(m.state["_model_name"]) == `"OutputModel"`
	}
	if m.output {
		w.told(m, runID, state)
	}
}

// room reports whether there is room for n bytes more under a name, and for the name
// where it is not known.
func (w *widgets) room(name string, known bool, n int) bool {
	if !known {
		n += 2*len(name) + outputSize/4
	}
	return w.budget.take(int64(n))
}

// told takes what the kernel says of an Output widget: what it shows, and whether it
// captures what the run shows from now on.
func (w *widgets) told(m *model, runID string, state gjson.Result) {
	if m.captured == nil {
		m.captured = newCollector(w.displays, false, w.budget)
	}
	if outputs := state.Get("outputs"); outputs.IsArray() {
		m.captured.wipe()
		m.captured.cleared, m.changed, m.before = false, false, nil
		for _, o := range outputs.Array() {
			m.before = append(m.before, json.RawMessage(o.Raw))
		}
	}
	switch msgID := state.Get("msg_id"); {
	case !msgID.Exists():
	case msgID.String() == "":
		w.release(m)
	case msgID.String() == runID:
		w.hooks = append(w.hooks, m)
	}
}

// release ends the widget's innermost capture.
func (w *widgets) release(m *model) {
	for i, hook := range slices.Backward(w.hooks) {
		if hook == m {
			w.hooks = slices.Delete(w.hooks, i, i+1)
			return
		}
	}
}

// take takes an event that belongs to the widget that captures now, and reports
// whether there is one.
func (w *widgets) take(e executor.Event) bool {
	switch e.Type {
	case executor.Stdout, executor.Stderr, executor.Result, executor.Error, executor.Clear:
	default:
		return false
	}
	if len(w.hooks) == 0 {
		return false
	}
	m := w.hooks[len(w.hooks)-1]
	e.DisplayID = "" // updates reach what cells show
	m.captured.take(e)
	if m.captured.cleared {
		m.before = nil
	}
	m.changed = true
	return true
}

// changes ends the captures of a run, and returns what has to be sent to the
// kernel's ends of the widgets, by comm id.
func (w *widgets) changes() map[string]json.RawMessage {
	w.hooks = nil
	sent := map[string]json.RawMessage{}
	for id, m := range w.models {
		if !m.changed {
			continue
		}
		outputs := slices.Concat([]json.RawMessage{}, m.before)
		for _, o := range m.captured.outputs {
			outputs = append(outputs, o.document())
		}
		shown := json.RawMessage(encode(outputs))
		if !json.Valid(shown) { // nested deeper than JSON may be
			shown = json.RawMessage("[]")
		}
		m.state["outputs"] = shown
		m.changed = false
		sent[id] = json.RawMessage(encode(map[string]any{
			"method": "update", "buffer_paths": []string{},
			"state": map[string]json.RawMessage{"outputs": m.state["outputs"]},
		}))
	}
	return sent
}

// save puts the state of all widgets into the notebook's metadata, if there are any.
func (w *widgets) save(nb *Notebook) {
	states := map[string]any{}
	for id, m := range w.models {
		if m.state["_model_name"] == nil {
			continue
		}
		one := map[string]any{"state": m.state}
		for _, name := range []string{"model_name", "model_module", "model_module_version"} {
			one[name] = m.state["_"+name]
		}
		if len(m.buffers) > 0 {
			var buffers []widgetBuffer
			for _, path := range slices.Sorted(maps.Keys(m.buffers)) {
				buffers = append(buffers, m.buffers[path])
			}
			one["buffers"] = buffers
		}
		states[id] = one
	}
	if len(states) > 0 {
		nb.Metadata.Set("widgets", map[string]any{
			widgetState: map[string]any{"state": states, "version_major": 2, "version_minor": 0},
		})
	}
}
