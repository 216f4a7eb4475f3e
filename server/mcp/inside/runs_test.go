package inside_test

import (
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
)

func TestCode(t *testing.T) {
	run, text := code(t, "print('a'); import sys; print('b', file=sys.stderr); 1 + 1")
	if run.Status != "ok" || run.Stdout != "a\n" || run.Stderr != "b\n" || run.Result != "2\n" {
		t.Errorf("%+v", run)
	}
	if want := "a\n\nstderr:\nb\n\nresult:\n2"; text != want {
		t.Errorf("%q, want %q", text, want)
	}
	if run, text = code(t, "1 + 2"); text != "3" || run.Result != "3\n" {
		t.Errorf("%q, %+v", text, run)
	}
	if _, text = code(t, "x = 1"); text != "(no output)" {
		t.Errorf("%q", text)
	}
	run, text = code(t, "1 / 0")
	if run.Status != "error" || run.Error == nil || run.Error.Name != "ZeroDivisionError" || run.Error.Value != "division by zero" {
		t.Errorf("%+v", run)
	}
	t.Log(text)
	a, text := use(t, api.ToolRunCode, api.MCPRunCode{Code: "for i in range(100000): print('line', i)"})
	t.Log(text[len(text)/2:], a.Run.Omitted)
}
