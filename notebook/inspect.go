package notebook

import (
	"fmt"
	"strings"

	"github.com/k2sandbox/k2sandbox/internal/lazy"
)

// Declared is a parameter that a notebook declares, as papermill's inspect_notebook
// tells of it.
type Declared struct {
	Name    string `json:"name"`
	Type    string `json:"inferred_type_name"` // from the annotation or type comment; "None" where there is neither
	Default string `json:"default"`            // source of the default value
	Help    string `json:"help"`               // the comment behind it
}

// Parameters returns what the first cell tagged parameters declares: assignments
//
//	name: type = default  # help
//	name = default  # type: type help
//
// of which a value may go over several lines. It returns none where no cell has the
// tag, and an error where the notebook's language is not Python.
func (n *Notebook) Parameters() ([]Declared, error) {
	d, err := n.dialect("", "")
	if err == nil && d.language != "Python" {
		err = fmt.Errorf("cannot read parameters in %s, only in Python", d.language)
	}
	i := n.indexOf(parametersTag)
	if err != nil || i < 0 {
		return nil, err
	}
	var all []Declared
	for _, s := range statements(n.Cells[i].Source) {
		if declared, ok := s.declares(); ok {
			all = append(all, declared)
		}
	}
	return all, nil
}

// statement is one of Python, with the comment at its end.
type statement struct{ code, comment string }

var (
	assignment  = lazy.Regexp(`(?s)^([\p{L}_][\p{L}\p{N}_]*)\s*(?::\s*["']?([\p{L}_][\p{L}\p{N}_\[\],.|\s]*?)["']?\s*)?=([^=].*)$`)
	typeComment = lazy.Regexp(`^type:\s*(\S*)\s*(.*)$`)
)

func (s statement) declares() (Declared, bool) {
	m := assignment().FindStringSubmatch(s.code)
	if m == nil {
		return Declared{}, false
	}
	d := Declared{Name: m[1], Type: m[2], Default: strings.TrimSpace(m[3]), Help: s.comment}
	if c := typeComment().FindStringSubmatch(s.comment); c != nil {
		d.Help = c[2]
		if d.Type == "" {
			d.Type = c[1]
		}
	}
	if d.Type == "" {
		d.Type = "None"
	}
	return d, true
}

// statements splits Python source where lines end outside of brackets and strings.
// Of a statement on several lines the ends are joined, without their comments.
func statements(source string) []statement {
	var all []statement
	var code strings.Builder
	comment, depth := "", 0
	for i := 0; i < len(source); {
		n := 1
		switch c := source[i]; c {
		case '"', '\'':
			n = stringLength(source[i:])
			code.WriteString(source[i : i+n])
		case '#':
			n = strings.IndexByte(source[i:]+"\n", '\n')
			comment = strings.TrimSpace(source[i+1 : i+n])
		case '\n':
			if depth == 0 {
				all = append(all, statement{strings.TrimRight(code.String(), " \t\r"), comment})
				code.Reset()
			} else {
				n += len(source[i+1:]) - len(strings.TrimLeft(source[i+1:], " \t"))
			}
			comment = ""
		case '\\':
			if strings.HasPrefix(source[i+1:], "\n") {
				n = 2
				break
			}
			code.WriteByte(c)
		case '(', '[', '{':
			depth++
			code.WriteByte(c)
		case ')', ']', '}':
			depth = max(depth-1, 0)
			code.WriteByte(c)
		default:
			code.WriteByte(c)
		}
		i += n
	}
	return append(all, statement{strings.TrimSpace(code.String()), comment})
}

// stringLength returns the length of the Python string that source starts with.
func stringLength(source string) int {
	mark := source[:1]
	if triple := strings.Repeat(mark, 3); strings.HasPrefix(source, triple) {
		mark = triple
	}
	for i := len(mark); i < len(source); i++ {
		switch {
		case source[i] == '\\':
			i++
		case strings.HasPrefix(source[i:], mark):
			return i + len(mark)
		case source[i] == '\n' && len(mark) == 1:
			return i // an error of Python's
		}
	}
	return len(source)
}
