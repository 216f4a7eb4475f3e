package notebook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/notebook"
)

// The tests share a kernel, for to start one takes a second of CPU. One that dies is replaced.
var shared *executor.Context

func TestMain(m *testing.M) { os.Exit(withKernel(m)) }

func withKernel(m *testing.M) int {
	python := os.Getenv("K2_TEST_PYTHON")
	if python == "" {
		fmt.Fprintln(os.Stderr, "K2_TEST_PYTHON names no interpreter with ipykernel: run make test")
		return 1
	}
	k, err := kernel.Start(context.Background(), kernel.Options{Spec: kernel.PythonSpec(python)})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer k.Close()
	shared = executor.New("shared", k, executor.Options{Grace: 2 * time.Second})
	defer shared.Close(executor.Aborted)
	return m.Run()
}

// of returns a notebook of code cells.
func of(sources ...string) *notebook.Notebook {
	nb := notebook.New()
	for _, source := range sources {
		nb.Cells = append(nb.Cells, nb.NewCell(notebook.Code, source))
	}
	return nb
}

// run runs the notebook to its end, and returns all events, the last of which is Ended.
func run(t *testing.T, nb *notebook.Notebook, o notebook.Options) []notebook.Event {
	t.Helper()
	var events []notebook.Event
	for e, err := range notebook.Run(t.Context(), shared, nb, o) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	if last := events[len(events)-1]; last.Type != notebook.Ended {
		t.Fatalf("the last event is %+v", last)
	}
	return events
}

// ends runs the notebook, and checks how that ends.
func ends(t *testing.T, nb *notebook.Notebook, o notebook.Options, status executor.Status) notebook.Event {
	t.Helper()
	events := run(t, nb, o)
	end := events[len(events)-1]
	if end.Status != status {
		t.Fatalf("ended as %q, want %q: %+v", end.Status, status, end)
	}
	return end
}

// shown spells the outputs of a cell on one line.
func shown(c *notebook.Cell) string {
	var parts []string
	for _, o := range c.Outputs {
		switch o.Type {
		case notebook.Stream:
			parts = append(parts, fmt.Sprintf("%s %q", o.Name, o.Text))
		case notebook.ErrorOutput:
			parts = append(parts, fmt.Sprintf("error %s: %s", o.Ename, o.Evalue))
		default:
			text, _ := o.Data.Get("text/plain")
			parts = append(parts, o.Type+" "+text.Text())
		}
	}
	return strings.Join(parts, ", ")
}

func wants(t *testing.T, c *notebook.Cell, want string) {
	t.Helper()
	if got := shown(c); got != want {
		t.Errorf("cell %q shows\n %s\nwant\n %s", c.Source, got, want)
	}
}

// member returns a member of an object as compact JSON.
func member(t *testing.T, o notebook.Object, key string) string {
	t.Helper()
	raw, ok := o.Get(key)
	if !ok {
		t.Fatalf("no %s", key)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestCellsShowWhatTheyDid(t *testing.T) {
	nb := of("import sys\nprint('a'); print('b')", " \n", "print('c'); display(1); print('d')\n2", "None")
	nb.Cells = append(nb.Cells, nb.NewCell(notebook.Markdown, "1 / 0"))
	ends(t, nb, notebook.Options{}, executor.OK)
	wants(t, nb.Cells[0], `stdout "a\nb\n"`)
	wants(t, nb.Cells[1], "")
	wants(t, nb.Cells[2], `stdout "c\n", display_data 1, stdout "d\n", execute_result 2`)
	if n := nb.Cells[2].Outputs[3].ExecutionCount; n == nil || nb.Cells[2].ExecutionCount == nil || *n != *nb.Cells[2].ExecutionCount {
		t.Errorf("execution counts %v and %v", n, nb.Cells[2].ExecutionCount)
	}
	if nb.Cells[1].ExecutionCount != nil {
		t.Error("an empty cell was counted")
	}
	if info := member(t, nb.Metadata, "language_info"); !strings.Contains(info, `"name":"python"`) || !strings.Contains(info, "codemirror_mode") {
		t.Errorf("language_info %s", info)
	}
	var times map[string]time.Time
	if err := json.Unmarshal([]byte(member(t, nb.Cells[0].Metadata, "execution")), &times); err != nil {
		t.Fatal(err)
	}
	order := []string{"iopub.status.busy", "iopub.execute_input", "shell.execute_reply", "iopub.status.idle"}
	for i, name := range order {
		if times[name].IsZero() || times[name].Before(times[order[0]]) || i == 3 && len(times) != 4 {
			t.Errorf("times %v", times)
		}
	}
}
