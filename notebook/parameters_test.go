package notebook_test

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/notebook"
)

// What each language reads values as. The Python is papermill's, byte for byte.
func TestDialects(t *testing.T) {
	nested := []notebook.Parameter{{Name: "b", Value: []any{1, "x"}}, {Name: "a", Value: nil}}
	noNull := []notebook.Parameter{{Name: "b", Value: []any{1, "x"}}}
	all := []any{nil, true, 7, 2.5, 1e16, "a\"b\\c\n\té$", []any{1, false}, nested}
	for _, tt := range []struct {
		kernel, language string
		values           []any
		want             []string
	}{
		{"python3", "python", []any{
			nil, true, false, 7, int64(-7), json.Number("12345678901234567890123"), 1.0, 1e5, 1e16, 1.5e-5, 0.0001, 123456789012345.6,
			math.NaN(), math.Inf(1), math.Inf(-1), "plain", "q\"s'", "back\\slash", "\n\r\t\x00\x7f", "é€😀", []any{}, nested, map[string]any{"z": 1, "a": 2},
			json.RawMessage(`{"b":[1,2.50,1e2],"a":"\u00e9","n":null,"t":true}`),
		}, []string{
			"None", "True", "False", "7", "-7", "12345678901234567890123", "1.0", "100000.0", "1e+16", "1.5e-05", "0.0001", "123456789012345.6",
			"float('nan')", "float('inf')", "float('-inf')", `"plain"`, `"q\"s'"`, `"back\\slash"`, `"\n\r\t\x00\x7f"`, `"\xe9\u20ac\U0001f600"`,
			"[]", `{"b": [1, "x"], "a": None}`, `{"a": 2, "z": 1}`, `{"b": [1, 2.5, 100.0], "a": "\xe9", "n": None, "t": True}`,
		}},
		{"ir", "R", append(all, math.NaN(), math.Inf(-1)), []string{
			"NULL", "TRUE", "7", "2.5", "1e+16", `"a\"b\\c\n\té$"`, "list(1, FALSE)", `list("b" = list(1, "x"), "a" = NULL)`, "NaN", "-Inf",
		}},
		{"sparkkernel", "", append(all, 1<<40), []string{
			"None", "true", "7", "2.5", "1e+16", `"a\"b\\c\n\té$"`, "Seq(1, false)", `Map("b" -> Seq(1, "x"), "a" -> None)`, "1099511627776L",
		}},
		{"julia-1.10", "julia", all, []string{
			"nothing", "true", "7", "2.5", "1e+16", `"a\"b\\c\n\té\$"`, "[1, false]", `Dict("b" => [1, "x"], "a" => nothing)`,
		}},
		{"", "matlab", append(all, "it's \"5%\""), []string{
			"NaN", "true", "7", "2.5", "1e+16", `sprintf("a""b\\c\n\té$")`, "{1, false}", `containers.Map({'b', 'a'}, {{1, "x"}, NaN})`, `"it's ""5%"""`,
		}},
		{"octave", "octave", append(all, `\"; system("id") %`), []string{
			"NaN", "true", "7", "2.5", "1e+16", `"a\042b\134c\012\011é$"`, "{1, false}", `containers.Map({"b", "a"}, {{1, "x"}, NaN})`, `"\134\042; system(\042id\042) %"`,
		}},
		{".net-csharp", "C#", append([]any{noNull, 1 << 40, math.NaN()}, all[1:7]...), []string{
			`new Dictionary<string,Object>{ { "b" , new [] { 1, "x" } } }`, "1099511627776L", "double.NaN",
			"true", "7", "2.5", "1e+16", `"a\"b\\c\n\té$"`, "new [] { 1, false }",
		}},
		{".net-fsharp", "F#", all, []string{
			"None", "true", "7", "2.5", "1e+16", `"a\"b\\c\n\té$"`, "[ 1; false ]", `[ ("b", [ 1; "x" ] :> IComparable); ("a", None :> IComparable) ] |> Map.ofList`,
		}},
		{".net-powershell", "PowerShell", append(all, math.Inf(1)), []string{
			"$Null", "$True", "7", "2.5", "1e+16", "\"a`\"b\\c`n`té`$\"", "@(1, $False)", "@{\"b\" = @(1, \"x\")\n \"a\" = $Null}", "[double]::PositiveInfinity",
		}},
		{"bash", "bash", append(all[:7:7], "plain-1.0", "it's", "", "a\n$b", "\x15id'"), []string{
			"", "true", "7", "2.5", "1e+16", `$'a"b\134c\012\011é$'`, "(1 false)", "plain-1.0", `'it'"'"'s'`, "''", "'a\n$b'", `$'\025id\047'`,
		}},
	} {
		t.Run(tt.kernel+" "+tt.language, func(t *testing.T) {
			assign := map[string]string{".net-csharp": "var x = %;", ".net-fsharp": "let x = %", ".net-powershell": "$x = %", "bash": "x=%", "": "x = %;", "octave": "x = %;", "sparkkernel": "val x = %"}[tt.kernel]
			if assign == "" {
				assign = "x = %"
			}
			for i, value := range tt.values {
				n := notebook.New()
				if _, err := n.Parameterize([]notebook.Parameter{{Name: "x", Value: value}}, tt.language, tt.kernel); err != nil {
					t.Errorf("%v: %v", value, err)
					continue
				}
				_, got, _ := strings.Cut(n.Cells[0].Source, "\n")
				if want := strings.Replace(assign, "%", tt.want[i], 1) + "\n"; got != want {
					t.Errorf("%v: %s, want %s", value, got, want)
				}
			}
		})
	}
}

func TestParameterErrors(t *testing.T) {
	deep := any(1)
	for range 200 {
		deep = []any{deep}
	}
	for _, tt := range []struct {
		name, language string
		value          any
		want           string
	}{
		{"a b", "python", 1, `parameter "a b": not a name in Python`},
		{"", "python", 1, `parameter "": not a name`},
		{"1a", "python", 1, "not a name"},
		{"a=1;b", "python", 1, "not a name"},
		{"a\nb", "python", 1, "not a name"},
		{"class", "python", 1, "not a name"},
		{"é", "bash", 1, "not a name in Bash"},
		{"x", "python", struct{}{}, `parameter "x": a struct {} cannot be a parameter`},
		{"x", "python", deep, "nested more than 100 deep"},
		{"x", "C#", nil, "null cannot be expressed in C#"},
		{"x", "C#", []any{nil}, `parameter "x": [0]: null cannot`},
		{"x", "bash", map[string]any{}, "a mapping cannot be expressed in Bash"},
		{"x", "bash", "\x00", "NUL"},
		{"x", "scala", json.Number("12345678901234567890"), "does not fit into 64 bits"},
		{"x", "cobol", 1, `cannot set parameters of kernel "", language "cobol"`},
	} {
		n := notebook.New()
		_, err := n.Parameterize([]notebook.Parameter{{Name: tt.name, Value: tt.value}}, tt.language, "")
		if err == nil || !strings.Contains(err.Error(), tt.want) || len(n.Cells) != 0 {
			t.Errorf("%q = %v in %s: %v, want %q", tt.name, tt.value, tt.language, err, tt.want)
		}
	}
}

func tagged(n *notebook.Notebook, source string, tags ...string) {
	c := n.NewCell(notebook.Code, source)
	if len(tags) > 0 {
		c.Metadata.Set("tags", tags)
	}
	n.Cells = append(n.Cells, c)
}

func sources(n *notebook.Notebook) (all []string) {
	for _, c := range n.Cells {
		all = append(all, c.Source)
	}
	return all
}

func TestParameterize(t *testing.T) {
	values := []notebook.Parameter{{Name: "a", Value: 1}, {Name: "b", Value: math.NaN()}, {Name: "a", Value: "x"}}
	injected := "# Parameters\na = \"x\"\nb = float('nan')\n"

	n := notebook.New()
	tagged(n, "import x")
	tagged(n, "a = 0\nb = 0", "parameters")
	tagged(n, "a = 9", "parameters")
	warnings, err := n.Parameterize(values, "", "")
	if err != nil || len(warnings) != 0 {
		t.Fatal(warnings, err)
	}
	want := []string{"import x", "a = 0\nb = 0", injected, "a = 9"}
	if got := sources(n); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if c := n.Cells[2]; !slices.Equal(c.Tags(), []string{"injected-parameters"}) || c.ID == "" {
		t.Errorf("injected %+v", c)
	}
	if raw, _ := n.Metadata.Get("papermill"); string(raw) != `{"parameters":{"a":"x","b":null}}` {
		t.Errorf("metadata %s", raw)
	}

	id := n.Cells[2].ID // the next run replaces the cell where it is
	warnings, err = n.Parameterize([]notebook.Parameter{{Name: "c", Value: 3}}, "python", "python3")
	want[2] = "# Parameters\nc = 3\n"
	if got := sources(n); err != nil || !slices.Equal(got, want) || n.Cells[2].ID != id {
		t.Errorf("got %q, %v", got, err)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], `no parameter "c"`) {
		t.Errorf("warnings %q", warnings)
	}

	n = notebook.New()
	tagged(n, "print(a)")
	warnings, err = n.Parameterize(values, "python", "")
	if got := sources(n); err != nil || !slices.Equal(got, []string{injected, "print(a)"}) {
		t.Errorf("got %q, %v", got, err)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "no cell is tagged parameters") {
		t.Errorf("warnings %q", warnings)
	}
	if warnings, err := n.Parameterize(nil, "cobol", ""); err != nil || len(warnings) != 0 || len(n.Cells) != 2 {
		t.Errorf("no parameters: %v %v", warnings, err)
	}
}

func TestParameters(t *testing.T) {
	n := notebook.New()
	tagged(n, "other = 1")
	tagged(n, `# a comment
import os
a = 1
b: int = 2  # how many
c = 3.5 # type: float  as in "x = y"
d: "List[str]" = ["#", # first
   'a=b',
]  # type: ignored  the list
url = 'http://host/?a=b#c'
text = """two
lines""" # help
e: dict[str, int] | None = {
    "x": 1,
}
a == 1
f(x=1)
if a:
    indented = 1
é=\
 5
`, "parameters")
	tagged(n, "later = 1", "parameters")
	got, err := n.Parameters()
	want := []notebook.Declared{
		{"a", "None", "1", ""},
		{"b", "int", "2", "how many"},
		{"c", "float", "3.5", `as in "x = y"`},
		{"d", "List[str]", `["#", 'a=b',]`, "the list"},
		{"url", "None", "'http://host/?a=b#c'", ""},
		{"text", "None", "\"\"\"two\nlines\"\"\"", "help"},
		{"e", "dict[str, int] | None", `{"x": 1,}`, ""},
		{"é", "None", "5", ""},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v\n got %q\nwant %q", err, got, want)
	}

	if got, err := notebook.New().Parameters(); err != nil || len(got) != 0 {
		t.Errorf("of an empty notebook: %q, %v", got, err)
	}
	n.Metadata.Set("language_info", map[string]string{"name": "R"})
	if _, err := n.Parameters(); err == nil || !strings.Contains(err.Error(), "parameters in R") {
		t.Errorf("of R: %v", err)
	}
	for _, broken := range []string{"a = '", "a = '''", "a = (", "a = ')\n]", `a = "\`, "\\", "#", "=", "a="} {
		n := notebook.New()
		tagged(n, broken, "parameters")
		if _, err := n.Parameters(); err != nil {
			t.Errorf("%q: %v", broken, err)
		}
	}
}
