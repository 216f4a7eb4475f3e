package inside_test

import (
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
)

func TestListExecutions(t *testing.T) {
	old := runs(t, api.RunRequest{Code: "1"})
	old.end(t, executor.OK)
	running := runs(t, api.RunRequest{Code: "input()", AllowStdin: true})
	running.until(t, executor.Input)

	list := func(query string) []executor.Summary {
		return get[api.Executions](t, call(t, "GET", "/v1/executions"+query, nil), 200).Executions
	}
	if all := list(""); len(all) < 2 || all[0].ExecutionID != running.id || all[1].ExecutionID != old.id {
		t.Errorf("got %+v", all)
	}
	if one := list("?limit=1"); len(one) != 1 || one[0].ExecutionID != running.id {
		t.Errorf("got %+v", one)
	}
	if some := list("?state=running&limit=1000"); len(some) != 1 || some[0].ExecutionID != running.id || some[0].StartedAt == nil || some[0].EndedAt != nil {
		t.Errorf("got %+v", some)
	}
	if done := list("?state=done&limit=1"); len(done) != 1 || done[0].ExecutionID != old.id || done[0].Status != executor.OK {
		t.Errorf("got %+v", done)
	}
	if raw := read(t, call(t, "GET", "/v1/executions?state=queued", nil)); raw != `{"executions":[]}`+"\n" {
		t.Errorf("got %s", raw)
	}
	call(t, "POST", "/v1/executions/"+running.id+"/input", api.InputRequest{})
	running.end(t, executor.OK)

	for query, field := range map[string]string{
		"limit=0": "limit", "limit=1001": "limit", "limit=-1": "limit", "limit=x": "limit", "limit=": "limit",
		"state=idle": "state", "state=": "state", "State=done": "State", "sort=asc": "sort", "limit=1&limit=2": "limit",
	} {
		if e := refused(t, call(t, "GET", "/v1/executions?"+query, nil), 400, api.InvalidRequest); e.Details["field"] != field {
			t.Errorf("%s: %+v", query, e)
		}
	}
}

func TestReattach(t *testing.T) {
	s := runs(t, api.RunRequest{Code: "print(1)\ninput()\nprint(2)", AllowStdin: true})
	s.until(t, executor.Input)
	events := "/v1/executions/" + s.id + "/events"
	replayed := open(t, call(t, "GET", events, nil)) // from the start, while it runs
	resumed := open(t, call(t, "GET", events+"?after=2", nil))
	call(t, "POST", "/v1/executions/"+s.id+"/input", api.InputRequest{})

	all := replayed.end(t, executor.OK)
	rest := resumed.end(t, executor.OK)
	if all[0].Seq != 1 || text(all, executor.Stdout) != "1\n2\n" || !reflect.DeepEqual(rest, all[2:]) {
		t.Errorf("all: %+v\nrest: %+v", all, rest)
	}
	s.end(t, executor.OK)
	last := all[len(all)-1].Seq
	if again := open(t, call(t, "GET", fmt.Sprintf("%s?after=%d", events, last), nil)).end(t, executor.OK); len(again) != 1 {
		t.Errorf("after the end: %+v", again)
	}
	for _, after := range []string{strconv.Itoa(int(last) + 1), "-1", "x", "", "9223372036854775807", "9223372036854775808"} {
		if e := refused(t, call(t, "GET", events+"?after="+after, nil), 400, api.InvalidRequest); e.Details["field"] != "after" {
			t.Errorf("after=%s: %+v", after, e)
		}
	}
}

func TestServerSentEvents(t *testing.T) {
	s := runs(t, api.RunRequest{Code: "print('a\\r\\nb\\u2028')"})
	all := s.end(t, executor.OK)
	last := strconv.Itoa(len(all))
	events := "/v1/executions/" + s.id + "/events"

	resp := call(t, "GET", events+"?after=1", nil, "Accept", "text/event-stream", "Last-Event-ID", "2")
	if typ := resp.Header.Get("Content-Type"); typ != "text/event-stream" {
		t.Errorf("Content-Type %q", typ)
	}
	body := read(t, resp)
	if !strings.HasPrefix(body, "id: 3\ndata: {\"seq\":3,") || strings.Count(body, "\n\n") != len(all)-2 || !strings.HasSuffix(body, "}\n\n") {
		t.Errorf("got %q", body)
	}
	// An EventSource that has seen the end would come back for ever.
	if resp := call(t, "GET", events, nil, "Accept", "text/event-stream", "Last-Event-ID", last); resp.StatusCode != http.StatusNoContent {
		t.Errorf("status %d", resp.StatusCode)
	}
	if e := refused(t, call(t, "GET", events, nil, "Last-Event-ID", "x"), 400, api.InvalidRequest); e.Details["field"] != "Last-Event-ID" {
		t.Errorf("got %+v", e)
	}
	if e := refused(t, call(t, "GET", events+"?after=-1", nil, "Last-Event-ID", "1"), 400, api.InvalidRequest); e.Details["field"] != "after" {
		t.Errorf("got %+v", e)
	}
	first := read(t, call(t, "POST", "/v1/code", api.RunRequest{Code: "1"}, "Accept", "text/event-stream"))
	if !strings.HasPrefix(first, "id: 1\ndata: {") {
		t.Errorf("got %q", first)
	}
}

func TestHeadOfEventsDoesNotFollow(t *testing.T) {
	s := runs(t, api.RunRequest{Code: "input()", AllowStdin: true})
	s.until(t, executor.Input)
	if resp := call(t, "HEAD", "/v1/executions/"+s.id+"/events", nil); resp.StatusCode != 200 {
		t.Errorf("status %d", resp.StatusCode)
	}
	call(t, "POST", "/v1/executions/"+s.id+"/input", api.InputRequest{})
	s.end(t, executor.OK)
}

func TestUnknownExecution(t *testing.T) {
	for _, route := range []string{
		"GET ", "GET /output", "GET /events", "POST /interrupt", "POST /input",
	} {
		method, rest, _ := strings.Cut(route, " ")
		var body any
		if rest == "/input" {
			body = api.InputRequest{}
		}
		for _, id := range []string{"ex_0", "%20", "..%2f..%2fetc", "ex_%00", strings.Repeat("x", 4000)} {
			e := refused(t, call(t, method, "/v1/executions/"+id+rest, body), 404, api.NotFound)
			if id == "ex_0" && e.Message != `execution "ex_0": not found` {
				t.Errorf("%s: %s", route, e.Message)
			}
		}
	}
}

func TestBadBodies(t *testing.T) {
	s := runs(t, api.RunRequest{Code: "1"})
	s.end(t, executor.OK)
	for _, path := range []string{
		"/v1/executions/" + s.id + "/interrupt", "/v1/executions/" + s.id + "/input", "/v1/contexts",
		"/v1/contexts/default/restart", "/v1/contexts/default/interrupt", "/v1/contexts/default/complete",
		"/v1/contexts/default/inspect", "/v1/reset", "/v1/code",
	} {
		if e := refused(t, call(t, "POST", path, `{"nonsense":1}`), 400, api.InvalidRequest); e.Details["field"] != "nonsense" {
			t.Errorf("%s: %+v", path, e)
		}
		refused(t, call(t, "POST", path, `[`), 400, api.InvalidRequest)
		refused(t, call(t, "POST", path, `{}`, "Content-Type", "text/plain"), 415, api.UnsupportedMedia)
	}
}

func TestOutput(t *testing.T) {
	s := runs(t, api.RunRequest{Code: "import sys\nfrom IPython.display import display\nprint('aé', flush=True)\ndisplay(1)\nprint('😀z', end='', flush=True)"})
	s.end(t, executor.OK)
	const all = "aé\n😀z" // bytes: a 0, é 1-2, \n 3, 😀 4-7, z 8
	for _, test := range []struct {
		query, want string
		start       int
	}{
		{"", all, 0},
		{"?range=head:0", "", 0},
		{"?range=head:1", "a", 0},
		{"?range=head:2", "a", 0},
		{"?range=head:3", "aé", 0},
		{"?range=head:7", "aé\n", 0},
		{"?range=head:8", "aé\n😀", 0},
		{"?range=head:1000", all, 0},
		{"?range=tail:0", "", 9},
		{"?range=tail:1", "z", 8},
		{"?range=tail:4", "z", 8},
		{"?range=tail:5", "😀z", 4},
		{"?range=tail:9223372036854775807", all, 0},
		{"?range=0-0", "a", 0},
		{"?range=0-1", "aé", 0},
		{"?range=1-1", "é", 1},
		{"?range=2-3", "\n", 3},
		{"?range=2-2", "", 3},
		{"?range=4-4", "😀", 4},
		{"?range=5-8", "z", 8},
		{"?range=3-", "\n😀z", 3},
		{"?range=0-9223372036854775807", all, 0},
		{"?range=9-", "", 9},
		{"?range=9-12", "", 9},
	} {
		path := "/v1/executions/" + s.id + "/output" + test.query
		resp := call(t, "GET", path, nil)
		body := read(t, resp)
		if resp.StatusCode != 200 || body != test.want || resp.Header.Get("X-Output-Start") != strconv.Itoa(test.start) || resp.Header.Get("X-Output-Total") != "9" {
			t.Errorf("%s: status %d, %q, %v", test.query, resp.StatusCode, body, resp.Header)
		}
		if typ := resp.Header.Get("Content-Type"); typ != "text/plain; charset=utf-8" {
			t.Errorf("Content-Type %q", typ)
		}
		if head := call(t, "HEAD", path, nil); head.ContentLength != int64(len(test.want)) {
			t.Errorf("HEAD %s: length %d", test.query, head.ContentLength)
		}
	}
	resp := call(t, "GET", "/v1/executions/"+s.id+"/output?range=10-", nil)
	refused(t, resp, 416, api.RangeInvalid)
	if total := resp.Header.Get("X-Output-Total"); total != "9" {
		t.Errorf("total %q", total)
	}
	for _, bad := range []string{"", "1", "-", "-1", "2-1", "a-b", "head:", "head:-1", "head:x", "tail:1.5", "body:1", "head:1-2", "0-9223372036854775808", "%2B1-2"} {
		if e := refused(t, call(t, "GET", "/v1/executions/"+s.id+"/output?range="+bad, nil), 400, api.InvalidRequest); e.Details["field"] != "range" {
			t.Errorf("%q: %+v", bad, e)
		}
	}
}

// Adjoining ranges give every character once, whatever their size.
func TestOutputInPages(t *testing.T) {
	s := runs(t, api.RunRequest{Code: "for i in range(50): print('€' * (i % 7), i, '𝄞', flush=i % 10 == 0)"})
	want := text(s.end(t, executor.OK), executor.Stdout)
	for size := 3; size < 200; size += 37 {
		var pages strings.Builder
		for at := 0; at < len(want); at += size {
			pages.WriteString(read(t, call(t, "GET", fmt.Sprintf("/v1/executions/%s/output?range=%d-%d", s.id, at, at+size-1), nil)))
		}
		if pages.String() != want {
			t.Errorf("pages of %d bytes give %q", size, pages.String())
		}
	}
}

func TestOutputWhileRunning(t *testing.T) {
	first := runs(t, api.RunRequest{Code: "print('so far', flush=True); input()", AllowStdin: true})
	first.until(t, executor.Input)
	queued := runs(t, api.RunRequest{Code: "1"})
	if got := read(t, call(t, "GET", "/v1/executions/"+first.id+"/output", nil)); got != "so far\n" {
		t.Errorf("got %q", got)
	}
	if got := read(t, call(t, "GET", "/v1/executions/"+queued.id+"/output?range=0-", nil)); got != "" {
		t.Errorf("got %q", got)
	}
	call(t, "POST", "/v1/executions/"+first.id+"/input", api.InputRequest{})
	first.end(t, executor.OK)
	queued.end(t, executor.OK)
}

// A reader that pauses holds up neither the run nor anybody else, and misses nothing.
func TestPausedReader(t *testing.T) {
	const n = 5000 // of 2 KB each: more than what the sockets on the way hold
	resp := call(t, "POST", "/v1/code", api.RunRequest{Code: fmt.Sprintf(
		"from IPython.display import display\nfor i in range(%d): display({'text/plain': 'x' * 2000}, raw=True)", n)})
	watch := call(t, "GET", "/v1/executions/"+resp.Header.Get("X-Execution-Id")+"/events", nil)
	results := func(resp *http.Response) int {
		all := read(t, resp)
		if strings.Count(all, `"type":"end"`) != 1 || !strings.Contains(all[len(all)-300:], `"status":"ok"`) {
			t.Errorf("ends with %s", all[len(all)-300:])
		}
		return strings.Count(all, `"type":"result"`)
	}
	if got := results(watch); got != n { // the run ends although nothing of resp was read
		t.Errorf("a reader got %d of %d displays", got, n)
	}
	quick(t, "1")
	if got := results(resp); got != n {
		t.Errorf("the paused reader got %d of %d displays", got, n)
	}
}

func TestLongLine(t *testing.T) {
	resp := call(t, "POST", "/v1/code", api.RunRequest{Code: "print('é' * 1_000_000)"})
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil || n < 2_000_000 {
		t.Errorf("got %d bytes, %v", n, err)
	}
	id := resp.Header.Get("X-Execution-Id")
	if got := read(t, call(t, "GET", "/v1/executions/"+id+"/output?range=tail:4", nil)); got != "é\n" {
		t.Errorf("got %q", got)
	}
}
