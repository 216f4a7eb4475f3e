package notebook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/journal"
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
	shared = executor.New("shared", k, executor.Options{Grace: time.Minute})
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

func TestDisplaysAreUpdatedInEveryCell(t *testing.T) {
	nb := of(
		"h = display(1, display_id='same'); display(2)",
		"display(3, display_id='same'); x = h.update(4)",
		"h.update(5); from IPython.display import update_display; update_display('none', display_id='unknown')",
	)
	ends(t, nb, notebook.Options{}, executor.OK)
	wants(t, nb.Cells[0], "display_data 5, display_data 2")
	wants(t, nb.Cells[1], "display_data 5")
	wants(t, nb.Cells[2], "")
}

func TestOutputIsCleared(t *testing.T) {
	nb := of(
		"from IPython.display import clear_output\nprint('a'); clear_output(); print('b')",
		"print('a'); clear_output(wait=True); print('b')",
		"print('a'); clear_output(wait=True)",
		"h = display(1, display_id='gone'); clear_output(); print('b', flush=True); h.update(2)",
	)
	ends(t, nb, notebook.Options{}, executor.OK)
	wants(t, nb.Cells[0], `stdout "b\n"`)
	wants(t, nb.Cells[1], `stdout "b\n"`)
	wants(t, nb.Cells[2], `stdout "a\n"`)
	wants(t, nb.Cells[3], `stdout "b\n"`)
}

func TestStreamsAreOneWhereAsked(t *testing.T) {
	const cell = "import sys\nfor i in range(3):\n    print(f'\\r{i}', end='', flush=True); print('e', file=sys.stderr, flush=True); display(i)\nprint('x\\b\\bab\\bc')"
	nb := of(cell, cell)
	ends(t, nb, notebook.Options{}, executor.OK)
	if n := len(nb.Cells[0].Outputs); n < 7 {
		t.Errorf("%d outputs: %s", n, shown(nb.Cells[0]))
	}
	nb = of(cell)
	ends(t, nb, notebook.Options{Coalesce: true}, executor.OK)
	wants(t, nb.Cells[0], `stdout "ac\n", stderr "e\ne\ne\n", display_data 0, display_data 1, display_data 2`)
}

func TestAnErrorEndsTheRunUnlessItMayBe(t *testing.T) {
	tagged := of("1 / 0", "'on'")
	tagged.Cells[0].Metadata.Set("tags", []string{"raises-exception"})
	for name, c := range map[string]struct {
		nb     *notebook.Notebook
		o      notebook.Options
		status executor.Status
	}{
		"not":    {of("1 / 0", "'on'"), notebook.Options{}, executor.Failed},
		"all":    {of("1 / 0", "'on'"), notebook.Options{AllowErrors: true}, executor.OK},
		"name":   {of("1 / 0", "'on'"), notebook.Options{AllowErrorNames: []string{"ZeroDivisionError"}}, executor.OK},
		"other":  {of("1 / 0", "'on'"), notebook.Options{AllowErrorNames: []string{"KeyError"}}, executor.Failed},
		"tag":    {tagged, notebook.Options{}, executor.OK},
		"forced": {tagged, notebook.Options{AllowErrors: true, ForceRaiseErrors: true}, executor.Failed},
		"usage":  {of("%nosuchmagic", "'on'"), notebook.Options{}, executor.Failed},
		"exit":   {of("raise SystemExit", "'on'"), notebook.Options{}, executor.OK},
		"exit 0": {of("import sys; sys.exit(0)", "'on'"), notebook.Options{}, executor.OK},
		"exit 3": {of("import sys; sys.exit(3)", "'on'"), notebook.Options{}, executor.Failed},
		"stdin":  {of("input()", "'on'"), notebook.Options{}, executor.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			c.nb.Cells[1].Outputs = nil
			end := ends(t, c.nb, c.o, c.status)
			wentOn := len(c.nb.Cells[1].Outputs) > 0
			if want := c.status == executor.OK && !strings.HasPrefix(name, "exit"); wentOn != want {
				t.Errorf("went on: %v", wentOn)
			}
			if c.status == executor.Failed && (end.Name == "" || end.Cell == nil || *end.Cell != 0 || end.CellID != c.nb.Cells[0].ID) {
				t.Errorf("end %+v", end)
			}
			if !strings.Contains(shown(c.nb.Cells[0]), "error ") {
				t.Errorf("outputs %s", shown(c.nb.Cells[0]))
			}
		})
	}
}

func TestTaggedCellsAreSkipped(t *testing.T) {
	nb := of("1", "2")
	nb.Cells[0].Metadata.Set("tags", []string{"skip-execution"})
	nb.Cells[0].Outputs = []notebook.Output{{Type: notebook.Stream, Name: "stdout", Text: "old"}}
	ends(t, nb, notebook.Options{Papermill: &notebook.Papermill{}}, executor.OK)
	wants(t, nb.Cells[0], `stdout "old"`)
	wants(t, nb.Cells[1], "execute_result 2")
	nb = of("3")
	nb.Cells[0].Metadata.Set("tags", []string{"no"})
	ends(t, nb, notebook.Options{SkipTag: "no"}, executor.OK)
	wants(t, nb.Cells[0], "")
}

func TestTimeIsUp(t *testing.T) {
	const sleeps = "import time; print('on', flush=True); time.sleep(600)"
	nb := of(sleeps, "2")
	end := ends(t, nb, notebook.Options{Timeout: 3 * time.Second}, executor.TimedOut)
	wants(t, nb.Cells[0], `stdout "on\n", error KeyboardInterrupt: , error CellTimeoutError: the cell ran for longer than 3s`)
	if end.Name != "CellTimeoutError" || len(nb.Cells[1].Outputs) > 0 {
		t.Errorf("end %+v", end)
	}
	o := notebook.Options{InterruptOnTimeout: true, TimeoutOf: func(c *notebook.Cell) time.Duration {
		if c == nb.Cells[0] {
			return 3 * time.Second
		}
		return 0
	}}
	ends(t, nb, o, executor.OK)
	wants(t, nb.Cells[0], `stdout "on\n", error KeyboardInterrupt: `)
	wants(t, nb.Cells[1], "execute_result 2")
	o.ErrorOnTimeout = &notebook.CellError{Name: "TimeoutError", Value: "slow"}
	end = ends(t, nb, o, executor.Failed)
	if end.Name != "TimeoutError" || end.Value != "slow" {
		t.Errorf("end %+v", end)
	}
	o.AllowErrorNames = []string{"TimeoutError"}
	ends(t, nb, o, executor.OK)
}

func TestTheKernelDies(t *testing.T) {
	for code, want := range map[string]string{
		"import os; os._exit(3)":             "error DeadKernelError: the kernel died: exit status 3",
		"import os; os.kill(os.getpid(), 9)": "error DeadKernelError: the kernel died: SIGKILL",
		"exit()":                             "error DeadKernelError: the cell ended its kernel",
	} {
		saves := 0
		nb := of("'one'", code, "3")
		end := ends(t, nb, notebook.Options{Save: func(*notebook.Notebook) error { saves++; return nil }}, executor.KernelDied)
		wants(t, nb.Cells[0], "execute_result 'one'")
		wants(t, nb.Cells[1], want)
		if end.Name != "DeadKernelError" || !end.StateLost || *end.Cell != 1 || len(nb.Cells[2].Outputs) > 0 || saves != 3 {
			t.Errorf("%d saves, end %+v", saves, end)
		}
	}
}

func TestTheRunIsCalledOff(t *testing.T) {
	const sleeps = "import time; print('on', flush=True); time.sleep(600)"
	t.Run("by its context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		nb, saved := of(sleeps, "2"), ""
		var last notebook.Event
		for e, err := range notebook.Run(ctx, shared, nb, notebook.Options{
			Save: func(nb *notebook.Notebook) error { saved = shown(nb.Cells[0]); return nil },
		}) {
			if err != nil {
				t.Fatal(err)
			}
			if last = e; string(e.Type) == "stdout" {
				cancel()
			}
		}
		if last.Type != notebook.Ended || last.Status != executor.Interrupted || saved != `stdout "on\n", error KeyboardInterrupt: ` {
			t.Errorf("end %+v, saved %s", last, saved)
		}
	})
	t.Run("by leaving the loop", func(t *testing.T) {
		nb, saved := of(sleeps, "2"), ""
		for e := range notebook.Run(t.Context(), shared, nb, notebook.Options{
			Save: func(nb *notebook.Notebook) error { saved = shown(nb.Cells[0]); return nil },
		}) {
			if string(e.Type) == "stdout" {
				break
			}
		}
		if saved != `stdout "on\n", error KeyboardInterrupt: ` {
			t.Errorf("saved %s", saved)
		}
	})
	t.Run("before it begins", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		cancel()
		nb := of("1")
		for e, err := range notebook.Run(ctx, shared, nb, notebook.Options{}) {
			if err != nil || e.Type == notebook.Ended && e.Status != executor.Interrupted {
				t.Errorf("%+v, %v", e, err)
			}
		}
		wants(t, nb.Cells[0], "")
	})
	t.Run("though the code goes on", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		nb := of("import time\nprint('on', flush=True)\nend = False\nwhile not end:\n    try:\n        time.sleep(600)\n    except KeyboardInterrupt:\n        print('no', flush=True)")
		for e := range notebook.Run(ctx, shared, nb, notebook.Options{Grace: time.Second}) {
			if e.Run != nil && e.Run.Text == "on\n" {
				cancel()
			}
		}
		if err := shared.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestLongCellsAreSaved(t *testing.T) {
	nb, saved := of("print('on', flush=True)\ninput()"), ""
	o := notebook.Options{AllowStdin: true, SaveEvery: time.Millisecond, Save: func(nb *notebook.Notebook) error {
		saved = shown(nb.Cells[0])
		return nil
	}}
	asked := false
	for e, err := range notebook.Run(t.Context(), shared, nb, o) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Type == notebook.Saved && saved == `stdout "on\n"` && !asked { // while input waits
			asked = true
			if err := shared.Interrupt(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !asked || !strings.HasPrefix(saved, `stdout "on\n", error KeyboardInterrupt: `) {
		t.Errorf("asked %v, saved %s", asked, saved)
	}
}

func TestASaveFails(t *testing.T) {
	broken := fmt.Errorf("the disk is full")
	var warned, ended bool
	var last error
	for e, err := range notebook.Run(t.Context(), shared, of("1"), notebook.Options{Save: func(*notebook.Notebook) error { return broken }}) {
		warned = warned || e.Type == notebook.Warned && strings.Contains(e.Text, broken.Error())
		ended = ended || e.Type == notebook.Ended && e.Status == executor.OK
		last = err
	}
	if !warned || !ended || !errors.Is(last, broken) {
		t.Errorf("warned %v, ended %v, error %v", warned, ended, last)
	}
}

func TestTooMuchOutputIsLeftOut(t *testing.T) {
	const note = `stderr "\n[left out: the outputs of this notebook are longer than 2100 bytes]\n"`
	nb := of(
		"None",
		"from IPython.display import clear_output\nfor i in range(100): print('x' * 600, flush=True); clear_output()\nprint('x' * 600)",
		"h = display(1, display_id='h'); print('y' * 600, flush=True); print('z' * 600, flush=True); display('w' * 600)",
		"h.update(2); h.update('w' * 2000); 1 / 0",
	)
	end := ends(t, nb, notebook.Options{OutputLimit: 2100, AllowErrorNames: []string{"NameError"}}, executor.Failed)
	wants(t, nb.Cells[1], `stdout "`+strings.Repeat("x", 600)+`\n"`)
	wants(t, nb.Cells[2], `display_data 2, stdout "`+strings.Repeat("y", 600)+`\n", `+note)
	wants(t, nb.Cells[3], note)
	if end.Name != "ZeroDivisionError" {
		t.Errorf("end %+v", end)
	}
}

func TestPapermillRecords(t *testing.T) {
	nb := of("'one'", "1 / 0", "3")
	nb.Cells = slices.Insert(nb.Cells, 0, nb.NewCell(notebook.Markdown, "# Title"))
	warnings, err := nb.Parameterize([]notebook.Parameter{{Name: "x", Value: 1}}, "", "")
	if err != nil || len(warnings) != 1 {
		t.Fatal(warnings, err)
	}
	o := notebook.Options{Papermill: &notebook.Papermill{InputPath: "in", OutputPath: "out"}, ReportMode: true}
	for range 2 { // the second run removes the banners of the first
		end := ends(t, nb, o, executor.Failed)
		if *end.Cell != 3 {
			t.Errorf("ended in cell %d", *end.Cell)
		}
		var whole struct {
			Exception             bool
			Start_time, End_time  time.Time
			Duration              float64
			Input_path            string
			Parameters            map[string]int
			Environment_variables map[string]string
		}
		if err := json.Unmarshal([]byte(member(t, nb.Metadata, "papermill")), &whole); err != nil {
			t.Fatal(err)
		}
		if !whole.Exception || whole.Start_time.IsZero() || whole.End_time.Before(whole.Start_time) || whole.Duration <= 0 || whole.Input_path != "in" || whole.Parameters["x"] != 1 || whole.Environment_variables == nil {
			t.Errorf("papermill %+v", whole)
		}
		var statuses []string
		for _, c := range nb.Cells {
			raw, ok := c.Metadata.Get("papermill")
			if !ok {
				statuses = append(statuses, "banner")
				continue
			}
			statuses = append(statuses, gjson.GetBytes(raw, "status").String()+" "+gjson.GetBytes(raw, "exception").Raw)
		}
		if got, want := strings.Join(statuses, ", "), "banner, completed false, completed false, completed false, banner, failed true, pending null"; got != want {
			t.Errorf("cells are\n %s\nwant\n %s", got, want)
		}
		if jupyter := member(t, nb.Cells[1].Metadata, "jupyter"); jupyter != `{"source_hidden":true}` {
			t.Errorf("jupyter %s", jupyter)
		}
		if !strings.Contains(nb.Cells[0].Source, fmt.Sprintf("In [%d]", *nb.Cells[5].ExecutionCount)) {
			t.Errorf("banner %s", nb.Cells[0].Source)
		}
	}
}

func TestNothingRunsWhereOnlyPrepared(t *testing.T) {
	nb := of("1")
	var last notebook.Event
	for e, err := range notebook.Run(t.Context(), nil, nb, notebook.Options{PrepareOnly: true, Papermill: &notebook.Papermill{}}) {
		if err != nil {
			t.Fatal(err)
		}
		last = e
	}
	if last.Type != notebook.Ended || last.Status != executor.OK || len(nb.Cells[0].Outputs) > 0 {
		t.Errorf("end %+v", last)
	}
	member(t, nb.Metadata, "papermill")
}

func TestOutputsOfARun(t *testing.T) {
	e, err := shared.Submit(executor.Cell{Code: "print(1); display(2)\n3"})
	if err != nil {
		t.Fatal(err)
	}
	outputs, err := notebook.Outputs(e.Events(t.Context(), 0))
	if err != nil {
		t.Fatal(err)
	}
	wants(t, &notebook.Cell{Outputs: outputs}, `stdout "1\n", display_data 2, execute_result 3`)
}

// A line of a stream is the event in JSON, the cell before what its run said.
func TestEventsAreLines(t *testing.T) {
	log := journal.New(journal.Options{Memory: 1 << 20})
	for _, e := range run(t, of("print('a')\n'b' # papermill_description=LOAD", "1 / 0"), notebook.Options{
		AllowErrors: true, Save: func(*notebook.Notebook) error { return nil },
	}) {
		log.Append(e)
	}
	log.Close()
	var types []string
	for line, err := range log.Lines(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(line.JSON) || gjson.GetBytes(line.JSON, "time").Time().IsZero() {
			t.Errorf("line %s", line.JSON)
		}
		types = append(types, string(line.Type)+gjson.GetBytes(line.JSON, "cell").Raw)
		if line.Type == notebook.CellStarted && gjson.GetBytes(line.JSON, "cell").Int() == 0 && gjson.GetBytes(line.JSON, "description").Str != "LOAD" {
			t.Errorf("line %s", line.JSON)
		}
	}
	want := "start saved cell_start0 stdout0 result0 cell_end0 saved cell_start1 error1 cell_end1 saved end"
	if got := strings.Join(slices.Compact(types), " "); got != want { // a stream may come in pieces
		t.Errorf("lines\n %s\nwant\n %s", got, want)
	}
}
