// Package otlptest is a collector of traces for tests. It reads OTLP by the types that OpenTelemetry generates of its own protocol.
package otlptest

import (
	"compress/gzip"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Span is one that has come. Ids are hexadecimal; that of the span above is "" where there is none.
type Span struct {
	Trace, ID, Parent, State string
	Name                     string
	Kind                     string // SPAN_KIND_SERVER …
	Flags                    uint32
	Start, End               time.Time
	Attrs                    map[string]any // string, int64, float64 or bool
	Events                   []Event
	Failed                   bool
	Resource                 map[string]any
}

// Event is something that happened in a span.
type Event struct {
	Name string
	At   time.Time
}

// Collector collects. Its methods are safe for concurrent use.
type Collector struct {
	URL string // what traces are sent to, without a path

	answers func(w http.ResponseWriter, r *http.Request) bool

	t     testing.TB
	mu    sync.Mutex
	spans []Span
	heads []http.Header
	more  chan struct{} // closed when some have come
}

// New returns a collector, which ends with the test. Where answers returns true it has answered a request, of which nothing is collected; nil: it never does.
func New(t testing.TB, answers func(w http.ResponseWriter, r *http.Request) bool) *Collector {
	c := &Collector{t: t, answers: answers, more: make(chan struct{})}
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	c.URL = s.URL
	return c
}

// ServeHTTP answers POST /v1/traces: https://opentelemetry.io/docs/specs/otlp/#otlphttp-request
func (c *Collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			c.t.Error(err)
			return
		}
		body = z
	}
	text, err := io.ReadAll(body)
	if err != nil {
		if c.answers == nil { // else a client may leave in the middle
			c.t.Error(err)
		}
		return
	}
	if c.answers != nil && c.answers(w, r) { // now that a client that leaves is seen
		return
	}
	if r.Method != http.MethodPost || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		c.t.Errorf("got %s %s, %v", r.Method, r.URL, r.Header)
	}
	var sent tracepb.TracesData // the same as an ExportTraceServiceRequest, whose package brings gRPC
	if err := proto.Unmarshal(text, &sent); err != nil {
		c.t.Errorf("cannot read traces: %v", err)
	}
	if unknown := sent.ProtoReflect().GetUnknown(); len(unknown) > 0 {
		c.t.Errorf("unknown fields: %x", unknown)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heads = append(c.heads, r.Header)
	for _, of := range sent.ResourceSpans {
		for _, scope := range of.ScopeSpans {
			for _, s := range scope.Spans {
				c.spans = append(c.spans, spanOf(s, values(of.Resource.GetAttributes())))
			}
		}
	}
	close(c.more)
	c.more = make(chan struct{})
}

// Spans returns what has come.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Span(nil), c.spans...)
}

// Heads returns the headers of all requests.
func (c *Collector) Heads() []http.Header {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]http.Header(nil), c.heads...)
}

// Wait returns what has come once that is enough.
func (c *Collector) Wait(enough func([]Span) bool) []Span {
	c.t.Helper()
	limit := time.After(2 * time.Minute)
	for {
		c.mu.Lock()
		spans, more := append([]Span(nil), c.spans...), c.more
		c.mu.Unlock()
		if enough(spans) {
			return spans
		}
		select {
		case <-more:
		case <-limit:
			c.t.Fatalf("too little has come: %+v", spans)
		}
	}
}

// Find returns the one span of the name, if the others have it above them.
func Find(t testing.TB, spans []Span, name string) Span {
	t.Helper()
	var found []Span
	for _, s := range spans {
		if s.Name == name {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d spans %q among %+v", len(found), name, spans)
	}
	return found[0]
}

func spanOf(s *tracepb.Span, resource map[string]any) Span {
	got := Span{
		Trace: hex.EncodeToString(s.TraceId), ID: hex.EncodeToString(s.SpanId), Parent: hex.EncodeToString(s.ParentSpanId), State: s.TraceState,
		Name: s.Name, Kind: s.Kind.String(), Flags: s.Flags, Start: time.Unix(0, int64(s.StartTimeUnixNano)), End: time.Unix(0, int64(s.EndTimeUnixNano)),
		Attrs: values(s.Attributes), Failed: s.Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR, Resource: resource,
	}
	for _, e := range s.Events {
		got.Events = append(got.Events, Event{e.Name, time.Unix(0, int64(e.TimeUnixNano))})
	}
	return got
}

func values(attrs []*commonpb.KeyValue) map[string]any {
	all := map[string]any{}
	for _, a := range attrs {
		switch v := a.Value.GetValue().(type) {
		case *commonpb.AnyValue_StringValue:
			all[a.Key] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			all[a.Key] = v.IntValue
		case *commonpb.AnyValue_DoubleValue:
			all[a.Key] = v.DoubleValue
		case *commonpb.AnyValue_BoolValue:
			all[a.Key] = v.BoolValue
		}
	}
	return all
}
