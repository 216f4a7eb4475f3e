package notebook_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/notebook"
)

// What can be read can be written, changed or not, and read again as the same.
func FuzzRead(f *testing.F) {
	files, _ := filepath.Glob("testdata/compare/nbformat*.ipynb")
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(raw))
	}
	f.Add(`{"nbformat":4,"nbformat":4,"cells":[{"cell_type":"code","cell_type":"raw","source":["a","b"],"source":"\ud800","outputs":[{"output_type":"display_data","data":{"a":["\n"],"a":[1]},"metadata":null}]}],"x":NaN}`)
	f.Add("{\r\n\t\"nbformat\":4,\"cells\":[{\"cell_type\":\"code\",\"metadata\":null,\"outputs\":[{\"output_type\":\"error\",\"traceback\":[\"\\u2028\"]}]}]}\n\n")
	f.Fuzz(func(t *testing.T, document string) {
		n, err := notebook.Read(strings.NewReader(document))
		if err != nil {
			return
		}
		first := write(t, n)
		again := read(t, first)
		if len(again.Warnings) > 0 {
			t.Errorf("what was written needs repair: %q", again.Warnings)
		}
		if second := write(t, again); second != first {
			t.Errorf("the second time it is\n%q\nnot\n%q", second, first)
		}
		for _, c := range n.Cells {
			c.Metadata.Set("fuzz", []any{"\x00\u2028\xff", 1})
			c.Outputs = append(c.Outputs, notebook.Output{Type: notebook.Stream, Name: "stdout", Text: "a\xff\n"})
			for i := range c.Outputs {
				c.Outputs[i].Extra.Set("fuzz", map[string]any{})
			}
		}
		changed := write(t, n)
		if !json.Valid([]byte(changed)) {
			t.Fatalf("changed, it is no JSON: %q", changed)
		}
		for i, c := range read(t, changed).Cells {
			if was := n.Cells[i]; c.Source != was.Source || c.ID != was.ID || c.Type == notebook.Code && len(c.Outputs) != len(was.Outputs) {
				t.Errorf("cell %d was %+v, is %+v", i, was, c)
			}
		}
		if _, err := n.Parameters(); err != nil && n.Language() == "python" {
			t.Error(err)
		}
	})
}
