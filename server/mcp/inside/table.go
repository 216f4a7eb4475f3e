package inside

import (
	"strconv"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	"github.com/k2sandbox/k2sandbox/internal/lazy"
)

// Bounds of a table: what is beyond them is left out.
const (
	maxColumns = 200
	maxCells   = 200_000
	maxCell    = 500 // bytes of a cell's text
	maxNesting = 200 // elements within elements
)

var tableTag = lazy.Regexp(`(?i)<table[\s>]`)

func hasTable(text string) bool { return tableTag().MatchString(text) }

// markdown returns the text of HTML, its tables as those of GitHub-flavoured Markdown; "" where it has none.
func markdown(text string) string {
	doc, err := html.Parse(strings.NewReader(text))
	if err != nil {
		return ""
	}
	var w page
	w.node(doc, 0)
	return strings.TrimSpace(w.String())
}

// page is Markdown that is being written.
type page struct{ strings.Builder }

// node writes what an element has in it.
func (w *page) node(n *html.Node, depth int) {
	switch {
	case depth > maxNesting:
		return
	case n.Type == html.TextNode:
		w.WriteString(spaces().ReplaceAllString(n.Data, " "))
		return
	case n.Type != html.ElementNode && n.Type != html.DocumentNode:
		return
	}
	switch n.DataAtom {
	case atom.Script, atom.Style, atom.Head, atom.Template, atom.Noscript:
		return
	case atom.Table:
		w.table(n)
		return
	case atom.Br:
		w.WriteString("\n")
	case atom.Li:
		w.line()
		w.WriteString("- ")
	case atom.P, atom.Div, atom.Tr, atom.Ul, atom.Ol, atom.Pre, atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6, atom.Details, atom.Summary, atom.Section:
		w.line()
		defer w.line()
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		w.node(c, depth+1)
	}
}

var spaces = lazy.Regexp(`\s+`)

// line begins a line, unless one is begun.
func (w *page) line() {
	if w.Len() > 0 && !strings.HasSuffix(w.String(), "\n") {
		w.WriteString("\n")
	}
}

func (w *page) table(n *html.Node) {
	g := grid{}
	g.rows(n, 0)
	if len(g.cells) == 0 {
		return
	}
	w.line()
	if w.Len() > 0 {
		w.WriteString("\n")
	}
	w.WriteString(g.String())
	w.WriteString("\n")
}

// grid is the cells of a table. Of one that spans several only the first has its text.
type grid struct {
	cells [][]string
	heads int         // rows at the beginning that are headings
	held  map[int]int // columns that cells above reach into, and for how many more rows
	count int
}

// rows finds the rows of a table, not those of tables in it.
func (g *grid) rows(n *html.Node, depth int) {
	for c := n.FirstChild; c != nil && depth < maxNesting; c = c.NextSibling {
		switch {
		case c.Type != html.ElementNode || c.DataAtom == atom.Table:
		case c.DataAtom == atom.Tr:
			g.row(c)
		case c.DataAtom == atom.Caption, c.DataAtom == atom.Style:
		default:
			g.rows(c, depth+1)
		}
	}
}

func (g *grid) row(tr *html.Node) {
	if g.count >= maxCells {
		return
	}
	var cells []string
	held := map[int]int{}
	skip := func() {
		for g.held[len(cells)] > 0 && len(cells) < maxColumns {
			held[len(cells)] = g.held[len(cells)] - 1
			cells = append(cells, "")
		}
	}
	head := true
	for c := tr.FirstChild; c != nil; c = c.NextSibling {
		if c.Type != html.ElementNode || c.DataAtom != atom.Td && c.DataAtom != atom.Th {
			continue
		}
		skip()
		head = head && c.DataAtom == atom.Th
		text := cellText(c)
		down := span(c, "rowspan") - 1
		for range span(c, "colspan") {
			if len(cells) == maxColumns {
				break
			}
			if down > 0 {
				held[len(cells)] = down
			}
			cells = append(cells, text)
			text = ""
		}
	}
	skip()
	g.held = held
	if len(cells) == 0 {
		return
	}
	if head && g.heads == len(g.cells) {
		g.heads++
	}
	g.cells = append(g.cells, cells)
	g.count += len(cells)
}

func span(n *html.Node, name string) int {
	for _, a := range n.Attr {
		if a.Key == name {
			v, err := strconv.Atoi(a.Val)
			if err == nil {
				return min(max(v, 1), maxColumns)
			}
		}
	}
	return 1
}

// cellText returns the text of a cell in a line.
func cellText(n *html.Node) string {
	var w page
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		w.cell(c, 0)
		if w.Len() > maxCell {
			break
		}
	}
	text := strings.Join(strings.Fields(w.String()), " ")
	if len(text) > maxCell {
		text = strings.ToValidUTF8(text[:maxCell], "") + "…"
	}
	return escaped.Replace(text)
}

var escaped = strings.NewReplacer(`\`, `\\`, "|", `\|`)

// cell writes all text below a node, of tables too.
func (w *page) cell(n *html.Node, depth int) {
	switch {
	case depth > maxNesting || w.Len() > maxCell || n.DataAtom == atom.Script || n.DataAtom == atom.Style:
		return
	case n.Type == html.TextNode:
		w.WriteString(n.Data)
	case n.DataAtom == atom.Br, n.DataAtom == atom.Tr, n.DataAtom == atom.Td, n.DataAtom == atom.P, n.DataAtom == atom.Div, n.DataAtom == atom.Li:
		w.WriteString(" ")
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		w.cell(c, depth+1)
	}
}

// String returns the table in Markdown. Rows of headings become one.
func (g *grid) String() string {
	columns := 0
	for _, row := range g.cells {
		columns = max(columns, len(row))
	}
	var w strings.Builder
	write := func(cells []string) {
		w.WriteString("|")
		for _, text := range cells {
			w.WriteString(" " + text + " |")
		}
		w.WriteString("\n")
	}
	write(g.heading(columns))
	w.WriteString("|" + strings.Repeat(" --- |", columns) + "\n")
	for _, row := range g.cells[g.heads:] {
		write(row)
	}
	return w.String()
}

// heading joins the rows of headings, column by column.
func (g *grid) heading(columns int) []string {
	joined := make([]string, columns)
	for _, row := range g.cells[:g.heads] {
		for i, text := range row {
			if text != "" && joined[i] != "" {
				joined[i] += " / "
			}
			joined[i] += text
		}
	}
	return joined
}
