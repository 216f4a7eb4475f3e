package notebook

import (
	"bufio"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// style is how a document is laid out.
type style struct {
	indent, newline, end string
	laidOut              bool // was read, so that it is kept
}

// What is written is some times longer than what it is made of, not thousands of times:
// a longer indent is not kept, and JSON that is nested deeper is not laid out.
const (
	maxIndent = 8
	maxLaid   = 64
)

// normal is nbformat's.
var normal = style{indent: " ", newline: "\n", end: "\n"}

// styleOf returns the layout of a JSON document: what stands before its first key,
// and after its end.
func styleOf(document string) style {
	_, inside, _ := strings.Cut(document, "{")
	first := inside[:len(inside)-len(strings.TrimLeft(inside, " \t\r\n"))]
	head, indent, ok := strings.Cut(first, "\n")
	if !ok || strings.ContainsAny(indent, "\r\n") || len(indent) > maxIndent {
		return normal
	}
	newline := "\n"
	if strings.HasSuffix(head, "\r") {
		newline = "\r\n"
	}
	body := strings.TrimRight(document, " \t\r\n")
	return style{indent: indent, newline: newline, end: document[len(body):], laidOut: true}
}

// printer writes JSON in a style. Its errors are in w.
type printer struct {
	w *bufio.Writer
	style
}

func (p *printer) text(s string) { _, _ = p.w.WriteString(s) } // the error stays in w

// line starts a new line at a depth.
func (p *printer) line(depth int) {
	p.text(p.newline)
	for range depth {
		p.text(p.indent)
	}
}

// list writes a list of n items.
func (p *printer) list(n, depth int, item func(i int)) {
	if n == 0 {
		p.text("[]")
		return
	}
	for i := range n {
		p.text(separator('[', i))
		p.line(depth + 1)
		item(i)
	}
	p.line(depth)
	p.text("]")
}

func separator(open rune, i int) string {
	if i == 0 {
		return string(open)
	}
	return ","
}

// fields writes an object.
func (p *printer) fields(f fields, depth int) {
	all := f.inOrder()
	if len(all) == 0 {
		p.text("{}")
		return
	}
	for i, field := range all {
		p.text(separator('{', i))
		p.line(depth + 1)
		p.text(field.name + ": ")
		field.write(p, depth+1)
	}
	p.line(depth)
	p.text("}")
}

// object writes an Object: as it was read where it is, else its members as they are.
func (p *printer) object(o Object, depth int) {
	if o.raw != "" && p.laidOut {
		p.text(o.raw)
		return
	}
	f := fields{origin: &origin{keys: o.Keys()}}
	if !p.laidOut {
		f.origin = nil
	}
	f.rest(o)
	p.fields(f, depth)
}

// fresh writes a JSON value that has no layout yet, in nbformat's normal form.
func (p *printer) fresh(v gjson.Result, depth int) {
	switch {
	case depth > maxLaid:
		p.text(strings.ToValidUTF8(v.Raw, "\ufffd"))
	case v.IsArray():
		items := v.Array()
		p.list(len(items), depth, func(i int) { p.fresh(items[i], depth+1) })
	case v.IsObject():
		f := fields{}
		for _, m := range membersOf(v, true) {
			f.add(m.key, func(p *printer, depth int) { p.fresh(m.result(), depth) })
		}
		p.fields(f, depth)
	case v.Type == gjson.String:
		p.text(quote(unquote(v.Raw)))
	default:
		p.text(v.Raw)
	}
}

// fields are the members of an object that is being written.
type fields struct {
	origin *origin // what the object was read from, or nil
	all    []field
}

type field struct {
	key, name string
	write     func(p *printer, depth int)
}

func (f *fields) add(key string, write func(p *printer, depth int)) {
	f.all = append(f.all, field{key, quote(key), write})
}

// maybe adds a member which, if it is the same as when it was read, is kept as it was.
func (f *fields) maybe(key string, same bool, write func(p *printer, depth int)) {
	if same && f.origin != nil {
		if raw, ok := f.origin.values[key]; ok {
			write = func(p *printer, _ int) { p.text(raw) }
		}
	}
	f.add(key, write)
}

func (f *fields) str(key, value string, same bool) {
	f.maybe(key, same, func(p *printer, _ int) { p.text(quote(value)) })
}

func (f *fields) number(key string, value int, same bool) {
	f.maybe(key, same, func(p *printer, _ int) { p.text(strconv.Itoa(value)) })
}

func (f *fields) count(key string, value *int, same bool) {
	f.maybe(key, same, func(p *printer, _ int) {
		if value == nil {
			p.text("null")
		} else {
			p.text(strconv.Itoa(*value))
		}
	})
}

// lines adds a text, which nbformat writes as a list of lines.
func (f *fields) lines(key, text string, same bool) {
	f.maybe(key, same, func(p *printer, depth int) {
		lines := splitLines(text)
		p.list(len(lines), depth, func(i int) { p.text(quote(lines[i])) })
	})
}

func (f *fields) object(key string, o Object) {
	f.add(key, func(p *printer, depth int) { p.object(o, depth) })
}

// rest adds the members of an Object: what was read as it was read.
func (f *fields) rest(o Object) {
	for _, m := range o.members {
		f.all = append(f.all, field{m.key, m.name, func(p *printer, depth int) {
			if m.fresh {
				p.fresh(m.result(), depth)
			} else {
				p.text(m.value)
			}
		}})
	}
}

// inOrder returns the members in the order in which the object was read. New ones
// come where they belong if that was sorted, else at the end.
func (f *fields) inOrder() []field {
	byKey := func(a, b field) int { return strings.Compare(a.key, b.key) }
	slices.SortStableFunc(f.all, byKey)
	if f.origin == nil || slices.IsSorted(f.origin.keys) {
		return f.all
	}
	places := map[string]int{}
	for i, key := range f.origin.keys {
		places[key] = i
	}
	place := func(key string) int {
		if i, ok := places[key]; ok {
			return i
		}
		return len(places)
	}
	slices.SortStableFunc(f.all, func(a, b field) int { return place(a.key) - place(b.key) })
	return f.all
}

// quote returns text as a JSON string in which only what must be is escaped, as
// Python's json does with ensure_ascii=False.
func quote(text string) string {
	text = strings.ToValidUTF8(text, "\ufffd")
	var b strings.Builder
	b.Grow(len(text) + 2)
	b.WriteByte('"')
	start := 0
	for i := range len(text) {
		c := text[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b.WriteString(text[start:i])
		start = i + 1
		if short := strings.IndexByte("\"\\\b\f\n\r\t", c); short >= 0 {
			b.WriteByte('\\')
			b.WriteByte(`"\bfnrt`[short])
		} else {
			fmt.Fprintf(&b, `\u%04x`, c)
		}
	}
	b.WriteString(text[start:])
	b.WriteByte('"')
	return b.String()
}

// splitLines splits text where Python's str.splitlines does, and keeps the ends.
func splitLines(text string) []string {
	var lines []string
	start := 0
	for i, r := range text {
		if r == '\r' && strings.HasPrefix(text[i+1:], "\n") || !strings.ContainsRune("\n\r\v\f\x1c\x1d\x1e\u0085\u2028\u2029", r) {
			continue
		}
		end := i + len(string(r))
		lines = append(lines, text[start:end])
		start = end
	}
	if start < len(text) {
		lines = append(lines, text[start:])
	}
	return lines
}
