package agent_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/files"
	"github.com/k2sandbox/k2sandbox/notebook"
)

// written returns a notebook of code cells as it stands in a file.
func written(t *testing.T, edit func(*notebook.Notebook), sources ...string) []byte {
	t.Helper()
	nb := notebook.New()
	for _, source := range sources {
		nb.Cells = append(nb.Cells, nb.NewCell(notebook.Code, source))
	}
	if edit != nil {
		edit(nb)
	}
	var b bytes.Buffer
	if err := nb.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// lastLine reads the lines of a run to the end, calling do for each, and returns the last.
func lastLine(t *testing.T, n *agent.Notebook, do func(line string)) string {
	t.Helper()
	last := ""
	for line, err := range n.Lines(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		last = string(line.JSON)
		do(last)
	}
	if gjson.Get(last, "type").Str != "end" {
		t.Fatalf("the last line is %s", last)
	}
	return last
}

func TestNotebookIsSavedWhenTheSandboxEnds(t *testing.T) {
	dir, out := t.TempDir(), filepath.Join(t.TempDir(), "out.ipynb")
	box := start(t, dir, agent.Keep{})
	n, err := box.RunNotebook(t.Context(), agent.NotebookOptions{
		Notebook: bytes.NewReader(written(t, nil, "print('on', flush=True); import time; time.sleep(600)", "2")), Output: out,
	})
	if err != nil {
		t.Fatal(err)
	}
	last := lastLine(t, n, func(line string) {
		if gjson.Get(line, "text").Str == "on\n" {
			go box.Close() // the loop ends with what it does
		}
	})
	if gjson.Get(last, "status").Str != string(executor.SandboxKilled) || gjson.Get(last, "cell").Raw != "0" {
		t.Errorf("ended with %s", last)
	}
	if err := box.Close(); err != nil {
		t.Error(err)
	}
	saved, err := os.ReadFile(out)
	if err != nil || !strings.Contains(string(saved), `"on\n"`) || !strings.Contains(string(saved), "the sandbox was ended") {
		t.Errorf("saved %s: %v", saved, err)
	}
	if _, err := box.RunNotebook(t.Context(), agent.NotebookOptions{Notebook: bytes.NewReader(written(t, nil))}); !errors.Is(err, agent.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestNotebookFindsItsKernel(t *testing.T) {
	box := start(t, t.TempDir(), agent.Keep{})
	spec := func(metadata map[string]string) func(*notebook.Notebook) {
		return func(nb *notebook.Notebook) { nb.Metadata.Set("kernelspec", metadata) }
	}
	for name, c := range map[string]struct {
		edit   func(*notebook.Notebook)
		kernel string
		err    error
	}{
		"none named":           {nil, "", nil},
		"by name":              {spec(map[string]string{"name": "python3"}), "", nil},
		"by language":          {spec(map[string]string{"name": "conda-env-x", "language": "python"}), "", nil},
		"unknown":              {spec(map[string]string{"name": "ir", "language": "R"}), "", agent.ErrUnknownKernel},
		"unknown, no other":    {spec(map[string]string{"name": "ir"}), "", agent.ErrUnknownKernel},
		"another asked for":    {spec(map[string]string{"name": "ir"}), "python3", nil},
		"none named, language": {func(nb *notebook.Notebook) { nb.Metadata.Set("language_info", map[string]string{"name": "R"}) }, "", agent.ErrUnknownKernel},
		"unknown asked for":    {nil, "ir", agent.ErrUnknownKernel},
	} {
		n, err := box.RunNotebook(t.Context(), agent.NotebookOptions{
			Notebook: bytes.NewReader(written(t, c.edit)), Kernel: c.kernel,
		})
		if !errors.Is(err, c.err) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			lastLine(t, n, func(string) {})
		}
	}
	if len(box.Contexts()) != 1 {
		t.Errorf("contexts %+v", box.Contexts())
	}
	if _, err := box.CreateContext(t.Context(), agent.ContextOptions{Language: "PYTHON"}); err != nil {
		t.Errorf("a language in capitals: %v", err) // kernelspecs say R, notebooks r
	}
}

// Parameters are set in the language of the kernel that runs, not in that of the notebook.
func TestParametersAreInTheKernelsLanguage(t *testing.T) {
	box := start(t, t.TempDir(), agent.Keep{})
	edit := func(nb *notebook.Notebook) {
		nb.Metadata.Set("kernelspec", map[string]string{"name": "bash", "language": "bash"})
	}
	for _, o := range []agent.NotebookOptions{{Kernel: "python3"}, {Context: agent.DefaultContext}} {
		o.Notebook, o.Parameters = bytes.NewReader(written(t, edit, "print(a)")), []notebook.Parameter{{Name: "a", Value: nil}}
		n, err := box.RunNotebook(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if last := lastLine(t, n, func(string) {}); gjson.Get(last, "status").Str != string(executor.OK) {
			t.Errorf("%+v: ended with %s", o, last)
		}
	}
}

// A value that nests as deep as JSON may is too deep with the notebook around it.
func TestDeepOutputsLeaveTheEnd(t *testing.T) {
	box := start(t, t.TempDir(), agent.Keep{})
	n, err := box.RunNotebook(t.Context(), agent.NotebookOptions{Context: agent.DefaultContext, Notebook: bytes.NewReader(written(t, nil, `
import sys
sys.setrecursionlimit(200_000)
deep = []
for _ in range(9_997): deep = [deep]
display({"application/json": deep}, raw=True)
`))})
	if err != nil {
		t.Fatal(err)
	}
	if last := lastLine(t, n, func(string) {}); gjson.Get(last, "bytes").Int() < 10_000 {
		t.Errorf("ended with %.200s", last)
	}
}

func TestLargeNotebooksAreKept(t *testing.T) {
	box := start(t, t.TempDir(), agent.Keep{})
	n, err := box.RunNotebook(t.Context(), agent.NotebookOptions{
		Notebook: bytes.NewReader(written(t, nil, "print('x' * 1_000_000)")), Context: agent.DefaultContext,
	})
	if err != nil {
		t.Fatal(err)
	}
	last := lastLine(t, n, func(string) {})
	if gjson.Get(last, "notebook").Exists() || gjson.Get(last, "bytes").Int() < 1_000_000 {
		t.Errorf("ended with %.200s", last)
	}
	content, size, err := n.Executed()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(content)
	if err != nil || int64(len(raw)) != size || size != gjson.Get(last, "bytes").Int() {
		t.Errorf("%d bytes of %d: %v", len(raw), size, err)
	}
	if nb, err := notebook.Read(bytes.NewReader(raw)); err != nil || len(nb.Cells[0].Outputs[0].Text) != 1_000_001 {
		t.Errorf("cannot read it: %v", err)
	}
}

func TestBadNotebooksAreRefused(t *testing.T) {
	box := start(t, t.TempDir(), agent.Keep{})
	for name, c := range map[string]struct {
		o   agent.NotebookOptions
		err error
	}{
		"no JSON":        {agent.NotebookOptions{Notebook: strings.NewReader("x")}, agent.ErrBadNotebook},
		"no file":        {agent.NotebookOptions{Path: "/nowhere.ipynb"}, files.ErrNotExist},
		"no notebook":    {agent.NotebookOptions{Path: "/etc/passwd"}, agent.ErrBadNotebook},
		"no context":     {agent.NotebookOptions{Notebook: bytes.NewReader(written(t, nil)), Context: "x"}, agent.ErrNotFound},
		"bad parameters": {agent.NotebookOptions{Notebook: bytes.NewReader(written(t, nil)), Parameters: []notebook.Parameter{{Name: "a b"}}}, agent.ErrBadParameter},
	} {
		if _, err := box.RunNotebook(t.Context(), c.o); !errors.Is(err, c.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if kept := box.Notebooks(); len(kept) != 0 {
		t.Errorf("%d runs are kept", len(kept))
	}
}
