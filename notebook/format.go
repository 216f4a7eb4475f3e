// Package notebook reads, writes, parametrises and runs Jupyter notebooks: nbformat
// 4.0 to 4.5, run as nbclient and papermill do.
// https://nbformat.readthedocs.io/en/latest/format_description.html
//
// What a run does not change stays as it was read, byte for byte: order of keys,
// spelling of numbers, escapes, indent. So a diff shows what ran, and nothing else.
package notebook

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/tidwall/gjson"
)

// newestMinor is the minor version of nbformat 4 that New makes: cells have ids.
const newestMinor = 5

// idsSince is the first minor version whose cells have ids (JEP 62).
const idsSince = 5

// Notebook is a document of nbformat 4.
type Notebook struct {
	Metadata Object
	Cells    []*Cell
	Minor    int      // nbformat_minor; 5 and up have cell ids
	Extra    Object   // members of the document that nbformat does not name
	Warnings []string // what Read has repaired, for the user

	origin *origin
	style  style
}

// New returns an empty notebook of the newest nbformat, in nbformat's normal form.
func New() *Notebook { return &Notebook{Minor: newestMinor, style: normal} }

// Read reads a notebook of nbformat 4 and any minor version. Cells of 4.5 and later that have no id of their own get one. Errors
// name the place: line and column where it is no JSON, else the path of the member,
// as in cells[3].outputs[0].text. NaN and Infinity, which Python writes against
// JSON's rules, become null.
func Read(r io.Reader) (*Notebook, error) {
	raw, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("cannot read notebook: %w", err)
	}
	text, err := valid(raw)
	if err != nil {
		return nil, fmt.Errorf("cannot read notebook: %w", err)
	}
	n, err := decode(text)
	if err != nil {
		return nil, fmt.Errorf("cannot read notebook: %w", err)
	}
	return n, nil
}

func decode(text string) (*Notebook, error) {
	n := &Notebook{style: styleOf(text)}
	document := gjson.Parse(text)
	if !document.IsObject() {
		return nil, errors.New("not a JSON object")
	}
	d := decoder{laidOut: n.style.laidOut}
	members := d.object(document)
	n.origin = d.origin(members)
	cells := gjson.Result{}
	for _, m := range members {
		switch v := m.result(); m.key {
		case "nbformat":
			if major := d.integer(m.key, v); d.err == nil && major != 4 {
				return nil, fmt.Errorf("nbformat: is %d, and only 4 is supported%s", major, advice(major))
			}
		case "nbformat_minor":
			n.Minor = d.integer(m.key, v)
		case "metadata":
			n.Metadata = d.member(m.key, v)
		case "cells":
			cells = v
		default:
			n.Extra.members = append(n.Extra.members, m)
		}
	}
	if d.err == nil && !n.origin.has("nbformat") {
		d.fail("nbformat", "missing: not a notebook")
	}
	if d.err == nil && !cells.IsArray() {
		d.fail("cells", "want a list")
	}
	for i, cell := range cells.Array() {
		n.Cells = append(n.Cells, d.cell(fmt.Sprintf("cells[%d]", i), cell))
	}
	if d.err != nil {
		return nil, d.err
	}
	n.repairIDs()
	return n, nil
}

func advice(major int) string {
	if major < 4 {
		return ": upgrade it with jupyter nbconvert --to notebook"
	}
	return ""
}

// repairIDs gives an id to each cell that has none, or not one of its own.
func (n *Notebook) repairIDs() {
	if n.Minor < idsSince {
		return
	}
	taken, seen := n.ids(), map[string]bool{}
	var missing, invalid, double []int
	for i, c := range n.Cells {
		switch {
		case c.ID == "":
			missing = append(missing, i)
		case !validID(c.ID):
			invalid = append(invalid, i)
		case seen[c.ID]:
			double = append(double, i)
		default:
			seen[c.ID] = true
			continue
		}
		c.ID = newID(taken)
		taken[c.ID] = true
	}
	n.warn(missing, "had no id")
	n.warn(invalid, "had an id that is not 1 to 64 of a-z, A-Z, 0-9, - and _")
	n.warn(double, "had the id of a cell before")
}

// warn says that something was repaired in some cells.
func (n *Notebook) warn(cells []int, what string) {
	switch len(cells) {
	case 0:
	case 1:
		n.Warnings = append(n.Warnings, fmt.Sprintf("cells[%d] %s", cells[0], what))
	default:
		n.Warnings = append(n.Warnings, fmt.Sprintf("cells[%d] and %d more %s", cells[0], len(cells)-1, what))
	}
}

func (n *Notebook) ids() map[string]bool {
	ids := map[string]bool{}
	for _, c := range n.Cells {
		ids[c.ID] = true
	}
	return ids
}

// freshID returns an id that no cell has, or "" where cells have none.
func (n *Notebook) freshID() string {
	if n.Minor < idsSince {
		return ""
	}
	return newID(n.ids())
}

// NewCell returns a cell for this notebook, with an id where its cells have one. It
// is not in Cells yet.
func (n *Notebook) NewCell(typ, source string) *Cell {
	return &Cell{ID: n.freshID(), Type: typ, Source: source}
}

// Language returns the language of the notebook's code as its metadata have it, in
// lower case, or "": language_info.name, else kernelspec.language.
func (n *Notebook) Language() string {
	info, _ := n.Metadata.Get("language_info")
	spec, _ := n.Metadata.Get("kernelspec")
	name := gjson.GetBytes(info, "name").String()
	if name == "" {
		name = gjson.GetBytes(spec, "language").String()
	}
	return strings.ToLower(name)
}

// Kernel returns the name of the kernelspec in the notebook's metadata, or "".
func (n *Notebook) Kernel() string {
	spec, _ := n.Metadata.Get("kernelspec")
	return gjson.GetBytes(spec, "name").String()
}
