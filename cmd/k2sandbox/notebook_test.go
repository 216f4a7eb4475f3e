package main_test

import (
	"bufio"
	"encoding/base64"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/k2sandbox/k2sandbox/notebook"
)

// cells are the sources of code cells; "tag: source" gives one a tag.
func writeNotebook(t *testing.T, name string, cells ...string) string {
	t.Helper()
	n := notebook.New()
	for _, source := range cells {
		tag, rest, tagged := strings.Cut(source, ": ")
		if !tagged {
			rest = source
		}
		c := n.NewCell(notebook.Code, rest)
		if tagged {
			c.Metadata.Set("tags", []string{tag})
		}
		n.Cells = append(n.Cells, c)
	}
	name = filepath.Join(t.TempDir(), name)
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := n.Write(file); err != nil {
		t.Fatal(err)
	}
	return name
}

func readNotebook(t *testing.T, name string) *notebook.Notebook {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	n, err := notebook.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// shown is the text of all streams and results of a notebook.
func shown(n *notebook.Notebook) string {
	var b strings.Builder
	for _, c := range n.Cells {
		for _, o := range c.Outputs {
			b.WriteString(o.Text)
			if v, ok := o.Data.Get("text/plain"); ok {
				b.WriteString(v.Text() + "\n")
			}
		}
	}
	return b.String()
}

func notebookRun(args ...string) call {
	return call{args: append([]string{"notebook", "run", "--python", interpreter}, args...)}
}

func TestNotebookStreamFiles(t *testing.T) {
	t.Parallel()
	in := writeNotebook(t, "in.ipynb", "print('a')", "import sys; print('b', file=sys.stderr); 1", "print('c')")
	out, errs := filepath.Join(filepath.Dir(in), "o"), filepath.Join(filepath.Dir(in), "e")
	if got := run(t, notebookRun(in, in, "--stdout-file", out, "--stderr-file", errs, "-l", "python", "-p", "x", "1")); got.status != 0 {
		t.Errorf("%+v", got)
	}
	for name, want := range map[string]string{out: "a\nc\n", errs: "b\n"} {
		if raw, err := os.ReadFile(name); err != nil || string(raw) != want {
			t.Errorf("%s: %q, %v", name, raw, err)
		}
	}
}

// -k python3 is what papermill's users say, also where no Jupyter is installed.
func TestNotebookKernelPython3(t *testing.T) {
	t.Parallel()
	in := writeNotebook(t, "in.ipynb", "print(6*7)")
	alone := filepath.Join(t.TempDir(), "bin", "python")
	if err := os.Mkdir(filepath.Dir(alone), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(alone, []byte("#!/bin/sh\nexec '"+interpreter+"' \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	c := call{args: []string{"notebook", "run", in, "-", "-k", "python3", "--python", alone}}
	c.env = []string{"HOME=" + t.TempDir(), "JUPYTER_PATH=", "JUPYTER_DATA_DIR=", "XDG_DATA_HOME="}
	if got := run(t, c); got.status != 0 || !strings.Contains(got.stdout, "42") {
		t.Errorf("%+v", got)
	}
}

func TestNotebookRun(t *testing.T) {
	t.Parallel()
	in := writeNotebook(t, "in.ipynb", "parameters: a, b, c, d, e, f, g, p = [None] * 8", "print(a, b, c, d, e, f, g, p)", "6*7")
	dir := filepath.Dir(in)
	yaml := filepath.Join(dir, "p.yaml")
	if err := os.WriteFile(yaml, []byte("a: lost\nb: {z: [yes, 2026-01-02, .5], a: ~}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := notebookRun(in, filepath.Join(dir, "out_{name}_{a:03d}.ipynb"),
		"-f", yaml, "-y", "c: [&x 1, *x]", "-b", base64.StdEncoding.EncodeToString([]byte(`{"d": "é"}`)),
		"-p", "a", "7", "-p", "e", "None", "-r", "f", "7", "-p", "g=-1.5", "--parameters", "name", "Ada", "--parameters_raw=p", "x=y")
	c.args[len(c.args)-2] = "--parameters_raw=p=x=y"
	c.args = c.args[:len(c.args)-1]
	got := run(t, c)
	got.expect(t, 0, "")
	out := readNotebook(t, filepath.Join(dir, "out_Ada_007.ipynb"))
	want := "7 {'z': [True, '2026-01-02', 0.5], 'a': None} [1, 1] é None 7 -1.5 x=y\n42\n"
	if text := shown(out); text != want {
		t.Errorf("shown %q, want %q", text, want)
	}
	if out.Language() != "python" || out.Metadata.Len() == 0 {
		t.Errorf("metadata %v", out.Metadata.Keys())
	}
}

func TestNotebookStandardStreams(t *testing.T) {
	t.Parallel()
	in := writeNotebook(t, "in.ipynb", "print(PAPERMILL_INPUT_PATH, PAPERMILL_OUTPUT_PATH)", "import sys; print('err', file=sys.stderr)", "1")
	raw, err := os.ReadFile(in)
	if err != nil {
		t.Fatal(err)
	}
	c := notebookRun("-", "--inject-paths", "--log-output")
	c.stdin = string(raw)
	got := run(t, c)
	n, err := notebook.Read(strings.NewReader(got.stdout))
	if err != nil || got.status != 0 {
		t.Fatal(err, got)
	}
	if text := shown(n); text != "- -\nerr\n1\n" {
		t.Errorf("shown %q", text)
	}
	got.complains(t, "- -\n", "err\n", "1\n", "no cell is tagged parameters")
}

func TestNotebookErrorIsSaved(t *testing.T) {
	t.Parallel()
	in := writeNotebook(t, "in.ipynb", "print('before')", "1/0", "print('never')")
	out := filepath.Join(filepath.Dir(in), "out.ipynb")
	if err := os.WriteFile(out, nil, 0o640); err != nil {
		t.Fatal(err)
	}
	got := run(t, notebookRun(in, out))
	got.expect(t, 1, "")
	got.complains(t, "ZeroDivisionError", "cell 2 of the notebook")
	if text := shown(readNotebook(t, out)); text != "before\n" {
		t.Errorf("shown %q", text)
	}
	if info, err := os.Stat(out); err != nil || info.Mode() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(in), ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	run(t, notebookRun(in, out, "--allow-errors", "--papermill-metadata=false")).expect(t, 0, "")
	if text := shown(readNotebook(t, out)); text != "before\nnever\n" {
		t.Errorf("with errors allowed: %q", text)
	}
}

func TestNotebookTimeoutAndDeath(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]int{"import time; time.sleep(1000)": 124, "import os; os._exit(3)": 138} {
		in := writeNotebook(t, "in.ipynb", "print('before')", source)
		out := filepath.Join(filepath.Dir(in), "out.ipynb")
		got := run(t, notebookRun(in, out, "--execution-timeout", "2"))
		got.expect(t, want, "")
		if text := shown(readNotebook(t, out)); text != "before\n" {
			t.Errorf("%s: shown %q", source, text)
		}
	}
}

func TestNotebookInterrupt(t *testing.T) {
	t.Parallel()
	in := writeNotebook(t, "in.ipynb", "print('before')", "import time\nwhile True:\n    print('runs', flush=True)\n    time.sleep(1000)", "print('never')")
	out := filepath.Join(filepath.Dir(in), "out.ipynb")
	c := notebookRun(in, out, "--log-output")
	cmd := c.command(t)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		if lines.Text() == "runs" {
			_ = cmd.Process.Signal(syscall.SIGINT)
		}
	}
	_ = cmd.Wait()
	if status := cmd.ProcessState.ExitCode(); status != 130 {
		t.Errorf("status %d", status)
	}
	if text := shown(readNotebook(t, out)); text != "before\nruns\n" {
		t.Errorf("shown %q", text)
	}
	nothingLeft(t, c.temp)
}

// What needs no kernel starts none: there is no such Python.
func TestNotebookWithoutKernel(t *testing.T) {
	t.Parallel()
	in := writeNotebook(t, "in.ipynb", "parameters: a: int = 1  # how many\nlong = 'x' * 1000", "print(a)")
	bare := func(args ...string) call {
		return call{args: append([]string{"notebook", "run", "--python", "/no/python"}, args...)}
	}
	run(t, bare(in, "--help-notebook")).expect(t, 0, "Usage: k2sandbox notebook run IN [OUT] [flags]\n\nParameters inferred for notebook '"+in+
		"':\n  a: int (default 1)              how many\n  long: Unknown type (default 'x' * 1000)\n")
	got := run(t, bare(in, "-", "-p", "a", "2", "--prepare-only", "--report-mode"))
	n, err := notebook.Read(strings.NewReader(got.stdout))
	if err != nil || len(n.Cells) != 3 || n.Cells[1].Source != "# Parameters\na = 2\n" {
		t.Errorf("prepared %v, %v", got, err)
	}
	if !strings.Contains(got.stdout, "source_hidden") {
		t.Error("report mode hid nothing")
	}

	broken := filepath.Join(t.TempDir(), "broken.ipynb")
	if err := os.WriteFile(broken, []byte(`{"nbformat":4,"cells":[{"cell_type":"code","source":7}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"/no/in.ipynb", "-"}, "/no/in.ipynb"},
		{[]string{broken, "-"}, "cells[0].source: want a string"},
		{[]string{in, "-", "-p", "a b", "1"}, `parameter "a b": not a name in Python`},
		{[]string{in, "-", "-y", "[1]"}, "--parameters-yaml: want a mapping"},
		{[]string{in, "-", "-y", "a: ["}, "--parameters-yaml: yaml:"},
		{[]string{in, "-", "-b", "?"}, "--parameters-base64: illegal base64"},
		{[]string{in, "-", "-f", "/no/file"}, "--parameters-file: open /no/file"},
		{[]string{in, "-", "-p", "a"}, `--parameters: "a": want a name and a value`},
		{[]string{in, "{missing}.ipynb"}, `missing parameter "missing"`},
		{[]string{in, "-"}, "--python"},
		{[]string{in, "-", "-k", "no_such_kernel"}, "no_such_kernel"},
	} {
		c := bare(tt.args...)
		if tt.args[len(tt.args)-1] == "no_such_kernel" {
			c.args = append([]string{"notebook", "run"}, tt.args...)
		}
		got := run(t, c)
		got.expect(t, 1, "")
		got.complains(t, tt.want)
	}
}

// A folder that is not there is told of before anything runs.
func TestNotebookOutputThatCannotBe(t *testing.T) {
	t.Parallel()
	in := writeNotebook(t, "in.ipynb", "open('ran', 'w').close()")
	c := notebookRun(in, filepath.Join(filepath.Dir(in), "no", "out.ipynb"))
	c.dir = t.TempDir()
	got := run(t, c)
	got.expect(t, 1, "")
	got.complains(t, "no such file or directory")
	if left, _ := fs.Glob(os.DirFS(c.dir), "*"); len(left) > 0 {
		t.Errorf("it ran: %v", left)
	}
}
