package notebook

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/k2sandbox/k2sandbox/mime"
)

// Write writes the notebook. What was read and not changed since is written as it
// was. What is new has nbformat's normal form, in the indent of the document: keys
// sorted, text split into lines, only what JSON demands escaped. A document that
// was on one line, or is new, is laid out in that form as a whole.
func (n *Notebook) Write(w io.Writer) error {
	p := &printer{w: bufio.NewWriter(w), style: n.style}
	n.print(p)
	p.text(n.style.end)
	if err := p.w.Flush(); err != nil { // a bufio.Writer's errors stay
		return fmt.Errorf("cannot write notebook: %w", err)
	}
	return nil
}

func (n *Notebook) print(p *printer) {
	f := fields{origin: n.origin}
	f.number("nbformat", 4, n.origin.has("nbformat"))
	f.number("nbformat_minor", n.Minor, n.origin != nil && n.origin.values["nbformat_minor"] == strconv.Itoa(n.Minor))
	f.object("metadata", n.Metadata.without("signature", "orig_nbformat", "orig_nbformat_minor"))
	f.rest(n.Extra.without("orig_nbformat", "orig_nbformat_minor"))
	f.add("cells", func(p *printer, depth int) {
		p.list(len(n.Cells), depth, func(i int) { n.Cells[i].print(p, depth+1, n.Minor) })
	})
	p.fields(f, 0)
}

// unchanged reports whether the cell is still what it was read from.
func (c *Cell) unchanged() bool {
	r := c.read
	return r != nil && r.raw != "" && c.sameOutputs() && c.ID == r.cell.ID && c.Type == r.cell.Type && c.Source == r.cell.Source &&
		sameCount(c.ExecutionCount, r.cell.ExecutionCount, r.count) &&
		c.Metadata.equal(r.cell.Metadata) && c.Extra.equal(r.cell.Extra)
}

func (c *Cell) sameOutputs() bool {
	if c.read == nil || len(c.Outputs) != len(c.read.outputs) {
		return false
	}
	for i := range c.Outputs {
		if c.Outputs[i].read != c.read.outputs[i] || !c.Outputs[i].unchanged() {
			return false
		}
	}
	return true
}

// sameCount reports whether a count is still what was read; the count was there.
func sameCount(now, was *int, value int) bool {
	if now == nil || was == nil {
		return now == was
	}
	return *now == value
}

func (c *Cell) print(p *printer, depth, minor int) {
	metadata := c.Metadata.without("trusted")
	if c.unchanged() && metadata.Len() == c.Metadata.Len() {
		p.text(c.read.raw)
		return
	}
	f, was, read := fields{}, Cell{}, c.read != nil
	if read {
		f.origin, was = c.read.origin, c.read.cell
	}
	f.str("cell_type", c.Type, read && c.Type == was.Type)
	if minor >= idsSince || c.ID != "" {
		f.str("id", c.ID, read && c.ID == was.ID)
	}
	f.lines("source", c.Source, read && c.Source == was.Source)
	f.object("metadata", metadata)
	f.rest(c.Extra)
	if c.Type == Code {
		f.count("execution_count", c.ExecutionCount, read && sameCount(c.ExecutionCount, was.ExecutionCount, c.read.count))
		f.maybe("outputs", c.sameOutputs(), func(p *printer, depth int) {
			p.list(len(c.Outputs), depth, func(i int) { c.Outputs[i].print(p, depth+1) })
		})
	}
	p.fields(f, depth)
}

func (o *Output) unchanged() bool {
	if o.read == nil || o.read.raw == "" {
		return false
	}
	was := &o.read.output
	return o.Type == was.Type && o.Name == was.Name && o.Text == was.Text &&
		sameBundle(o.Data, was.Data) && sameBundle(o.Metadata, was.Metadata) &&
		sameCount(o.ExecutionCount, was.ExecutionCount, o.read.count) &&
		o.Ename == was.Ename && o.Evalue == was.Evalue && slices.Equal(o.Traceback, was.Traceback) &&
		o.Extra.equal(was.Extra)
}

func sameBundle(a, b mime.Bundle) bool { return bytes.Equal(a.Raw(), b.Raw()) }

func (o *Output) print(p *printer, depth int) {
	if o.unchanged() {
		p.text(o.read.raw)
		return
	}
	f, was, read := fields{}, Output{}, o.read != nil
	if read {
		f.origin, was = o.read.origin, o.read.output
	}
	f.str("output_type", o.Type, read)
	switch o.Type {
	case Stream:
		f.str("name", o.Name, read && o.Name == was.Name)
		f.lines("text", o.Text, read && o.Text == was.Text)
	case ExecuteResult, DisplayData:
		f.maybe("data", read && sameBundle(o.Data, was.Data), o.printData)
		f.maybe("metadata", read && sameBundle(o.Metadata, was.Metadata), func(p *printer, depth int) {
			raw, _ := o.Metadata.MarshalJSON() // never fails
			p.fresh(gjson.ParseBytes(raw), depth)
		})
		if o.Type == ExecuteResult {
			f.count("execution_count", o.ExecutionCount, read && sameCount(o.ExecutionCount, was.ExecutionCount, o.read.count))
		}
	case ErrorOutput:
		f.str("ename", o.Ename, read && o.Ename == was.Ename)
		f.str("evalue", o.Evalue, read && o.Evalue == was.Evalue)
		f.maybe("traceback", read && slices.Equal(o.Traceback, was.Traceback), func(p *printer, depth int) {
			p.list(len(o.Traceback), depth, func(i int) { p.text(quote(o.Traceback[i])) })
		})
	}
	f.rest(o.Extra)
	p.fields(f, depth)
}

// printData writes a MIME bundle; text in it is split into lines.
func (o *Output) printData(p *printer, depth int) {
	raw, _ := o.Data.MarshalJSON() // never fails
	f := fields{}
	for _, m := range membersOf(gjson.ParseBytes(raw), true) {
		switch v := m.result(); {
		case v.Type == gjson.String && isSplit(m.key):
			f.lines(m.key, unquote(v.Raw), false)
		case m.key != "application/json" && !strings.HasSuffix(m.key, "+json") && !isText(v):
			f.lines(m.key, v.Raw, false) // nbformat has only text there
		default:
			f.add(m.key, func(p *printer, depth int) { p.fresh(v, depth) })
		}
	}
	p.fields(f, depth)
}

// isText reports whether a value is a string, or an array of them.
func isText(v gjson.Result) bool {
	if !v.IsArray() {
		return v.Type == gjson.String
	}
	return !slices.ContainsFunc(v.Array(), func(one gjson.Result) bool { return one.Type != gjson.String })
}

// isSplit reports whether nbformat splits strings of a MIME type into lines.
func isSplit(typ string) bool {
	return strings.HasPrefix(typ, "text/") || typ == "application/javascript" || typ == "image/svg+xml"
}

// equal reports whether two objects have the same members, spelled alike.
func (o Object) equal(other Object) bool { return slices.Equal(o.members, other.members) }

// without returns the object less some keys.
func (o Object) without(keys ...string) Object {
	for _, key := range keys {
		o.Delete(key)
	}
	return o
}
