package inside_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"iter"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/client"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/notebook"
)

// ipynb returns a notebook of code cells, as JSON.
func ipynb(t *testing.T, sources ...string) json.RawMessage {
	t.Helper()
	nb := notebook.New()
	for _, source := range sources {
		nb.Cells = append(nb.Cells, nb.NewCell(notebook.Code, source))
	}
	var b bytes.Buffer
	if err := nb.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// notebookRun is a stream of a notebook's run.
type notebookRun struct {
	next func() (client.NotebookEvent, bool)
	id   string // once it has begun
}

func openNotebook(t *testing.T, events iter.Seq2[client.NotebookEvent, error]) *notebookRun {
	return &notebookRun{next: pull(t, events)}
}

// runNotebook begins to run a notebook in the default context, which the tests take in turns.
func runNotebook(t *testing.T, req api.NotebookRequest) *notebookRun {
	req.Context = "default"
	return openNotebook(t, c.RunNotebook(t.Context(), req))
}

// until reads to the first event of a type.
func (s *notebookRun) until(t *testing.T, typ executor.Type) client.NotebookEvent {
	t.Helper()
	for e, ok := s.next(); ok; e, ok = s.next() {
		if e.NotebookID != "" {
			s.id = e.NotebookID
		}
		if e.Type == typ {
			return e
		}
	}
	t.Fatalf("ended without %q", typ)
	panic("not reached")
}

// ends reads to the end and checks its status.
func (s *notebookRun) ends(t *testing.T, status executor.Status) client.NotebookEvent {
	t.Helper()
	end := s.until(t, executor.End)
	if end.Status != status {
		t.Fatalf("ended as %q, want %q: %+v", end.Status, status, end)
	}
	return end
}

// executed returns a notebook as its run left it.
func executed(t *testing.T, id string) []byte {
	t.Helper()
	body := must[io.ReadCloser](t)(c.ExecutedNotebook(t.Context(), id))
	defer body.Close()
	return must[[]byte](t)(io.ReadAll(body))
}

// readIpynb reads an executed notebook.
func readIpynb(t *testing.T, raw []byte) *notebook.Notebook {
	t.Helper()
	nb, err := notebook.Read(bytes.NewReader(raw))
	if err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	return nb
}

func TestNotebookRuns(t *testing.T) {
	s := runNotebook(t, api.NotebookRequest{
		Notebook: ipynb(t, "print(x)\nx * 2"), Parameters: json.RawMessage(`{"x": 1.50, "y": [true, null]}`),
	})
	if started := s.until(t, "start"); started.Cells != 2 || started.NotebookID == "" || started.Context != "default" {
		t.Errorf("start %+v", started)
	}
	if first := s.until(t, "cell_start"); *first.Cell != 0 || first.ExecutionID == "" || first.CellID == "" {
		t.Errorf("cell_start %+v", first)
	}
	if out := s.until(t, "stdout"); *out.Cell != 1 || out.Text != "1.5\n" {
		t.Errorf("stdout %+v", out)
	}
	end := s.ends(t, executor.OK)
	nb := readIpynb(t, end.Notebook)
	if !strings.Contains(nb.Cells[0].Source, "x = 1.5") || !strings.Contains(nb.Cells[0].Source, "y = [True, None]") {
		t.Errorf("parameters %q", nb.Cells[0].Source)
	}
	if n := len(nb.Cells[1].Outputs); n != 2 {
		t.Errorf("%d outputs", n)
	}
	id := s.id
	kept := executed(t, id)
	if int64(len(kept)) != end.Bytes || len(readIpynb(t, kept).Cells) != 2 {
		t.Errorf("%d bytes, want %d: %s", len(kept), end.Bytes, kept)
	}
	if is := must[api.Notebook](t)(c.Notebook(t.Context(), id)); is.State != executor.Done || is.Status != executor.OK || *is.Cell != 1 || is.Context != "default" {
		t.Errorf("summary %+v", is)
	}
	list := must[[]api.Notebook](t)(c.Notebooks(t.Context(), 1))
	if len(list) != 1 || list[0].NotebookID != id {
		t.Errorf("list %+v", list)
	}
}

func TestNotebookIsSavedAfterAnError(t *testing.T) {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.ipynb"), filepath.Join(dir, "made", "out.ipynb")
	if err := os.WriteFile(in, ipynb(t, "'one'", "1 / 0", "'three'"), 0o600); err != nil {
		t.Fatal(err)
	}
	end := runNotebook(t, api.NotebookRequest{Path: in, OutputPath: out}).ends(t, executor.Failed)
	if *end.Cell != 1 || end.Name != "ZeroDivisionError" || end.Value != "division by zero" || end.OutputPath != out || end.Notebook != nil {
		t.Errorf("end %+v", end)
	}
	raw, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	nb := readIpynb(t, raw)
	if len(nb.Cells) != 5 || !nb.Cells[0].HasTag("papermill-error-cell-tag") || nb.Cells[3].Outputs[0].Ename != "ZeroDivisionError" || len(nb.Cells[4].Outputs) != 0 {
		t.Errorf("saved %s", raw)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*", ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestNotebookHasAContextOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	in := filepath.Join(dir, "in.ipynb")
	if err := os.WriteFile(in, ipynb(t, "import os; print(os.getcwd(), os.environ['WHO'])"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := openNotebook(t, c.RunNotebook(t.Context(), api.NotebookRequest{Path: in, Envs: map[string]string{"WHO": "me"}}))
	if out := s.until(t, "stdout"); out.Text != dir+" me\n" {
		t.Errorf("stdout %q", out.Text)
	}
	s.ends(t, executor.OK)
	id := must[api.Notebook](t)(c.Notebook(t.Context(), s.id)).Context
	_, err := c.Context(t.Context(), id)
	refuses(t, err, http.StatusNotFound, api.NotFound)
}

func TestNotebookGoesOnWithoutItsClient(t *testing.T) {
	ctx, leave := context.WithCancel(t.Context())
	req := api.NotebookRequest{Notebook: ipynb(t, "print('on', flush=True)\ninput()", "'two'"), Context: "default", AllowStdin: true}
	s := openNotebook(t, c.RunNotebook(ctx, req))
	began := s.until(t, "cell_start")
	s.until(t, "input")
	leave()
	_, err := c.ExecutedNotebook(t.Context(), s.id)
	refuses(t, err, http.StatusConflict, api.Conflict)
	if err := c.Input(t.Context(), began.ExecutionID, "x"); err != nil {
		t.Error(err)
	}
	again := openNotebook(t, c.NotebookEvents(t.Context(), s.id, 1))
	if first := again.until(t, "cell_start"); first.Seq != 2 && first.Seq != 3 {
		t.Errorf("replayed from %d", first.Seq)
	}
	again.ends(t, executor.OK)
}

func TestNotebookIsInterrupted(t *testing.T) {
	const sleeps = "import time; print('on', flush=True); time.sleep(600)"
	t.Run("asked", func(t *testing.T) {
		s := runNotebook(t, api.NotebookRequest{Notebook: ipynb(t, sleeps, "'two'")})
		s.until(t, "stdout")
		must[api.Notebook](t)(c.InterruptNotebook(t.Context(), s.id))
		end := s.ends(t, executor.Interrupted)
		nb := readIpynb(t, end.Notebook)
		if last := nb.Cells[0].Outputs; len(last) != 2 || last[1].Ename != "KeyboardInterrupt" {
			t.Errorf("outputs %+v", last)
		}
		_, err := c.InterruptNotebook(t.Context(), s.id)
		refuses(t, err, http.StatusConflict, api.Conflict)
	})
	t.Run("left", func(t *testing.T) {
		ctx, leave := context.WithCancel(t.Context())
		req := api.NotebookRequest{Notebook: ipynb(t, sleeps), Context: "default", OnDisconnect: api.Interrupt}
		s := openNotebook(t, c.RunNotebook(ctx, req))
		s.until(t, "stdout")
		leave()
		openNotebook(t, c.NotebookEvents(t.Context(), s.id, 0)).ends(t, executor.Interrupted)
	})
}

func TestNotebookTellsOfADeath(t *testing.T) {
	info := must[api.Notebook](t)(c.SubmitNotebook(t.Context(), api.NotebookRequest{
		Notebook: ipynb(t, "'one'", "import os; os._exit(3)", "'three'"), Context: "default",
	}))
	if info.State != executor.Running || info.Cells != 3 {
		t.Errorf("answer %+v", info)
	}
	end := openNotebook(t, c.NotebookEvents(t.Context(), info.NotebookID, 0)).ends(t, executor.KernelDied)
	if *end.Cell != 1 || !end.StateLost || end.Exit == nil || end.Exit.Code != 3 {
		t.Errorf("end %+v", end)
	}
	nb := readIpynb(t, end.Notebook)
	if o := nb.Cells[3].Outputs; len(o) != 1 || o[0].Ename != "DeadKernelError" { // a banner is at the top, one before the cell
		t.Errorf("outputs %+v", o)
	}
}

func TestNotebookRequestsAreChecked(t *testing.T) {
	for _, c := range []struct {
		body, field string
	}{
		{`{}`, "path"},
		{`{"path": "a.ipynb", "notebook": {}}`, "notebook"},
		{`{"notebook": []}`, "notebook"},
		{`{"notebook": {"cells": 1}}`, "notebook"},
		{`{"notebook": {"cells": [], "nbformat": 3, "nbformat_minor": 0, "metadata": {}}}`, "notebook"},
		{`{"path": "a\u0000b"}`, "path"},
		{`{"path": "a", "output_path": "\u0000"}`, "output_path"},
		{`{"path": "a", "parameters": [1]}`, "parameters"},
		{`{"path": "a", "timeout": -1}`, "timeout"},
		{`{"path": "a", "context": "default", "kernel": "python3"}`, "kernel"},
		{`{"path": "a", "context": "default", "cwd": "/"}`, "cwd"},
		{`{"path": "a", "context": "default", "envs": {"A": "b"}}`, "envs"},
		{`{"path": "a", "cwd": "b"}`, "cwd"},
		{`{"path": "a", "error_on_timeout": {"ename": "E"}}`, "error_on_timeout"},
		{`{"path": "a", "interrupt_on_timeout": true, "error_on_timeout": {}}`, "error_on_timeout.ename"},
		{`{"path": "a", "interrupt_on_timeout": true, "error_on_timeout": {"ename": "E", "x": 1}}`, "error_on_timeout.x"},
		{`{"path": "a", "on_disconnect": "x"}`, "on_disconnect"},
		{`{"path": "a", "detach": true, "on_disconnect": "interrupt"}`, "on_disconnect"},
		{`{"notebook": {"cells": [], "nbformat": 4, "nbformat_minor": 5, "metadata": {}}, "parameters": {"a b": 1}}`, "parameters"},
	} {
		e := refused(t, call(t, "POST", "/v1/notebooks/run", c.body), http.StatusBadRequest, api.InvalidRequest)
		if e.Details["field"] != c.field {
			t.Errorf("%s: field %v, want %s: %s", c.body, e.Details["field"], c.field, e.Message)
		}
	}
	refused(t, call(t, "POST", "/v1/notebooks/run", `{"path": "/nowhere.ipynb"}`), http.StatusNotFound, api.NotFound)
	refused(t, call(t, "POST", "/v1/notebooks/run", api.NotebookRequest{Notebook: ipynb(t), Context: "none"}), http.StatusNotFound, api.NotFound)
	refused(t, call(t, "POST", "/v1/notebooks/run", api.NotebookRequest{Notebook: ipynb(t), Kernel: "none"}), http.StatusUnprocessableEntity, api.Unprocessable)
	refused(t, call(t, "POST", "/v1/notebooks/run", api.NotebookRequest{Notebook: ipynb(t), OutputPath: t.TempDir()}), http.StatusConflict, api.Conflict)
	for _, path := range []string{"", "/notebook", "/events"} {
		refused(t, call(t, "GET", "/v1/notebooks/none"+path, nil), http.StatusNotFound, api.NotFound)
	}
}

// exampleNotebook makes the run of a notebook that an operation's example is about.
func exampleNotebook(t *testing.T, operationID string) string {
	t.Helper()
	switch operationID {
	case "interruptNotebook":
		req := api.NotebookRequest{Notebook: ipynb(t, "import time; print(1, flush=True); time.sleep(600)"), Context: "default"}
		s := openNotebook(t, c.RunNotebook(context.WithoutCancel(t.Context()), req))
		s.until(t, "stdout")
		t.Cleanup(func() { s.ends(t, executor.Interrupted) })
		return s.id
	case "getNotebook", "getExecutedNotebook", "followNotebook":
		s := runNotebook(t, api.NotebookRequest{Notebook: ipynb(t, "1")})
		s.ends(t, executor.OK)
		return s.id
	}
	return ""
}
