package server_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/server"
)

// waiting is a handler whose requests wait for go, and are with an agent where they ask for that.
func waiting(name string, came chan<- string, goOn <-chan struct{}) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/agent" {
			defer server.Inside(r.Context())()
		}
		came <- r.URL.Path
		<-goOn
		_, _ = io.WriteString(w, name)
	})
}

func through(t *testing.T, g http.Handler, path string) <-chan string {
	done := make(chan string, 1)
	go func() {
		w := httptest.NewRecorder()
		g.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", path, nil))
		done <- w.Body.String()
	}()
	return done
}

func TestGateLetsThoseWhoAreInsideOut(t *testing.T) {
	came, goOn := make(chan string, 9), make(chan struct{})
	g := server.NewGate(waiting("old", came, goOn))
	short, long := through(t, g, "/short"), through(t, g, "/agent")
	<-came
	<-came
	shut := make(chan error, 1)
	go func() { shut <- g.Shut(t.Context()) }()
	goOn <- struct{}{} // one of the two
	var first string
	var rest <-chan string
	select {
	case first = <-short:
		rest = long
	case first = <-long: // the other one is in the way still
		goOn <- struct{}{}
		rest = short
	}
	if first != "old" {
		t.Errorf("got %q", first)
	}
	if err := <-shut; err != nil {
		t.Fatal(err)
	}
	late := through(t, g, "/late")
	if err := g.Shut(t.Context()); err == nil {
		t.Error("it was shut twice")
	}
	next := make(chan struct{})
	close(next)
	g.Open(waiting("new", came, next))
	if got := <-late; got != "new" {
		t.Errorf("got %q", got)
	}
	if rest == long {
		goOn <- struct{}{}
	}
	if got := <-rest; got != "old" {
		t.Errorf("got %q", got)
	}
}

func TestGateOpensAgainWhereSomebodyStays(t *testing.T) {
	came, goOn := make(chan string, 9), make(chan struct{})
	g := server.NewGate(waiting("old", came, goOn))
	slow := through(t, g, "/slow")
	<-came
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Shut(ctx); err == nil || !strings.Contains(err.Error(), "GET /slow") {
		t.Errorf("got %v", err)
	}
	close(goOn)
	for _, done := range []<-chan string{slow, through(t, g, "/next")} {
		if got := <-done; got != "old" {
			t.Errorf("got %q", got)
		}
	}
	if err := g.Shut(t.Context()); err != nil {
		t.Error(err)
	}
}

// Whoever leaves while it is shut is not let in, and what goes on after its answer holds nobody up.
func TestGateForgetsWhoHasLeft(t *testing.T) {
	left := make(chan func(), 1)
	g := server.NewGate(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { left <- server.Inside(r.Context()) }))
	<-through(t, g, "/")
	(<-left)()
	if err := g.Shut(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "/", nil)) // returns
	select {
	case <-left:
		t.Error("it was let in")
	default:
	}
	server.Inside(context.Background())() // as where there is no gate
}

func TestOnceIsRemembered(t *testing.T) {
	var old, next server.Once[string]
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/", nil)
	r.Header.Set("Idempotency-Key", "a")
	if _, err := old.Do(r, 1, func() (string, error) { return "first", nil }); err != nil {
		t.Fatal(err)
	}
	failed := httptest.NewRequestWithContext(t.Context(), "POST", "/", nil)
	failed.Header.Set("Idempotency-Key", "b")
	if _, err := old.Do(failed, 1, func() (string, error) { return "", errors.New("no") }); err == nil {
		t.Fatal("no error")
	}
	next.Recall(old.Memory())
	if got, err := next.Do(r, 1, func() (string, error) { return "second", nil }); got != "first" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := next.Do(r, 2, func() (string, error) { return "third", nil }); err == nil {
		t.Error("another request with the same key is no error")
	}
	if got, err := next.Do(failed, 1, func() (string, error) { return "fourth", nil }); got != "fourth" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// An answer that a client reads slowly holds nobody up.
func TestGateLetsAnswersGoOn(t *testing.T) {
	began, goOn := make(chan struct{}), make(chan struct{})
	g := server.NewGate(server.Guard(func(w http.ResponseWriter, _ *http.Request) error {
		_, err := io.WriteString(w, "old")
		close(began)
		<-goOn
		return err
	}, server.Options{Hosts: []string{"*"}}))
	done := through(t, g, "/")
	<-began
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Shut(ctx); err != nil {
		t.Error(err)
	}
	close(goOn)
	if got := <-done; got != "old" {
		t.Errorf("got %q", got)
	}
}

// A body that comes too slowly is given up where nothing else is in the way, and told so.
func TestGateGivesSlowBodiesUp(t *testing.T) {
	came, busy, goOn := make(chan struct{}, 2), make(chan struct{}), make(chan struct{})
	h := server.New([]server.Route{
		{Method: "POST", Path: "/", Handle: func(w http.ResponseWriter, r *http.Request) error { return server.Decode(r, &struct{}{}) }},
		{Method: "GET", Path: "/", Handle: func(http.ResponseWriter, *http.Request) error { close(busy); <-goOn; return nil }},
	}, server.Options{Hosts: []string{"*"}})
	g := server.NewGate(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { came <- struct{}{}; h.ServeHTTP(w, r) }))
	s := httptest.NewServer(g)
	defer s.Close()
	body, send := io.Pipe()
	defer send.Close()
	status := make(chan int, 1)
	go func() {
		resp, err := s.Client().Post(s.URL, "application/json", body)
		if err != nil {
			t.Error(err)
			close(status)
			return
		}
		resp.Body.Close()
		status <- resp.StatusCode
	}()
	if _, err := io.WriteString(send, "{"); err != nil {
		t.Fatal(err)
	}
	<-came
	other := through(t, g, "/")
	<-busy
	late, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	if err := g.Shut(late); err == nil {
		t.Error("a request that is at work is no hindrance")
	}
	close(goOn)
	<-other
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for range 10 {
		if err := g.Shut(cancelled); err == nil {
			t.Error("a body is given up for what is not to be any more")
		}
	}
	for err := g.Shut(late); err != nil; err = g.Shut(late) { // until it has begun with the body
		runtime.Gosched()
	}
	if got := <-status; got != http.StatusServiceUnavailable {
		t.Errorf("status %d", got)
	}
}
