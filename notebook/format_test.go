package notebook_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/mime"
	"github.com/k2sandbox/k2sandbox/notebook"
)

func read(t *testing.T, document string) *notebook.Notebook {
	t.Helper()
	n, err := notebook.Read(strings.NewReader(document))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func write(t *testing.T, n *notebook.Notebook) string {
	t.Helper()
	var b strings.Builder
	if err := n.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Documents that are written as they were read: in many layouts.
func TestKept(t *testing.T) {
	for name, document := range map[string]string{
		"normal form": `{
 "cells": [
  {
   "cell_type": "code",
   "execution_count": 1,
   "id": "a1",
   "metadata": {
    "tags": []
   },
   "outputs": [
    {
     "name": "stdout",
     "output_type": "stream",
     "text": [
      "é\u0007\n"
     ]
    }
   ],
   "source": []
  }
 ],
 "metadata": {},
 "nbformat": 4,
 "nbformat_minor": 5
}
`,
		"Colab's: two spaces, own order, no last newline": `{
  "nbformat": 4,
  "nbformat_minor": 0,
  "metadata": {
    "colab": {"name": "x",   "provenance": [ ]},
    "n": [1.0, 1e5, 12345678901234567890123, -0, "\u00e9\/"]
  },
  "cells": [
    {
      "cell_type": "markdown", "source": "one string\n",
      "attachments": {"a.png": {"image/png": "AAAA"}},
      "metadata": {"id": "x"}
    }
  ]
}`,
		"tabs and CR LF":      "{\r\n\t\"cells\": [],\r\n\t\"metadata\": {},\r\n\t\"nbformat\": 4,\r\n\t\"nbformat_minor\": 2\r\n}\r\n",
		"no indent":           "{\n\"metadata\": {},\n\"nbformat\": 4,\n\"nbformat_minor\": 2,\n\"cells\": []\n}\n",
		"a minor of tomorrow": "{\n \"cells\": [],\n \"metadata\": {},\n \"nbformat\": 4,\n \"nbformat_minor\": 99,\n \"new\": {\"a\":1}\n}\n",
		"unknown types":       "{\n \"cells\": [\n  {\"cell_type\": \"sql\", \"source\": \"select\", \"id\": \"a\", \"metadata\": {}},\n  {\"cell_type\": \"code\", \"id\": \"b\", \"outputs\": [{\"output_type\": \"new\", \"x\": 1}], \"source\": [\"a\"]}\n ],\n \"metadata\": {},\n \"nbformat\": 4,\n \"nbformat_minor\": 5\n}\n",
	} {
		t.Run(name, func(t *testing.T) {
			if got := write(t, read(t, document)); got != document {
				t.Errorf("got %s", got)
			}
		})
	}
}

// What a change touches, and nothing else, differs.
func TestChanged(t *testing.T) {
	document := `{
    "metadata": {"z": 1.0, "a": {"deep":[1,
 2]}},
    "nbformat_minor": 4,
    "nbformat": 4,
    "cells": [
        {"cell_type": "markdown",   "metadata": {}, "source": "text"},
        {
            "source": "a\nb",
            "cell_type": "code",
            "metadata": {"mine": 1e5,  "b": 2},
            "outputs": [{"output_type": "stream", "name": "stdout", "text": "old"}],
            "execution_count": null
        }
    ]
}`
	n := read(t, document)
	c, one := n.Cells[1], 1
	c.ExecutionCount = &one
	c.Metadata.Set("execution", map[string]string{"b": "<&>", "a": "\u2028\x01"})
	c.Outputs = append(c.Outputs, notebook.Output{
		Type: notebook.DisplayData,
		Data: mime.New([]byte(`{"text/plain":"x\ny","image/png":"AAAA\n","application/json":{"b":[],"a":1.50}}`)),
	})
	n.Metadata.Set("z", 2)
	want := strings.NewReplacer(
		`{"z": 1.0, "a": {"deep":[1,
 2]}}`, `{
        "z": 2,
        "a": {"deep":[1,
 2]}
    }`,
		`{"mine": 1e5,  "b": 2}`, `{
                "mine": 1e5,
                "b": 2,
                "execution": {
                    "a": "`+"\u2028"+`\u0001",
                    "b": "<&>"
                }
            }`,
		`[{"output_type": "stream", "name": "stdout", "text": "old"}]`, `[
                {"output_type": "stream", "name": "stdout", "text": "old"},
                {
                    "data": {
                        "application/json": {
                            "a": 1.50,
                            "b": []
                        },
                        "image/png": "AAAA\n",
                        "text/plain": [
                            "x\n",
                            "y"
                        ]
                    },
                    "metadata": {},
                    "output_type": "display_data"
                }
            ]`,
		`"execution_count": null`, `"execution_count": 1`,
	).Replace(document)
	if got := write(t, n); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// Every kind of change of a cell or output is seen, also one in place.
func TestNoChangeIsMissed(t *testing.T) {
	document := `{
 "cells": [
  {"cell_type": "code", "execution_count": 1, "id": "a", "metadata": {}, "source": "x", "outputs": [
   {"output_type": "execute_result", "execution_count": 1, "data": {"text/plain": "1"}, "metadata": {}},
   {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["t"]},
   {"output_type": "stream", "name": "stdout", "text": "s"}]}
 ],
 "metadata": {},
 "nbformat": 4,
 "nbformat_minor": 5
}
`
	for i, change := range []func(c *notebook.Cell){
		func(c *notebook.Cell) { c.ID = "b" },
		func(c *notebook.Cell) { c.Type = notebook.Raw },
		func(c *notebook.Cell) { c.Source = "y" },
		func(c *notebook.Cell) { *c.ExecutionCount = 2 },
		func(c *notebook.Cell) { c.ExecutionCount = nil },
		func(c *notebook.Cell) { c.Metadata.Set("a", 1) },
		func(c *notebook.Cell) { c.Extra.Set("a", 1) },
		func(c *notebook.Cell) { c.Outputs = nil },
		func(c *notebook.Cell) { c.Outputs = c.Outputs[:2] },
		func(c *notebook.Cell) { slices.Reverse(c.Outputs) },
		func(c *notebook.Cell) { *c.Outputs[0].ExecutionCount = 2 },
		func(c *notebook.Cell) { c.Outputs[0].Data = mime.New([]byte(`{"text/plain":"2"}`)) },
		func(c *notebook.Cell) { c.Outputs[0].Metadata = mime.New([]byte(`{"a":1}`)) },
		func(c *notebook.Cell) { c.Outputs[1].Traceback[0] = "T" },
		func(c *notebook.Cell) { c.Outputs[1].Ename = "F" },
		func(c *notebook.Cell) { c.Outputs[1].Evalue = "F" },
		func(c *notebook.Cell) { c.Outputs[2].Text += "t" },
		func(c *notebook.Cell) { c.Outputs[2].Name = "stderr" },
		func(c *notebook.Cell) { c.Outputs[2].Extra.Set("a", 1) },
		func(c *notebook.Cell) { c.Outputs[2] = notebook.Output{Type: notebook.Stream} },
	} {
		n := read(t, document)
		change(n.Cells[0])
		got := write(t, n)
		if got == document {
			t.Errorf("change %d was not written", i)
		}
		again := read(t, got)
		if a, b := again.Cells[0], n.Cells[0]; a.ID != b.ID || a.Type != b.Type || a.Source != b.Source ||
			!reflect.DeepEqual(a.ExecutionCount, b.ExecutionCount) && b.Type == notebook.Code {
			t.Errorf("change %d: wrote %s", i, got)
		}
	}
}

// Nothing that is read or shown makes what is written much longer than it is.
func TestLayoutIsBounded(t *testing.T) {
	n := read(t, "{\n"+strings.Repeat(" ", 100_000)+`"nbformat":4,"nbformat_minor":4,"metadata":{},"cells":[{"cell_type":"code","source":"1"}]}`)
	deep := `{"application/json":` + strings.Repeat("[", 5000) + `"` + strings.Repeat("x", 1_000_000) + `"` + strings.Repeat("]", 5000) + "}"
	n.Cells[0].Outputs = []notebook.Output{{Type: notebook.DisplayData, Data: mime.New([]byte(deep))}}
	got := write(t, n)
	if len(got) > 1_100_000 {
		t.Errorf("wrote %d bytes", len(got))
	}
	if data := read(t, got).Cells[0].Outputs[0].Data; len(data.Raw()) < len(deep) {
		t.Errorf("read %d bytes again of %d", len(data.Raw()), len(deep))
	}
}

// A document on one line has no layout to keep; its values are kept.
func TestOneLine(t *testing.T) {
	n := read(t, `{"nbformat":4,"nbformat_minor":4,"metadata":{"z":{"b":1.0,"a":[]}},"x":[1e5, 2],"cells":[{"source":"a\u2028b","outputs":[{"output_type":"stream","text":"x\n","name":"stdout"}],"cell_type":"code","metadata":{},"execution_count":null}]}`)
	want := `{
 "cells": [
  {
   "cell_type": "code",
   "execution_count": null,
   "metadata": {},
   "outputs": [
    {
     "name": "stdout",
     "output_type": "stream",
     "text": [
      "x\n"
     ]
    }
   ],
   "source": [
    "a` + "\u2028" + `",
    "b"
   ]
  }
 ],
 "metadata": {
  "z": {"b":1.0,"a":[]}
 },
 "nbformat": 4,
 "nbformat_minor": 4,
 "x": [1e5, 2]
}
`
	if got := write(t, n); got != want {
		t.Errorf("got %s", got)
	}
}

func TestNew(t *testing.T) {
	n := notebook.New()
	n.Metadata.Set("kernelspec", map[string]string{"name": "python3", "language": "Python"})
	c := n.NewCell(notebook.Code, "a\r\nb\rc\x0bd\x0ce\x1cf\x1dg\x1eh\u0085i\u2029j")
	c.ID = "x"
	n.Cells = append(n.Cells, c)
	want := `{
 "cells": [
  {
   "cell_type": "code",
   "execution_count": null,
   "id": "x",
   "metadata": {},
   "outputs": [],
   "source": [
    "a\r\n",
    "b\r",
    "c\u000b",
    "d\f",
    "e\u001c",
    "f\u001d",
    "g\u001e",
    "h` + "\u0085" + `",
    "i` + "\u2029" + `",
    "j"
   ]
  }
 ],
 "metadata": {
  "kernelspec": {
   "language": "Python",
   "name": "python3"
  }
 },
 "nbformat": 4,
 "nbformat_minor": 5
}
`
	if got := write(t, n); got != want {
		t.Errorf("got %s", got)
	}
	if n.Language() != "python" || n.Kernel() != "python3" {
		t.Errorf("language %q, kernel %q", n.Language(), n.Kernel())
	}
}

func TestRead(t *testing.T) {
	n := read(t, "\ufeff"+`{"nbformat":4,"nbformat_minor":5,"metadata":{"nan":[NaN,Infinity,-Infinity],"s":"NaN \" NaN"},"cells":[
{"cell_type":"code","id":"same","metadata":{"tags":["parameters"],"trusted":true},"execution_count":3,"source":["a\n","b"],"outputs":[
 {"output_type":"execute_result","execution_count":3,"data":{"text/plain":["x\n","y"],"application/json":["a","b"],"text/x":["a",1]},"metadata":{"isolated":true}},
 {"output_type":"error","ename":"E","evalue":"v","traceback":["1","2"]}]},
{"cell_type":"raw","id":"same","source":"r"},{"cell_type":"raw","id":"not valid","metadata":{"tags":3},"source":"r"},{"cell_type":"raw","source":"r"}]}`)
	c := n.Cells[0]
	if c.Source != "a\nb" || !c.HasTag("parameters") || c.HasTag("x") || *c.ExecutionCount != 3 || len(c.Outputs) != 2 {
		t.Errorf("cell %+v", c)
	}
	if got := string(c.Outputs[0].Data.Raw()); got != `{"text/plain":"x\ny","application/json":["a","b"],"text/x":["a",1]}` {
		t.Errorf("data %s", got)
	}
	if o := c.Outputs[1]; o.Ename != "E" || o.Evalue != "v" || !slices.Equal(o.Traceback, []string{"1", "2"}) {
		t.Errorf("error %+v", o)
	}
	if nan, _ := n.Metadata.Get("nan"); string(nan) != "[null,null,null]" {
		t.Errorf("NaN became %s", nan)
	}
	if s, _ := n.Metadata.Get("s"); string(s) != `"NaN \" NaN"` {
		t.Errorf("a string became %s", s)
	}
	ids := map[string]bool{}
	for _, c := range n.Cells {
		ids[c.ID] = len(c.ID) == 8 || c.ID == "same"
	}
	if len(ids) != 4 || ids["not valid"] || len(n.Warnings) != 3 {
		t.Errorf("ids %v, warnings %q", ids, n.Warnings)
	}
	if got := write(t, n); strings.Contains(got, "trusted") || !json.Valid([]byte(got)) {
		t.Errorf("wrote %s", got)
	}
}

func TestIDsAreOfFourPointFive(t *testing.T) {
	for minor, want := range map[string]int{"0": 0, "4": 0, "5": 8, "6": 8} {
		n := read(t, `{"nbformat":4,"nbformat_minor":`+minor+`,"metadata":{},"cells":[{"cell_type":"code","source":""}]}`)
		if got := n.Cells[0].ID; len(got) != want {
			t.Errorf("4.%s: id %q", minor, got)
		}
		if got := n.NewCell(notebook.Raw, "").ID; len(got) != want {
			t.Errorf("4.%s: new id %q", minor, got)
		}
	}
}

func TestReadErrors(t *testing.T) {
	cell := func(cell string) string {
		return `{"nbformat":4,"nbformat_minor":4,"metadata":{},"cells":[` + cell + `]}`
	}
	output := func(output string) string {
		return cell(`{"cell_type":"code","source":"","outputs":[{},` + output + `]}`)
	}
	output0 := func(o string) string { return cell(`{"cell_type":"code","source":"","outputs":[` + o + `]}`) }
	for document, want := range map[string]string{
		"":                               "it is empty",
		" \n":                            "it is empty",
		"{\n  \"cells\": [}":             "line 2, column 13",
		"{}x":                            "line 1, column 3",
		"[]":                             "not a JSON object",
		"{}":                             "nbformat: missing",
		"\xff":                           "not UTF-8",
		`{"nbformat":3,"worksheets":[]}`: "nbformat: is 3",
		`{"nbformat":5,"cells":[]}`:      "nbformat: is 5",
		`{"nbformat":"4","cells":[]}`:    "nbformat: want a whole number",
		`{"nbformat":4}`:                 "cells: want a list",
		`{"nbformat":4,"cells":{}}`:      "cells: want a list",
		`{"nbformat":4,"cells":[],"metadata":[]}`: "metadata: want an object",
		cell(`7`):                               "cells[0]: want an object",
		cell(`{}`):                              "cells[0].cell_type: missing",
		cell(`{"cell_type":7}`):                 "cells[0].cell_type: want a string",
		cell(`{"cell_type":"code","source":7}`): "cells[0].source: want a string or a list of strings",
		cell(`{"cell_type":"code","source":["",7]}`):                "cells[0].source[1]: want a string",
		cell(`{"cell_type":"code","metadata":7}`):                   "cells[0].metadata: want an object",
		cell(`{"cell_type":"code","outputs":{}}`):                   "cells[0].outputs: want a list",
		cell(`{"cell_type":"code","execution_count":1.5}`):          "cells[0].execution_count: want a whole number",
		cell(`{"cell_type":"code","id":7}`):                         "cells[0].id: want a string",
		output(`{}`):                                                "cells[0].outputs[0].output_type: missing",
		output0(`7`):                                                "cells[0].outputs[0]: want an object",
		output0(`{"output_type":"stream","text":{}}`):               "cells[0].outputs[0].text: want a string or a list of strings",
		output0(`{"output_type":"error","traceback":"a"}`):          "cells[0].outputs[0].traceback: want a list of strings",
		output0(`{"output_type":"display_data","data":[]}`):         "cells[0].outputs[0].data: want an object",
		strings.Repeat("[", 100_000):                                "exceeded max depth",
		cell(strings.Repeat("[", 9000) + strings.Repeat("]", 9000)): "cells[0]: want an object",
	} {
		n, err := notebook.Read(strings.NewReader(document))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, %v; want %q", document, n, err, want)
		}
	}
}

// Notebooks of the comparison corpus are in nbformat's normal form, and stay.
func TestCorpusIsKept(t *testing.T) {
	files, _ := filepath.Glob("testdata/compare/*.ipynb")
	if len(files) < 15 {
		t.Fatalf("found %d notebooks", len(files))
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		n, err := notebook.Read(bytes.NewReader(raw))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if got := write(t, n); got != string(raw) {
			t.Errorf("%s changed: %s", file, got)
		}
	}
}

func TestObject(t *testing.T) {
	var o notebook.Object
	if err := json.Unmarshal([]byte(`{"b":1.0,"a":{"x" : "\u00e9"},"b":2.50}`), &o); err != nil {
		t.Fatal(err)
	}
	other := o
	o.Set("c", []any{"<", nil})
	o.Set("b", 2)
	o.Delete("nothing")
	raw, _ := json.Marshal(&o)
	if want := `{"b":2,"a":{"x":"\u00e9"},"c":["\u003c",null]}`; string(raw) != want {
		t.Errorf("got %s, want %s", raw, want)
	}
	if b, ok := other.Get("b"); string(b) != "2.50" || !ok || other.Len() != 3 {
		t.Errorf("a copy changed: %s", b)
	}
	o.Delete("a")
	if _, ok := o.Get("a"); ok || !slices.Equal(o.Keys(), []string{"b", "c"}) {
		t.Errorf("keys %v", o.Keys())
	}
	if err := json.Unmarshal([]byte(`[]`), &o); err == nil {
		t.Error("a list was taken for an object")
	}
}

// What a kernel sends where only text may stand is written as text.
func TestDataThatIsNoText(t *testing.T) {
	n := notebook.New()
	cell := n.NewCell(notebook.Code, "")
	data := `{"text/plain":5,"text/html":["a",1],"image/png":{"a":null},"text/x":["a","b"],"application/json":5,"application/x+json":5}`
	cell.Outputs = []notebook.Output{{Type: notebook.DisplayData, Data: mime.New([]byte(data)), Metadata: mime.New([]byte("{}"))}}
	n.Cells = append(n.Cells, cell)
	var got struct {
		Cells []struct {
			Outputs []struct{ Data map[string]any }
		}
	}
	if err := json.Unmarshal([]byte(write(t, n)), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"text/plain": []any{"5"}, "text/html": []any{`["a",1]`}, "image/png": []any{`{"a":null}`}, "text/x": []any{"a", "b"},
		"application/json": 5.0, "application/x+json": 5.0,
	}
	if !reflect.DeepEqual(got.Cells[0].Outputs[0].Data, want) {
		t.Errorf("got %v, want %v", got.Cells[0].Outputs[0].Data, want)
	}
}
