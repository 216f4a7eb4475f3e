package bench_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/k2sandbox/k2sandbox/client"
	"github.com/k2sandbox/k2sandbox/internal/bench"
)

// fake is a server whose sandboxes know the cells of a benchmark.
type fake struct {
	mu      sync.Mutex
	live    map[string]bool
	made    int
	sum     string                // what 1+1 is
	running func(r *http.Request) // called in each run
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/") // v1/sandboxes/ID/v1/…
	last := parts[len(parts)-1]
	switch {
	case last == "sandboxes":
		f.mu.Lock()
		f.made++
		id := fmt.Sprint("sb_", f.made)
		f.live[id] = true
		f.mu.Unlock()
		fmt.Fprintf(w, `{"sandbox_id": %q}`, id)
	case r.Method == http.MethodDelete:
		f.mu.Lock()
		delete(f.live, parts[2])
		f.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	case last == "code":
		if f.running != nil {
			f.running(r)
		}
		f.run(w, r)
	case last == "contexts":
		fmt.Fprint(w, `{"context_id": "ctx_1"}`)
	default: // reset
		fmt.Fprint(w, `{}`)
	}
}

// run answers as a kernel would.
func (f *fake) run(w http.ResponseWriter, r *http.Request) {
	var cell struct{ Code string }
	_ = json.NewDecoder(r.Body).Decode(&cell)
	w.Header().Set("Content-Type", "application/x-ndjson")
	seq := 1
	event := func(format string, args ...any) {
		fmt.Fprintf(w, `{"seq":%d,`+format+"}\n", append([]any{seq}, args...)...)
		seq++
	}
	event(`"type":"start","execution_id":"ex_1"`)
	var n int
	switch {
	case cell.Code == "1+1":
		event(`"type":"result","data":{"text/plain":%q}`, f.sum)
	case strings.Contains(cell.Code, "globals"):
		event(`"type":"result","data":{"text/plain":"False"}`)
	case strings.Contains(cell.Code, "print"):
		_, _ = fmt.Sscanf(cell.Code, "for i in range(%d)", &n)
		for i := range n {
			event(`"type":"stdout","text":"%d\n"`, i)
		}
	case strings.Contains(cell.Code, "display"):
		_, _ = fmt.Sscanf(cell.Code, "for i in range(%d)", &n)
		for i := range n - 1 { // one is missing
			event(`"type":"result","data":{"text/plain":"%d"}`, i)
		}
	}
	event(`"type":"end","status":"ok"`)
}

func serve(t *testing.T, f *fake) *client.Client {
	f.live = map[string]bool{}
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	c, err := client.New(s.URL, client.Options{Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestAnAnswerThatIsNotWholeIsAnErrorAndTheOthersGoOn(t *testing.T) {
	f := &fake{sum: "2"}
	var begun []string
	rows, err := bench.Run(t.Context(), bench.Options{Client: serve(t, f), Quick: true, Begin: func(part string) { begun = append(begun, part) }})
	if err != nil || !slices.Equal(begun, bench.Parts()) {
		t.Fatalf("got %v, %v", begun, err)
	}
	var failed []string
	measured := map[string]int{}
	for _, row := range rows {
		if row.Error != "" {
			failed = append(failed, row.Part+": "+row.Error)
		} else if len(row.Seconds) > 0 {
			measured[row.Part]++
			if row.P50 <= 0 || row.P90 < row.P50 || row.P99 < row.P90 || row.PerSecond <= 0 {
				t.Errorf("got %+v", row)
			}
		}
	}
	if len(failed) != 1 || failed[0] != "displays: 1000 displays: 0 bytes and 999 displays arrived" {
		t.Errorf("got %q", failed)
	}
	if want := map[string]int{"latency": 1, "contexts": 3, "lines": 2, "create": 2, "reset": 1}; fmt.Sprint(measured) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", measured, want)
	}
	if len(f.live) > 0 {
		t.Errorf("left behind: %v", f.live)
	}
}

func TestAWrongSumIsAnError(t *testing.T) {
	f := &fake{sum: "3"}
	rows, err := bench.Run(t.Context(), bench.Options{Client: serve(t, f), Quick: true, Only: []string{"create"}})
	if err != nil || len(rows) != 3 || rows[2].Error != `1+1 is "3"` {
		t.Errorf("got %+v, %v", rows, err)
	}
}

func TestAnEndInBetweenLeavesNoSandbox(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := &fake{sum: "2", running: func(r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // else the end of the connection is not seen
		cancel()
		<-r.Context().Done()
	}}
	_, err := bench.Run(ctx, bench.Options{Client: serve(t, f)})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if f.made != 1 || len(f.live) > 0 {
		t.Errorf("%d made, left behind: %v", f.made, f.live)
	}
}

func TestAPartThatThereIsNotIsRefused(t *testing.T) {
	f := &fake{sum: "2"}
	_, err := bench.Run(t.Context(), bench.Options{Client: serve(t, f), Only: []string{"latency", "latenzy"}})
	if err == nil || !strings.Contains(err.Error(), `no part "latenzy": want some of latency, contexts`) || f.made > 0 {
		t.Errorf("got %v, %d made", err, f.made)
	}
}

func TestTable(t *testing.T) {
	var out strings.Builder
	err := bench.Table(&out, []bench.Row{
		{Name: "1+1", Seconds: []float64{0.001, 0.002}, P50: 0.001, P90: 0.002, P99: 0.0021, PerSecond: 1000},
		{Name: "reset"},
		{Name: "displays", Error: "999 arrived"},
	})
	want := "         p50 ms  p90 ms  p99 ms  a second  rounds\n" +
		"    1+1    1.00    2.00    2.10      1000       2\n" +
		"  reset       -       -       -         -       0\n" +
		"displays failed: 999 arrived\n"
	if err != nil || out.String() != want {
		t.Errorf("got %v\n%s", err, out.String())
	}
}
