package notebook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/k2sandbox/k2sandbox/mime"
)

// valid returns raw as valid JSON, or tells where it is not.
func valid(raw []byte) (string, error) {
	raw = bytes.TrimPrefix(raw, []byte("\ufeff"))
	if len(bytes.TrimSpace(raw)) == 0 {
		return "", errors.New("it is empty")
	}
	if !utf8.Valid(raw) {
		return "", errors.New("it is not UTF-8")
	}
	if !json.Valid(raw) {
		raw = withoutNaN(raw)
	}
	var syntax *json.SyntaxError
	if err := json.Unmarshal(raw, new(json.RawMessage)); errors.As(err, &syntax) {
		before := raw[:max(syntax.Offset-1, 0)]
		line := bytes.Count(before, []byte("\n")) + 1
		column := utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
		return "", fmt.Errorf("line %d, column %d: %w", line, column, err)
	}
	return string(raw), nil
}

// withoutNaN puts null where Python's json writes what JSON has no word for.
func withoutNaN(raw []byte) []byte {
	words := [][]byte{[]byte("NaN"), []byte("-Infinity"), []byte("Infinity")}
	var b bytes.Buffer
	quoted := false
next:
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '\\' && quoted && i+1 < len(raw):
			b.WriteByte(c)
			i++
		case c == '"':
			quoted = !quoted
		case !quoted:
			for _, word := range words {
				if bytes.HasPrefix(raw[i:], word) {
					b.WriteString("null")
					i += len(word) - 1
					continue next
				}
			}
		}
		b.WriteByte(raw[i])
	}
	return b.Bytes()
}

// origin is what an object was read from: its keys in order, and their values.
type origin struct {
	keys   []string
	values map[string]string
}

func (o *origin) has(key string) bool {
	return o != nil && slices.Contains(o.keys, key)
}

// decoder reads the parts of a notebook. After the first error it goes on with
// nothing, and keeps that error.
type decoder struct {
	laidOut bool // the document has a layout to keep
	err     error
}

func (d *decoder) fail(path, message string) {
	if d.err == nil {
		d.err = fmt.Errorf("%s: %s", path, message)
	}
}

func (d *decoder) object(v gjson.Result) []member { return membersOf(v, false) }

func (d *decoder) origin(members []member) *origin {
	o := &origin{values: map[string]string{}}
	for _, m := range members {
		if _, known := o.values[m.key]; !known {
			o.keys = append(o.keys, m.key)
		}
		o.values[m.key] = m.value
	}
	if !d.laidOut {
		o.values = nil
		slices.Sort(o.keys)
	}
	return o
}

func (d *decoder) cell(path string, v gjson.Result) *Cell {
	c := &Cell{}
	if !v.IsObject() {
		d.fail(path, "want an object")
		return c
	}
	members := d.object(v)
	for _, m := range members {
		at, v := path+"."+m.key, m.result()
		switch m.key {
		case "id":
			c.ID = d.str(at, v)
		case "cell_type":
			c.Type = d.str(at, v)
		case "source":
			c.Source = d.lines(at, v)
		case "metadata":
			c.Metadata = d.member(at, v)
		case "execution_count":
			c.ExecutionCount = d.count(at, v)
		case "outputs":
			c.Outputs = d.outputs(at, v)
		default:
			c.Extra.members = append(c.Extra.members, m)
		}
	}
	if c.Type == "" {
		d.fail(path+".cell_type", "missing")
	}
	c.read = &cellRead{origin: d.origin(members), raw: v.Raw, cell: *c}
	if c.ExecutionCount != nil {
		c.read.count = *c.ExecutionCount
	}
	for _, o := range c.Outputs {
		c.read.outputs = append(c.read.outputs, o.read)
	}
	if !d.laidOut {
		c.read.raw = ""
	}
	return c
}

func (d *decoder) outputs(path string, v gjson.Result) []Output {
	if !v.IsArray() {
		d.fail(path, "want a list")
		return nil
	}
	var outputs []Output
	for i, item := range v.Array() {
		outputs = append(outputs, d.output(path+"["+strconv.Itoa(i)+"]", item))
	}
	return outputs
}

func (d *decoder) output(path string, v gjson.Result) Output {
	o := Output{}
	if !v.IsObject() {
		d.fail(path, "want an object")
		return o
	}
	members := d.object(v)
	if o.Type = d.str(path+".output_type", v.Get("output_type")); o.Type == "" {
		d.fail(path+".output_type", "missing")
	}
	for _, m := range members {
		at, v := path+"."+m.key, m.result()
		switch key := o.Type + " " + m.key; {
		case m.key == "output_type":
		case key == "stream name":
			o.Name = d.str(at, v)
		case key == "stream text":
			o.Text = d.lines(at, v)
		case key == "error ename":
			o.Ename = d.str(at, v)
		case key == "error evalue":
			o.Evalue = d.str(at, v)
		case key == "error traceback":
			o.Traceback = d.strings(at, v)
		case key == "execute_result execution_count":
			o.ExecutionCount = d.count(at, v)
		case o.hasData() && m.key == "data":
			o.Data = d.bundle(at, v)
		case o.hasData() && m.key == "metadata":
			o.Metadata = mime.New([]byte(d.member(at, v).raw))
		default:
			o.Extra.members = append(o.Extra.members, m)
		}
	}
	o.read = &outputRead{origin: d.origin(members), raw: v.Raw, output: o}
	o.read.output.Traceback = slices.Clone(o.Traceback)
	if o.ExecutionCount != nil {
		o.read.count = *o.ExecutionCount
	}
	if !d.laidOut {
		o.read.raw = ""
	}
	return o
}

func (o *Output) hasData() bool { return o.Type == DisplayData || o.Type == ExecuteResult }

// bundle returns a MIME bundle as a kernel sends it: text that nbformat has split
// into lines is one string again.
func (d *decoder) bundle(path string, v gjson.Result) mime.Bundle {
	object := d.member(path, v)
	joined := Object{members: slices.Clone(object.members)}
	changed := false
	for i, m := range joined.members {
		if v := m.result(); v.IsArray() && !isJSON(m.key) && onlyStrings(v) {
			joined.members[i].value = quote(d.lines(path, v))
			changed = true
		}
	}
	if !changed {
		return mime.New([]byte(object.raw))
	}
	raw, _ := joined.MarshalJSON() // never fails
	return mime.New(raw)
}

func isJSON(typ string) bool {
	return typ == "application/json" || strings.HasPrefix(typ, "application/") && strings.HasSuffix(typ, "+json")
}

func onlyStrings(list gjson.Result) bool {
	return !slices.ContainsFunc(list.Array(), func(v gjson.Result) bool { return v.Type != gjson.String })
}

// member returns a member that is an object; null, against the format, is an empty one.
func (d *decoder) member(path string, v gjson.Result) Object {
	if v.Type == gjson.Null {
		return Object{raw: "{}"}
	}
	if !v.IsObject() {
		d.fail(path, "want an object")
	}
	return Object{members: d.object(v), raw: v.Raw}
}

func (d *decoder) str(path string, v gjson.Result) string {
	if v.Type != gjson.String {
		if v.Exists() {
			d.fail(path, "want a string")
		}
		return ""
	}
	return unquote(v.Raw)
}

// lines returns a text: a string, or a list of strings to be joined.
func (d *decoder) lines(path string, v gjson.Result) string {
	if v.IsArray() {
		return strings.Join(d.strings(path, v), "")
	}
	if v.Type != gjson.String {
		d.fail(path, "want a string or a list of strings")
		return ""
	}
	return unquote(v.Raw)
}

func (d *decoder) strings(path string, v gjson.Result) []string {
	if !v.IsArray() {
		d.fail(path, "want a list of strings")
		return nil
	}
	var all []string
	for i, item := range v.Array() {
		if item.Type != gjson.String {
			d.fail(path+"["+strconv.Itoa(i)+"]", "want a string")
			return nil
		}
		all = append(all, unquote(item.Raw))
	}
	return all
}

// count returns a number that may be null.
func (d *decoder) count(path string, v gjson.Result) *int {
	if v.Type == gjson.Null {
		return nil
	}
	n := d.integer(path, v)
	return &n
}

func (d *decoder) integer(path string, v gjson.Result) int {
	n, err := strconv.Atoi(v.Raw)
	if err != nil {
		d.fail(path, "want a whole number")
	}
	return n
}
