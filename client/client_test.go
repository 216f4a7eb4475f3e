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
	"sync/atomic"
	"testing"

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
