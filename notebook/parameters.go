package notebook

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/tidwall/gjson"
)

// The tags that papermill gives a meaning.
const (
	parametersTag = "parameters"
	injectedTag   = "injected-parameters"
)

// Parameter is a value to run a notebook with. Value is nil, a bool, string, any
// integer, float64 or json.Number; or a list of such values, []any; or a mapping:
// []Parameter in its order, or map[string]any. A json.RawMessage and an Object
// stand for what they hold, numbers as they are spelled.
type Parameter struct {
	Name  string
	Value any
}

// Parameterize puts a cell into the notebook that sets the values, as papermill
// does: tagged injected-parameters, in place of the one that is there, else after
// the first cell tagged parameters, else, with a warning, at the top. What it is
// written in follows from the name of the kernelspec, else from the language; where
// one is empty, from the notebook's metadata, and Python where these do not tell
// either. Names that are none in the language, and values that it cannot express,
// are errors; parameters that the notebook does not declare are warnings. The
// values are noted in the metadata: papermill.parameters.
//
// Of equal names the last counts. Without values nothing changes.
func (n *Notebook) Parameterize(values []Parameter, language, kernelName string) (warnings []string, err error) {
	if len(values) == 0 {
		return nil, nil
	}
	values = latest(values)
	d, err := n.dialect(language, kernelName)
	if err != nil {
		return nil, err
	}
	source, err := d.assignments(values)
	if err != nil {
		return nil, err
	}
	cell := n.NewCell(Code, source)
	cell.Metadata.Set("tags", []string{injectedTag})
	tagged, injected := n.indexOf(parametersTag), n.indexOf(injectedTag)
	switch {
	case injected >= 0:
		cell.ID = n.Cells[injected].ID
		n.Cells[injected] = cell
	case tagged >= 0:
		n.Cells = slices.Insert(n.Cells, tagged+1, cell)
	default:
		warnings = append(warnings, "no cell is tagged parameters: the parameters are set at the top")
		n.Cells = slices.Insert(n.Cells, 0, cell)
	}
	n.note("parameters", plain(values))
	return append(warnings, n.unknown(values)...), nil
}

// latest returns the last of the values of each name, where its first one was.
func latest(values []Parameter) []Parameter {
	var kept []Parameter
	places := map[string]int{}
	for _, v := range values {
		if i, ok := places[v.Name]; ok {
			kept[i] = v
			continue
		}
		places[v.Name] = len(kept)
		kept = append(kept, v)
	}
	return kept
}

func (n *Notebook) indexOf(tag string) int {
	return slices.IndexFunc(n.Cells, func(c *Cell) bool { return c.HasTag(tag) })
}

// unknown warns of values that the notebook does not declare, if it declares any.
func (n *Notebook) unknown(values []Parameter) (warnings []string) {
	declared, err := n.Parameters()
	if err != nil || n.indexOf(parametersTag) < 0 {
		return nil
	}
	for _, v := range values {
		if !slices.ContainsFunc(declared, func(d Declared) bool { return d.Name == v.Name }) {
			warnings = append(warnings, fmt.Sprintf("the notebook declares no parameter %q", v.Name))
		}
	}
	return warnings
}

// note sets a member of the metadata that papermill keeps of a notebook.
func (n *Notebook) note(key string, value any) {
	var papermill Object
	raw, _ := n.Metadata.Get("papermill")
	_ = json.Unmarshal(raw, &papermill) // what is no object is replaced
	papermill.Set(key, value)
	n.Metadata.Set("papermill", papermill)
}

// mapping returns the members of a value that is a mapping.
func mapping(value any) ([]Parameter, bool) {
	switch v := value.(type) {
	case []Parameter:
		return v, true
	case Object:
		var all []Parameter
		for _, m := range v.members {
			all = append(all, Parameter{m.key, json.RawMessage(m.value)})
		}
		return latest(all), true
	case map[string]any:
		all := []Parameter{}
		for key, value := range v {
			all = append(all, Parameter{key, value})
		}
		slices.SortFunc(all, func(a, b Parameter) int { return strings.Compare(a.Name, b.Name) })
		return all, true
	}
	return nil, false
}

// open returns the value that JSON stands for; other values as they are.
func open(value any) any {
	raw, ok := value.(json.RawMessage)
	if !ok {
		return value
	}
	v := gjson.ParseBytes(raw)
	switch {
	case v.IsObject():
		return Object{members: membersOf(v, true)}
	case v.IsArray():
		items := []any{}
		for _, item := range v.Array() {
			items = append(items, json.RawMessage(item.Raw))
		}
		return items
	case v.Type == gjson.Number:
		return json.Number(v.Raw)
	case v.Type == gjson.String:
		return unquote(v.Raw)
	}
	return v.Value()
}

// plain returns a value as JSON can have it: NaN and infinities are null.
func plain(value any) any {
	if members, ok := mapping(value); ok {
		var o Object
		for _, m := range members {
			o.members = append(o.members, member{key: m.Name, name: quote(m.Name), value: encode(plain(m.Value)), fresh: true})
		}
		return o
	}
	switch v := value.(type) {
	case []any:
		items := make([]any, len(v))
		for i, item := range v {
			items[i] = plain(item)
		}
		return items
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil
		}
		return json.Number(pythonFloat(v))
	}
	return value
}
