package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/client"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/inside"
)

func TestAnErrorHasItsCodeAndStatus(t *testing.T) {
	_, err := c.Execution(t.Context(), "ex_none/../x?y")
	var told *api.Error
	var answer *client.Error
	if !errors.As(err, &told) || told.Code != api.NotFound || !errors.As(err, &answer) || answer.Status != 404 || answer.RequestID == "" {
		t.Errorf("got %#v", err)
	}
	for _, err := range c.Run(t.Context(), api.RunRequest{Code: "1", Timeout: -1}) {
		if !errors.As(err, &told) || told.Code != api.InvalidRequest || told.Details["field"] != "timeout" {
			t.Errorf("got %#v", err)
		}
	}
	for _, address := range []string{"", "unix:", "127.0.0.1:1", "ftp://x", "http://", "http://x?y"} {
		if _, err := client.New(address, client.Options{}); err == nil {
			t.Errorf("%q is an address", address)
		}
	}
}

func TestOverAUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	ok(t, err)
	srv := &http.Server{Handler: inside.New(box, server.Options{})}
	go srv.Serve(ln)
	defer srv.Close()
	c := must[*client.Client](t)(client.New("unix:"+path, client.Options{}))
	defer c.Close()
	if got := must[api.Health](t)(c.Health(t.Context())); got.Status != "ok" {
		t.Errorf("got %+v", got)
	}
	p := must[api.Process](t)(c.StartProcess(t.Context(), api.ProcessRequest{Cmd: "cat", Stdin: api.OpenStdin}))
	term := must[*client.Terminal](t)(c.Attach(t.Context(), p.Pid, 0))
	defer term.Close()
	if _, err := io.WriteString(term, "over a socket"); err != nil {
		t.Fatal(err)
	}
	ok(t, term.CloseWrite())
	if got := must[[]byte](t)(io.ReadAll(term)); string(got) != "over a socket" || term.End().ExitCode != 0 {
		t.Errorf("got %q and %+v", got, term.End())
	}
}

// scripted is a server that gives one answer after the other, and notes what it was asked.
func scripted(t *testing.T, o client.Options, answers ...func(w http.ResponseWriter, r *http.Request)) (c *client.Client, asked func() []*http.Request) {
	t.Helper()
	var mu sync.Mutex
	var requests []*http.Request
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		requests = append(requests, r)
		n := len(requests)
		mu.Unlock()
		answers[min(n, len(answers))-1](w, r)
	}))
	t.Cleanup(srv.Close)
	c = must[*client.Client](t)(client.New(srv.URL, o))
	t.Cleanup(c.Close)
	return c, func() []*http.Request {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(requests)
	}
}

func says(lines string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, lines) }
}

// A server that begins anew is seen: its hello has another epoch, and from then on its numbers count.
func TestStreamSeesARestart(t *testing.T) {
	c, asked := scripted(t, client.Options{Key: "secret"},
		says(`{"source":"stream","seq":0,"type":"hello","epoch":"ep_a","cursor":"ep_a:0"}
{"source":"timeline","seq":1,"type":"run_submitted","execution_id":"ex_1"}
{"source":"execution","id":"ex_1","seq":1,"type":"start"}
{"source":"execution","id":"ex_1","seq":2,"type":"stdo`),
		says(`{"source":"stream","seq":0,"type":"hello","epoch":"ep_b","cursor":"ep_b:0"}
{"source":"timeline","seq":1,"type":"created"}
`),
		says(`{"source":"stream","seq":0,"type":"hello","epoch":"ep_b","cursor":"ep_b:1"}
{"source":"timeline","seq":2,"type":"end","reason":"closed"}
`))
	var epochs []string
	for l, err := range c.Stream(t.Context(), &client.Stream{Include: []api.Source{api.FromExecution}}) {
		ok(t, err)
		if l.Type == api.Hello {
			epochs = append(epochs, l.Epoch)
		}
	}
	if want := []string{"ep_a", "ep_b", "ep_b"}; !slices.Equal(epochs, want) {
		t.Errorf("epochs %v", epochs)
	}
	for i, want := range []string{"0", "ep_a:1,ex_1:1", "ep_b:1"} {
		r := asked()[i]
		if got := r.URL.Query().Get("after"); got != want {
			t.Errorf("request %d: after %q, want %q", i, got, want)
		}
		if r.Header.Get("X-API-Key") != "secret" {
			t.Errorf("request %d has no key", i)
		}
	}
}

// What each connection begins with is nothing new: retries count.
func TestAHelloIsNoProgress(t *testing.T) {
	c, asked := scripted(t, client.Options{Retries: 2}, says(`{"source":"stream","seq":0,"type":"hello","epoch":"ep_a","cursor":"ep_a:0"}`+"\n"))
	var last error
	for _, err := range c.Stream(t.Context(), &client.Stream{}) {
		last = err
	}
	if n := len(asked()); !errors.Is(last, client.ErrCut) || n != 3 {
		t.Errorf("asked %d times, then %v", n, last)
	}
}

// A stream that says nothing for too long is as good as cut.
func TestSilenceIsACut(t *testing.T) {
	c, asked := scripted(t, client.Options{Silence: 400 * time.Millisecond},
		func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, `{"seq":1,"type":"start"}`+"\n")
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
		says(`{"seq":2,"type":"end","status":"ok"}`+"\n"))
	if got := all(t, c.Events(t.Context(), "ex_1", 0)); len(got) != 2 {
		t.Errorf("got %+v", got)
	}
	if r := asked(); len(r) != 2 || r[1].URL.Query().Get("after") != "1" {
		t.Errorf("asked %d times", len(r))
	}
}

// A server that cuts each answer after a few bytes more costs nothing but time.
func TestStreamsGoOnWhereTheyWereCut(t *testing.T) {
	var cuts atomic.Int64
	handler := inside.New(box, server.Options{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cut := &cutWriter{ResponseWriter: w, left: 300 + 100*int(cuts.Add(1))}
		if handler.ServeHTTP(cut, r); cut.left < 0 {
			panic(http.ErrAbortHandler)
		}
	}))
	defer srv.Close()
	c := must[*client.Client](t)(client.New(srv.URL, client.Options{Retries: 1000}))
	defer c.Close()

	now := box.Now()
	events := all(t, c.Run(t.Context(), api.RunRequest{Code: "for i in range(30): print(i, 'x' * 50, flush=True)"}))
	for i, e := range events {
		if e.Seq != int64(i+1) {
			t.Fatalf("number %d comes as line %d", e.Seq, i+1)
		}
	}
	if end := events[len(events)-1]; end.Type != executor.End || end.Status != executor.OK || len(events) < 10 {
		t.Errorf("%d events, the last: %+v", len(events), end)
	}
	if cuts.Load() < 3 {
		t.Errorf("only %d cuts", cuts.Load())
	}
	id, before := events[0].ExecutionID, cuts.Load()
	s := client.Stream{After: now, Include: []api.Source{api.FromExecution}}
	var seqs []int64
	for l, err := range c.Stream(t.Context(), &s) {
		ok(t, err)
		if l.ID == id {
			seqs = append(seqs, l.Seq)
		}
		if l.ID == id && l.Type == executor.End {
			break
		}
	}
	if len(seqs) != len(events) || !slices.IsSorted(seqs) || seqs[0] != 1 {
		t.Errorf("got %v of %d", seqs, len(events))
	}
	if cuts.Load() < before+2 {
		t.Errorf("only %d cuts", cuts.Load()-before)
	}
}

// cutWriter fails after so many bytes.
type cutWriter struct {
	http.ResponseWriter
	left int
}

func (w *cutWriter) Write(p []byte) (int, error) {
	if len(p) > w.left {
		w.ResponseWriter.Write(p[:max(w.left, 0)])
		http.NewResponseController(w.ResponseWriter).Flush()
		w.left = -1
		return 0, io.ErrClosedPipe
	}
	w.left -= len(p)
	return w.ResponseWriter.Write(p)
}

func (w *cutWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func TestGivesUpWhereNobodyAnswers(t *testing.T) {
	var asked atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		io.WriteString(w, `{"seq":1,"type":"sta`)
	}))
	defer srv.Close()
	c := must[*client.Client](t)(client.New(srv.URL, client.Options{Retries: 2}))
	defer c.Close()
	for e, err := range c.Events(t.Context(), "ex_1", 0) {
		if !errors.Is(err, client.ErrCut) {
			t.Errorf("got %+v, %v", e, err)
		}
	}
	if asked.Load() != 3 {
		t.Errorf("asked %d times", asked.Load())
	}
}

func TestTheEndOfAContextEndsAStream(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range c.Timeline(ctx, 0) {
		cancel()
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("ended with %v", last)
	}
}

func ExampleClient_Run() {
	for event, err := range c.Run(context.Background(), api.RunRequest{Code: "print('hello')"}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		if event.Type == executor.Stdout {
			fmt.Print(event.Text)
		}
	}
	// Output: hello
}
