package server_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/trace"
)

// span is one whose status and failure are sent once it has ended.
type span struct {
	status any
	failed string
	ended  chan<- string
}

func (s *span) Request(http.Header, string, ...trace.Attr) trace.Span         { return &span{ended: s.ended} }
func (s *span) Start(string, trace.Kind, time.Time, ...trace.Attr) trace.Span { return s }
func (*span) Rename(string)                                                   {}
func (*span) Event(string, time.Time)                                         {}
func (s *span) Fail(kind string)                                              { s.failed = kind }
func (s *span) End(time.Time)                                                 { s.ended <- fmt.Sprint(s.status, s.failed) }
func (*span) Inject(http.Header)                                              {}
func (s *span) Set(attrs ...trace.Attr) {
	for _, a := range attrs {
		if a.Key == "http.response.status_code" {
			s.status = a.Value
		}
	}
}

// A span has the status of the answer, and none where there is no answer.
func TestStatusOfASpan(t *testing.T) {
	ended := make(chan string, 1)
	came := make(chan struct{})
	h := server.Guard(func(w http.ResponseWriter, r *http.Request) error {
		switch r.URL.Path {
		case "/hijack":
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
				conn.Close()
			}
			return err
		case "/left":
			close(came)
			<-r.Context().Done()
		case "/cut":
			panic(http.ErrAbortHandler)
		}
		return nil
	}, server.Options{Tracer: &span{ended: ended}})
	s := httptest.NewServer(h)
	defer s.Close()
	s.Client().Transport.(*http.Transport).DisableKeepAlives = true // a request that is cut on a kept connection is sent again
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-came; leave() }()
	for path, want := range map[string]string{"/": "200", "/hijack": "101", "/left": "<nil>", "/cut": "<nil>cut"} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if path == "/left" {
			req = req.WithContext(ctx)
		}
		if resp, err := s.Client().Do(req); err == nil {
			resp.Body.Close()
		}
		if got := <-ended; got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}
