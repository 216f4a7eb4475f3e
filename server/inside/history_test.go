package inside_test

import (
	"mime"
	"slices"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/notebook"
)

// history asks for what ran in a context and returns the codes.
func history(t *testing.T, id string, limit int) (api.History, []string) {
	t.Helper()
	got := must[api.History](t)(c.History(t.Context(), id, limit))
	var codes []string
	for _, e := range got.History {
		codes = append(codes, e.Code)
	}
	return got, codes
}

func TestHistory(t *testing.T) {
	info := newContext(t, api.ContextRequest{})
	path := "/v1/contexts/" + info.ContextID
	if got := read(t, call(t, "GET", path+"/history", nil)); got != `{"history":[],"truncated":false}`+"\n" {
		t.Errorf("got %s", got)
	}
	no := false
	runs(t, api.RunRequest{Context: info.ContextID, Code: "x = 1"}).end(t, executor.OK)
	runs(t, api.RunRequest{Context: info.ContextID, Code: "hidden", StoreHistory: &no}).end(t, executor.Failed)
	runs(t, api.RunRequest{Context: info.ContextID, Code: "1/0"}).end(t, executor.Failed)
	open := runs(t, api.RunRequest{Context: info.ContextID, Code: "print('on', flush=True); input()", AllowStdin: true})
	open.until(t, executor.Input)
	queued := runs(t, api.RunRequest{Context: info.ContextID, Code: "waits"})

	got, codes := history(t, info.ContextID, 0)
	if !slices.Equal(codes, []string{"x = 1", "1/0", "print('on', flush=True); input()"}) || got.Truncated {
		t.Errorf("got %+v", got)
	}
	first, last := got.History[0], got.History[2]
	if first.Status != executor.OK || *first.ExecutionCount != 1 || first.EndedAt == nil || first.EndedAt.Before(first.StartedAt) {
		t.Errorf("got %+v", first)
	}
	if last.ExecutionID != open.id || last.State != executor.Running || last.Status != "" || last.EndedAt != nil {
		t.Errorf("got %+v", last)
	}
	if got := must[api.Context](t)(c.RestartContext(t.Context(), info.ContextID)); got.ExecutionCount != 0 || got.Queued != 0 {
		t.Errorf("after a restart %+v", got)
	}
	open.end(t, executor.Aborted)
	queued.end(t, executor.Aborted)
	runs(t, api.RunRequest{Context: info.ContextID, Code: "x = 2"}).end(t, executor.OK)
	got, codes = history(t, info.ContextID, 2)
	if !slices.Equal(codes, []string{"print('on', flush=True); input()", "x = 2"}) || !got.Truncated || *got.History[1].ExecutionCount != 1 {
		t.Errorf("got %+v", got)
	}
	for _, limit := range []string{"0", "1001", "x", ""} {
		if e := refused(t, call(t, "GET", path+"/history?limit="+limit, nil), 400, api.InvalidRequest); e.Details["field"] != "limit" {
			t.Errorf("%s: %+v", limit, e)
		}
	}
	_, err := c.History(t.Context(), "nowhere", 0)
	refuses(t, err, 404, api.NotFound)
}

func TestExport(t *testing.T) {
	info := newContext(t, api.ContextRequest{})
	path := "/v1/contexts/" + info.ContextID
	for _, code := range []string{
		"from IPython.display import display\nh = display('old', display_id=True)\nprint('é')\n6 * 7",
		"h.update('new')",
		"1/0",
	} {
		runs(t, api.RunRequest{Context: info.ContextID, Code: code}).rest(t)
	}
	no := false
	runs(t, api.RunRequest{Context: info.ContextID, Code: "0", StoreHistory: &no}).end(t, executor.OK)
	open := runs(t, api.RunRequest{Context: info.ContextID, Code: "print('on', flush=True); input()", AllowStdin: true})
	open.until(t, executor.Input)

	resp := call(t, "GET", path+"/notebook", nil)
	_, params, err := mime.ParseMediaType(resp.Header.Get("Content-Disposition"))
	if err != nil || params["filename"] != info.ContextID+".ipynb" || resp.Header.Get("Content-Type") != "application/x-ipynb+json" {
		t.Errorf("%v, got %v", err, resp.Header)
	}
	nb, err := notebook.Read(strings.NewReader(read(t, resp)))
	if err != nil {
		t.Fatal(err)
	}
	if len(nb.Cells) != 4 || nb.Kernel() != "python3" || nb.Language() != "python" || nb.Minor != 5 || len(nb.Warnings) > 0 {
		t.Fatalf("got %+v", nb)
	}
	first := nb.Cells[0]
	if len(first.Outputs) != 3 || *first.ExecutionCount != 1 {
		t.Fatalf("got %+v", first)
	}
	shown, _ := first.Outputs[0].Data.Get("text/plain")
	result, _ := first.Outputs[2].Data.Get("text/plain")
	if shown.Text() != "'new'" || first.Outputs[1].Text != "é\n" || result.Text() != "42" || *first.Outputs[2].ExecutionCount != 1 {
		t.Errorf("got %+v", first.Outputs)
	}
	if failed := nb.Cells[2].Outputs; len(failed) != 1 || failed[0].Ename != "ZeroDivisionError" {
		t.Errorf("got %+v", failed)
	}
	if on := nb.Cells[3].Outputs; len(on) != 1 || on[0].Text != "on\n" {
		t.Errorf("got %+v", on)
	}
	if err := c.DeleteContext(t.Context(), info.ContextID); err != nil {
		t.Error(err)
	}
	open.end(t, executor.Aborted)
	_, err = c.ExportContext(t.Context(), info.ContextID)
	refuses(t, err, 404, api.NotFound)
}
