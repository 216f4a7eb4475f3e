package notebook

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/k2sandbox/k2sandbox/internal/lazy"
)

// dialect is how a language sets variables. Its pieces are formats of fmt.
type dialect struct {
	language string
	names    []string // of kernelspecs and languages, in lower case
	name     func() *regexp.Regexp
	reserved []string
	comment  string
	assign   string // name, value
	null     string // "" where there is none
	truth    [2]string
	str      func(string) (string, error)
	nan      [3]string // NaN, infinity, -infinity
	long     string    // for integers that 32 bits do not hold
	list     string    // items
	dict     string    // items; "" where there is no such literal
	item     string    // of a dict: key, value
	between  string
	quoteKey func(string) (string, error) // str where nil
	allNull  bool                         // null may be the empty string
}

var (
	word      = lazy.Regexp(`^[\p{L}\p{Nl}_][\p{L}\p{Nl}\p{Mn}\p{Mc}\p{Nd}\p{Pc}]*$`)
	asciiWord = lazy.Regexp(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
	dotted    = lazy.Regexp(`^_*(\.?[\p{L}_]|\.$)[\p{L}\p{Nd}._]*$`)
)

var lower, upper = [2]string{"false", "true"}, [2]string{"False", "True"}

// dialects are papermill's languages. Strings are quoted as each language reads
// them; papermill quotes them all as Python does.
var dialects = []*dialect{
	{language: "Python", names: []string{"python", "ipython", "pysparkkernel"}, name: word, reserved: pythonKeywords,
		comment: "# %s", assign: "%s = %s", null: "None", truth: upper, str: pythonString,
		nan:  [3]string{"float('nan')", "float('inf')", "float('-inf')"},
		list: "[%s]", dict: "{%s}", item: "%s: %s", between: ", "},
	{language: "R", names: []string{"r", "ir", "sparkrkernel"}, name: dotted,
		comment: "# %s", assign: "%s = %s", null: "NULL", truth: [2]string{"FALSE", "TRUE"}, str: escaped(`"\`, `\u%04x`),
		nan:  [3]string{"NaN", "Inf", "-Inf"},
		list: "list(%s)", dict: "list(%s)", item: "%s = %s", between: ", "},
	{language: "Scala", names: []string{"scala", "sparkkernel"}, name: word,
		comment: "// %s", assign: "val %s = %s", null: "None", truth: lower, str: escaped(`"\`, `\u%04x`), long: "L",
		nan:  [3]string{"Double.NaN", "Double.PositiveInfinity", "Double.NegativeInfinity"},
		list: "Seq(%s)", dict: "Map(%s)", item: "%s -> %s", between: ", "},
	{language: "Julia", names: []string{"julia"}, name: word,
		comment: "# %s", assign: "%s = %s", null: "nothing", truth: lower, str: escaped(`"\$`, `\u%04x`),
		nan:  [3]string{"NaN", "Inf", "-Inf"},
		list: "[%s]", dict: "Dict(%s)", item: "%s => %s", between: ", "},
	{language: "MATLAB", names: []string{"matlab"}, name: asciiWord,
		comment: "%% %s", assign: "%s = %s;", null: "NaN", truth: lower, str: matlabString(`"`), quoteKey: matlabString(`'`),
		nan:  [3]string{"NaN", "Inf", "-Inf"},
		list: "{%s}", dict: "containers.Map({%s}, {%s})", between: ", "},
	{language: "Octave", names: []string{"octave"}, name: asciiWord,
		comment: "%% %s", assign: "%s = %s;", null: "NaN", truth: lower, str: octaveString,
		nan:  [3]string{"NaN", "Inf", "-Inf"},
		list: "{%s}", dict: "containers.Map({%s}, {%s})", between: ", "},
	{language: "C#", names: []string{".net-csharp", "c#", "csharp"}, name: word,
		comment: "// %s", assign: "var %s = %s;", truth: lower, str: escaped(`"\`, `\u%04x`), long: "L",
		nan:  [3]string{"double.NaN", "double.PositiveInfinity", "double.NegativeInfinity"},
		list: "new [] { %s }", dict: "new Dictionary<string,Object>{ %s }", item: "{ %s , %s }", between: ", "},
	{language: "F#", names: []string{".net-fsharp", "f#", "fsharp"}, name: word,
		comment: "(* %s *)", assign: "let %s = %s", null: "None", truth: lower, str: escaped(`"\`, `\u%04x`), long: "L",
		nan:  [3]string{"nan", "infinity", "-infinity"},
		list: "[ %s ]", dict: "[ %s ] |> Map.ofList", item: "(%s, %s :> IComparable)", between: "; "},
	{language: "PowerShell", names: []string{".net-powershell", ".net-pwsh", "powershell", "pwsh"}, name: word,
		comment: "# %s", assign: "$%s = %s", null: "$Null", truth: [2]string{"$False", "$True"}, str: powershellString,
		nan:  [3]string{"[double]::NaN", "[double]::PositiveInfinity", "[double]::NegativeInfinity"},
		list: "@(%s)", dict: "@{%s}", item: "%s = %s", between: ", "},
	{language: "Bash", names: []string{"bash", "sh"}, name: asciiWord,
		comment: "# %s", assign: "%s=%s", allNull: true, truth: lower, str: bashString,
		nan:  [3]string{"nan", "inf", "-inf"},
		list: "(%s)", between: " "},
}

var pythonKeywords = []string{
	"False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del", "elif", "else",
	"except", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda", "nonlocal", "not", "or", "pass", "raise",
	"return", "try", "while", "with", "yield",
}

// dialect finds how to set variables: by the name of the kernelspec, else by the
// language, of which the notebook's own stand in for those not given.
func (n *Notebook) dialect(language, kernelName string) (*dialect, error) {
	if kernelName == "" && language == "" {
		kernelName = n.Kernel()
	}
	if language == "" {
		language = n.Language()
	}
	for _, name := range []string{kernelName, language} {
		for _, d := range dialects {
			if slices.Contains(d.names, strings.ToLower(name)) {
				return d, nil
			}
		}
	}
	if language == "" && (kernelName == "" || strings.HasPrefix(strings.ToLower(kernelName), "python")) {
		return dialects[0], nil
	}
	return nil, fmt.Errorf("cannot set parameters of kernel %q, language %q: no way known", kernelName, language)
}

// assignments returns the source of a cell that sets the values.
func (d *dialect) assignments(values []Parameter) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, d.comment+"\n", "Parameters")
	for _, v := range values {
		if !d.name().MatchString(v.Name) || slices.Contains(d.reserved, v.Name) {
			return "", fmt.Errorf("parameter %.80q: not a name in %s", v.Name, d.language)
		}
		source, err := d.value(v.Value, 0)
		if err != nil {
			return "", fmt.Errorf("parameter %q: %w", v.Name, err)
		}
		name := v.Name
		if d.language == "R" {
			name = strings.TrimLeft(name, "_") // R has no such names; papermill drops these as well
		}
		fmt.Fprintf(&b, d.assign+"\n", name, source)
	}
	return b.String(), nil
}

// maxNesting bounds values: languages that build them recursively have limits too.
const maxNesting = 100

// value returns a value as source.
func (d *dialect) value(value any, depth int) (string, error) {
	if depth > maxNesting {
		return "", fmt.Errorf("nested more than %d deep", maxNesting)
	}
	value = open(value)
	if members, ok := mapping(value); ok {
		return d.mapping(members, depth)
	}
	switch v := value.(type) {
	case nil:
		if d.null == "" && !d.allNull {
			return "", fmt.Errorf("null cannot be expressed in %s", d.language)
		}
		return d.null, nil
	case bool:
		if v {
			return d.truth[1], nil
		}
		return d.truth[0], nil
	case string:
		return d.str(v)
	case float64:
		return d.float(v), nil
	case json.Number:
		return d.number(v)
	case []any:
		items, err := d.items(v, depth)
		return fmt.Sprintf(d.list, strings.Join(items, d.between)), err
	}
	if v := reflect.ValueOf(value); v.CanInt() || v.CanUint() {
		return d.number(json.Number(fmt.Sprint(value)))
	}
	return "", fmt.Errorf("a %T cannot be a parameter", value)
}

func (d *dialect) items(list []any, depth int) ([]string, error) {
	var items []string
	for i, item := range list {
		source, err := d.value(item, depth+1)
		if err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
		items = append(items, source)
	}
	return items, nil
}

func (d *dialect) mapping(members []Parameter, depth int) (string, error) {
	if d.dict == "" {
		return "", fmt.Errorf("a mapping cannot be expressed in %s", d.language)
	}
	quoteKey := d.str
	if d.quoteKey != nil {
		quoteKey = d.quoteKey
	}
	var keys, values, items []string
	for _, m := range members {
		key, err := quoteKey(m.Name)
		if err != nil {
			return "", err
		}
		value, err := d.value(m.Value, depth+1)
		if err != nil {
			return "", fmt.Errorf("[%q]: %w", m.Name, err)
		}
		keys, values = append(keys, key), append(values, value)
		if d.item != "" {
			items = append(items, fmt.Sprintf(d.item, key, value))
		}
	}
	if d.item == "" { // MATLAB's: all keys, then all values
		return fmt.Sprintf(d.dict, strings.Join(keys, ", "), strings.Join(values, ", ")), nil
	}
	between := d.between
	if d.language == "PowerShell" {
		between = "\n "
	}
	return fmt.Sprintf(d.dict, strings.Join(items, between)), nil
}

// number returns a number: an integer as it is spelled, else the nearest float64.
func (d *dialect) number(n json.Number) (string, error) {
	text := n.String()
	if strings.ContainsAny(text, ".eE") {
		f, err := n.Float64()
		if err != nil && !math.IsInf(f, 0) {
			return "", err
		}
		return d.float(f), nil
	}
	small, err := strconv.ParseInt(text, 10, 64)
	switch {
	case d.long == "" || err == nil && small == int64(int32(small)):
		return text, nil
	case err != nil:
		return "", fmt.Errorf("%s does not fit into 64 bits", text)
	}
	return text + d.long, nil
}

func (d *dialect) float(f float64) string {
	switch {
	case math.IsNaN(f):
		return d.nan[0]
	case math.IsInf(f, 1):
		return d.nan[1]
	case math.IsInf(f, -1):
		return d.nan[2]
	}
	return pythonFloat(f)
}

// pythonFloat spells a finite number as Python's repr does.
func pythonFloat(f float64) string {
	text := strconv.FormatFloat(f, 'e', -1, 64)
	_, exponent, _ := strings.Cut(text, "e")
	if e, _ := strconv.Atoi(exponent); e < -4 || e >= 16 {
		return text
	}
	text = strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}

// pythonString quotes as papermill does: Python's unicode_escape, and the quote.
func pythonString(text string) (string, error) {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\\' || r == '"':
			b.WriteString(`\` + string(r))
		case r >= ' ' && r <= '~':
			b.WriteRune(r)
		case r <= 0xff:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	return `"` + b.String() + `"`, nil
}

// escaped returns a quoting with double quotes in which a backslash stands before
// some characters, and control characters are written in a format of their number.
func escaped(special, control string) func(string) (string, error) {
	return func(text string) (string, error) {
		var b strings.Builder
		for _, r := range text {
			switch {
			case r == '\n':
				b.WriteString(`\n`)
			case r == '\r':
				b.WriteString(`\r`)
			case r == '\t':
				b.WriteString(`\t`)
			case strings.ContainsRune(special, r):
				b.WriteString(`\` + string(r))
			case isControl(r):
				fmt.Fprintf(&b, control, r)
			default:
				b.WriteRune(r)
			}
		}
		return `"` + b.String() + `"`, nil
	}
}

func isControl(r rune) bool {
	return r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029'
}

// matlabString doubles quotes; text of several lines is made by sprintf.
func matlabString(mark string) func(string) (string, error) {
	return func(text string) (string, error) {
		double := strings.NewReplacer(mark, mark+mark)
		if !strings.ContainsFunc(text, isControl) {
			return mark + double.Replace(text) + mark, nil
		}
		text = strings.NewReplacer(`\`, `\\`, "%", "%%", "\n", `\n`, "\r", `\r`, "\t", `\t`).Replace(text)
		return "sprintf(" + mark + double.Replace(text) + mark + ")", nil
	}
}

// octaveString escapes with backslashes, which Octave's double quotes know and MATLAB's
// do not.
func octaveString(text string) (string, error) { return `"` + octal(text, `"\`) + `"`, nil }

// octal returns text with the bytes of control characters, and of some others, as
// a backslash and three octal digits.
func octal(text, special string) string {
	var b strings.Builder
	for _, r := range text {
		if !isControl(r) && !strings.ContainsRune(special, r) {
			b.WriteRune(r)
			continue
		}
		for _, c := range []byte(string(r)) {
			fmt.Fprintf(&b, `\%03o`, c)
		}
	}
	return b.String()
}

func powershellString(text string) (string, error) {
	// PowerShell takes the quotes of typography for quotes as well.
	return `"` + strings.NewReplacer("`", "``", `"`, "`\"", "$", "`$", "\n", "`n", "\r", "`r", "\t", "`t", "\x00", "`0",
		"\u201c", "`\u201c", "\u201d", "`\u201d", "\u201e", "`\u201e").Replace(text) + `"`, nil
}

var bashPlain = lazy.Regexp(`^[a-zA-Z0-9_@%+=:,./-]+$`)

func bashString(text string) (string, error) {
	if strings.Contains(text, "\x00") {
		return "", errors.New("a string with NUL cannot be expressed in Bash")
	}
	if bashPlain().MatchString(text) {
		return text, nil
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && isControl(r) }) {
		// The kernel types the cell into a terminal, where these edit the line.
		return "$'" + octal(text, `'\`) + "'", nil
	}
	return "'" + strings.ReplaceAll(text, "'", `'"'"'`) + "'", nil
}
