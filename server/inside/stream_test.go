package inside_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/files"
	"github.com/k2sandbox/k2sandbox/journal"
)

// streamLine is a line of /v1/stream.
type streamLine struct {
	Source  api.Source
	ID      string
	Seq     int64
	Type    journal.Type
	Status  executor.Status
	Epoch   string
	Cursor  string
	Context string
	raw     string
	sseID   string
}

var timeOfLine = regexp.MustCompile(`"time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"`)

// connect opens /v1/stream; lines come as NDJSON, or as server-sent events with their ids.
func connect(t *testing.T, query url.Values, sse bool, headers ...string) (next func() streamLine, hangUp func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	if sse {
		headers = append(headers, "Accept", "text/event-stream")
	}
	resp := callCtx(ctx, t, "GET", "/v1/stream?"+query.Encode(), nil, headers...)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d: %s", resp.StatusCode, read(t, resp))
	}
	doc := document(t)
	schema := doc.at(doc, "components", "schemas", "StreamLine")
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 64<<20)
	next = func() streamLine {
		t.Helper()
		var l streamLine
		for lines.Scan() {
			if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
				l.sseID = id
				continue
			}
			raw := bytes.TrimPrefix(lines.Bytes(), []byte("data: "))
			if len(raw) == 0 {
				continue
			}
			if !timeOfLine.Match(raw) {
				t.Errorf("the time of %s", raw)
			}
			if err := check(doc, schema, string(raw)); err != nil {
				t.Errorf("%v: %s", err, raw)
			}
			if err := json.Unmarshal(raw, &l); err != nil {
				t.Fatalf("%v: %s", err, raw)
			}
			if l.raw = string(raw); l.Type != api.Ping {
				return l
			}
		}
		t.Fatalf("the stream ended: %v", lines.Err())
		return l
	}
	hello := next()
	if hello.Type != api.Hello || hello.Epoch != box.Epoch() || hello.Epoch != resp.Header.Get("X-Epoch") {
		t.Errorf("begins with %s, and X-Epoch %q", hello.raw, resp.Header.Get("X-Epoch"))
	}
	return next, cancel
}

// quiet leaves out what tests bring about that do not say so: clients and ports.
func quiet(next func() streamLine, hangUp func()) (func() streamLine, func()) {
	return func() streamLine {
		for {
			if l := next(); !strings.HasPrefix(string(l.Type), "client_") && !strings.HasPrefix(string(l.Type), "port_") {
				return l
			}
		}
	}, hangUp
}

// However often the stream is cut, a client that says where it stands gets every
// line of every run once, in order, and the timeline too.
func TestStreamGoesOnWithoutAGap(t *testing.T) {
	for _, sse := range []bool{false, true} {
		t.Run(fmt.Sprint("sse ", sse), func(t *testing.T) {
			cursor := box.Now()
			other := get[api.Context](t, call(t, "POST", "/v1/contexts", nil), http.StatusCreated).ContextID
			defer call(t, "DELETE", "/v1/contexts/"+other, nil)
			var open []*stream
			for i := range 3 {
				for _, c := range []string{"", other} {
					open = append(open, runs(t, api.RunRequest{Context: c, Code: fmt.Sprintf("for i in range(20): print(%d, i, flush=True)", i)}))
				}
			}
			want := map[string]int{} // run → its number of lines, the end's too
			for _, s := range open {
				all := s.end(t, executor.OK)
				want[s.id] = len(all)
			}
			got, ended, at := map[string][]int64{}, 0, cursor.Timeline
			follows := func(s api.Source) bool { return s == api.FromExecution }
			for cut := 1; ended < len(open); cut += 2 {
				query, headers := url.Values{"after": {cursor.String()}}, []string{}
				if sse && cut > 1 {
					query, headers = url.Values{"after": {"0"}}, []string{"Last-Event-ID", cursor.String()}
				}
				next, hangUp := connect(t, query, sse, headers...)
				for range cut {
					l := next()
					cursor.Advance(l.Source, l.ID, journal.Line{Seq: l.Seq, Type: l.Type, JSON: []byte(l.raw)}, follows)
					if sse && l.sseID != cursor.String() {
						t.Fatalf("id %q, want %q", l.sseID, cursor.String())
					}
					switch l.Source {
					case api.FromTimeline:
						if l.Seq != at+1 {
							t.Fatalf("timeline: %d after %d", l.Seq, at)
						}
						at = l.Seq
					case api.FromExecution:
						if got[l.ID] = append(got[l.ID], l.Seq); l.Type == executor.End {
							ended++
						}
					}
					if ended == len(open) {
						break
					}
				}
				hangUp()
			}
			for id, n := range want {
				if len(got[id]) != n {
					t.Errorf("run %s has %d lines, got %v", id, n, got[id])
				}
				for i, seq := range got[id] {
					if seq != int64(i+1) {
						t.Errorf("run %s: got %v", id, got[id])
						break
					}
				}
			}
			if len(cursor.Logs) != 0 {
				t.Errorf("still open: %v", cursor)
			}
		})
	}
}

// "now" skips what has ended and has open runs from their beginning.
func TestStreamFromNow(t *testing.T) {
	quick(t, "1")
	s := runs(t, api.RunRequest{Code: "print('before'); _ = input()", AllowStdin: true})
	s.until(t, executor.Input)
	next, _ := quiet(connect(t, url.Values{"after": {"now"}}, false))
	for _, want := range []executor.Type{executor.Start, executor.Stdout, executor.Input} {
		if l := next(); l.Source != api.FromExecution || l.ID != s.id || l.Type != want {
			t.Fatalf("got %s, want %s", l.raw, want)
		}
	}
	call(t, "POST", "/v1/executions/"+s.id+"/input", api.InputRequest{Value: ""})
	s.end(t, executor.OK)
	var told []string
	for range 2 {
		l := next()
		told = append(told, fmt.Sprint(l.Source, " ", l.Type, " ", l.Status))
	}
	slices.Sort(told)
	if want := []string{"execution end ok", "timeline run_ended ok"}; !slices.Equal(told, want) {
		t.Errorf("got %v, want %v", told, want)
	}
}

func TestStreamOfAnotherEpochBeginsAnew(t *testing.T) {
	next, _ := quiet(connect(t, url.Values{"after": {"ep_before:100000,ex_1:7"}}, true))
	if l := next(); l.Type != api.Created || l.Seq != 1 {
		t.Errorf("got %s", l.raw)
	}
}

func TestStreamOfALogThatIsGone(t *testing.T) {
	cursor := box.Now()
	cursor.Logs["ex_gone"] = 3
	next, _ := quiet(connect(t, url.Values{"after": {cursor.String()}}, false))
	l := next()
	var e struct{ Error api.Error }
	if err := json.Unmarshal([]byte(l.raw), &e); err != nil {
		t.Fatal(err)
	}
	if l.ID != "ex_gone" || l.Type != executor.End || l.Status != api.Cut || l.Seq != 3 || e.Error.Code != api.Gone {
		t.Errorf("got %s", l.raw)
	}
}

// A process comes as a run does: from its beginning where the timeline tells of it,
// and from where the client stands.
func TestStreamHasProcesses(t *testing.T) {
	query := url.Values{"after": {box.Now().String()}, "include": {"processes"}}
	next, hangUp := quiet(connect(t, query, false))
	pid := background(t, api.ProcessRequest{Cmd: "echo one; read x; echo two", Stdin: api.OpenStdin}).Pid
	cursor := box.Now()
	if l := next(); l.Type != api.ProcessStarted {
		t.Errorf("got %s", l.raw)
	}
	for _, want := range []journal.Type{"start", "stdout"} {
		l := next()
		if l.Source != api.FromProcess || l.ID != strconv.Itoa(pid) || l.Type != want {
			t.Fatalf("got %s, want %s", l.raw, want)
		}
		cursor.Advance(l.Source, l.ID, journal.Line{Seq: l.Seq, Type: l.Type}, nil)
	}
	hangUp()
	call(t, "POST", fmt.Sprintf("/v1/processes/%d/stdin", pid), "\n")
	query.Set("after", cursor.String())
	next, _ = quiet(connect(t, query, true))
	var got []string
	for range 3 {
		l := next()
		got = append(got, fmt.Sprint(l.Source, " ", l.Seq, " ", l.Type))
	}
	slices.Sort(got)
	if len(got) != 3 || got[0] != "process 3 stdout" || got[1] != "process 4 end" || !strings.HasSuffix(got[2], "process_ended") {
		t.Errorf("got %v", got)
	}
}

func TestStreamHasMetrics(t *testing.T) {
	next, _ := quiet(connect(t, url.Values{"after": {"now"}, "include": {"metrics"}, "interval": {"1"}}, false))
	for seq := range int64(2) {
		l := next()
		var m api.Metrics
		if err := json.Unmarshal([]byte(l.raw), &m); err != nil {
			t.Fatal(err)
		}
		if l.Source != api.FromMetrics || m.Seq != seq+1 || m.CPUSeconds <= 0 || m.MemoryBytes < 1<<20 || m.Processes < 1 || m.OpenFiles < 3 {
			t.Errorf("got %s", l.raw)
		}
	}
}

func TestStreamHasAWatch(t *testing.T) {
	dir := t.TempDir()
	next, _ := quiet(connect(t, url.Values{"after": {"now"}, "watch": {dir}}, true))
	if l := next(); l.Source != api.FromWatch || l.Type != files.Overflow || !strings.HasPrefix(l.sseID, box.Epoch()) {
		t.Errorf("got %s with id %s", l.raw, l.sseID)
	}
	call(t, "PUT", "/v1/files?path="+dir+"/a/b", "text")
	for _, want := range []string{"/a", "/a/b"} {
		if l := next(); l.Source != api.FromWatch || l.Type != files.Created || !strings.Contains(l.raw, strconv.Quote(dir+want)) {
			t.Errorf("got %s, want %s", l.raw, dir+want)
		}
	}
	call(t, "DELETE", "/v1/files?recursive=true&path="+dir, nil)
	for l := next(); l.Type != journal.End; l = next() {
		if l.Source != api.FromWatch {
			t.Errorf("got %s", l.raw)
		}
	}
	s := runs(t, api.RunRequest{Code: "1"}) // the end of the watch is not that of the stream
	s.end(t, executor.OK)
	if l := next(); l.Type != api.RunSubmitted {
		t.Errorf("got %s", l.raw)
	}
	refused(t, call(t, "GET", "/v1/stream?watch="+dir, nil), 404, api.NotFound)
}

func TestStreamRefuses(t *testing.T) {
	done := quickID(t)
	for query, field := range map[string]string{
		"after=x": "after", "after=-1": "after", "after=": "after", "watch=": "watch", "after=1,2": "after", "after=1,a:1,a:2": "after",
		"after=1,%22:2": "after", "after=99999999": "after", "after=0," + done + ":99": "after",
		"include=": "include", "include=all": "include", "interval=0": "interval", "interval=x": "interval", "watch=%00": "watch", "wath=/": "wath",
	} {
		e := refused(t, call(t, "GET", "/v1/stream?"+query, nil), 400, api.InvalidRequest)
		if e.Details["field"] != field {
			t.Errorf("%s: %v", query, e)
		}
	}
	e := refused(t, call(t, "GET", "/v1/stream", nil, "Last-Event-ID", "?"), 400, api.InvalidRequest)
	if e.Details["field"] != "Last-Event-ID" {
		t.Error(e)
	}
}

// quickID runs something and returns the run's id.
func quickID(t *testing.T) string {
	t.Helper()
	s := runs(t, api.RunRequest{Code: "1"})
	s.end(t, executor.OK)
	return s.id
}
