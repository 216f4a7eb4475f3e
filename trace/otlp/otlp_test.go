package otlp_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/k2sandbox/k2sandbox/internal/leaktest"
	"github.com/k2sandbox/k2sandbox/internal/otlptest"
	"github.com/k2sandbox/k2sandbox/internal/servertest"
	"github.com/k2sandbox/k2sandbox/trace"
	"github.com/k2sandbox/k2sandbox/trace/otlp"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := leaktest.Goroutines(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func open(t *testing.T, c *otlptest.Collector, change func(*otlp.Options)) *otlp.Tracer {
	t.Helper()
	o := otlp.Options{URL: c.URL + "/v1/traces", Service: "tested", Version: "1.2.3", Pause: time.Millisecond}
	if change != nil {
		change(&o)
	}
	tracer, err := otlp.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return tracer
}

func closed(t *testing.T, tracer *otlp.Tracer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := tracer.Close(ctx); err != nil {
		t.Error(err)
	}
}

const (
	traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	above   = "00f067aa0ba902b7"
)

func sampled(flags string) http.Header {
	return http.Header{"Traceparent": {"00-" + traceID + "-" + above + "-" + flags}, "Tracestate": {"vendor=1"}}
}

// What is told comes as it was told, in the client's trace.
func TestSpans(t *testing.T) {
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.name=other")
	for _, gzip := range []bool{false, true} {
		c := otlptest.New(t, nil)
		tracer := open(t, c, func(o *otlp.Options) { o.Gzip, o.Headers = gzip, map[string]string{"X-Key": "secret"} })
		at := time.Unix(1_700_000_000, 123456789)
		s := tracer.Request(sampled("01"), "POST", trace.String("a", "text"), trace.Int("n", -3))
		s.Rename("POST /x")
		s.Set(trace.Attr{Key: "a", Value: "other"}, trace.Attr{Key: "f", Value: 1.5}, trace.Attr{Key: "no", Value: false})
		child := s.Start("child", trace.Client, at)
		sent := http.Header{}
		child.Inject(sent)
		child.Event("something", at.Add(time.Second))
		child.Fail("some_kind")
		child.End(at.Add(2 * time.Second))
		child.Start("late", trace.Internal, time.Time{}).End(time.Time{})
		s.End(time.Time{})
		closed(t, tracer)

		spans := c.Spans()
		root, got := otlptest.Find(t, spans, "POST /x"), otlptest.Find(t, spans, "child")
		if root.Trace != traceID || root.Parent != above || root.State != "vendor=1" || root.Kind != "SPAN_KIND_SERVER" || root.Flags != 0x301 || root.Failed {
			t.Errorf("got %+v", root)
		}
		if len(root.Attrs) != 4 || root.Attrs["a"] != "other" || root.Attrs["n"] != int64(-3) || root.Attrs["f"] != 1.5 || root.Attrs["no"] != false {
			t.Errorf("got %+v", root.Attrs)
		}
		if got.Trace != traceID || got.Parent != root.ID || got.Kind != "SPAN_KIND_CLIENT" || got.Flags != 0x101 || !got.Failed || got.Attrs["error.type"] != "some_kind" {
			t.Errorf("got %+v", got)
		}
		if !got.Start.Equal(at) || !got.End.Equal(at.Add(2*time.Second)) || len(got.Events) != 1 || got.Events[0].Name != "something" || !got.Events[0].At.Equal(at.Add(time.Second)) {
			t.Errorf("got %+v", got)
		}
		if want := "00-" + traceID + "-" + got.ID + "-01"; sent.Get("Traceparent") != want || sent.Get("Tracestate") != "vendor=1" {
			t.Errorf("got %v, want %s", sent, want)
		}
		if late := otlptest.Find(t, spans, "late"); late.Parent != got.ID || late.Kind != "SPAN_KIND_INTERNAL" || late.End.Before(late.Start) {
			t.Errorf("got %+v", late)
		}
		if r := root.Resource; r["service.name"] != "other" || r["service.version"] != "1.2.3" || r["deployment.environment.name"] != "test" || r["telemetry.sdk.language"] != "go" {
			t.Errorf("got %v", r)
		}
		if heads := c.Heads(); len(heads) != 1 || heads[0].Get("X-Key") != "secret" || (heads[0].Get("Content-Encoding") == "gzip") != gzip {
			t.Errorf("got %v", heads)
		}
	}
}

// A client that does not sample its trace is obeyed; one that says nonsense has none, and a span of its own.
func TestSampling(t *testing.T) {
	c := otlptest.New(t, nil)
	tracer := open(t, c, nil)
	if s := tracer.Request(sampled("00"), "GET"); s != nil {
		t.Error("there is a span")
	}
	for _, parent := range []string{"", "00-" + traceID, "zz-" + traceID + "-" + above + "-01", "00-00000000000000000000000000000000-" + above + "-01", strings.Repeat("x", 1<<16)} {
		tracer.Request(http.Header{"Traceparent": {parent}}, "GET").End(time.Time{})
	}
	closed(t, tracer)
	seen := map[string]bool{"": true, traceID: true}
	for _, s := range c.Spans() {
		if seen[s.Trace] || s.Parent != "" || s.Flags != 0x101 {
			t.Errorf("got %+v", s)
		}
		seen[s.Trace] = true
	}
	if len(seen) != 7 {
		t.Errorf("got %v", seen)
	}

	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	tracer = open(t, c, nil)
	if s := tracer.Request(sampled("01"), "GET"); s != nil {
		t.Error("there is a span")
	}
	closed(t, tracer)
}

// Texts of clients and sandboxes are bounded, and cost no other span its way.
func TestHostileTexts(t *testing.T) {
	c := otlptest.New(t, nil)
	tracer := open(t, c, nil)
	for _, text := range []string{"\xff\xfe", strings.Repeat("\xff", 1<<20), strings.Repeat("ä", 200), "\x00\n", strings.Repeat("x", 1<<20)} {
		s := tracer.Request(http.Header{}, text, trace.String("a", text))
		s.Rename(text)
		s.Set(trace.String("b", text))
		for range 1000 {
			s.Event(text, time.Now())
		}
		s.Fail(text)
		s.End(time.Time{})
		s.Set(trace.String("too", "late"))
		s.End(time.Time{})
	}
	closed(t, tracer)
	spans := c.Spans()
	if len(spans) != 5 {
		t.Fatalf("got %d spans", len(spans))
	}
	for _, s := range spans {
		if len(s.Events) > 200 || len(s.Attrs) != 3 {
			t.Errorf("%d events, %v", len(s.Events), s.Attrs)
		}
		for _, text := range []any{s.Name, s.Attrs["a"], s.Attrs["b"], s.Attrs["error.type"]} {
			if text := text.(string); len(text) > 1<<10 || !utf8.ValidString(text) {
				t.Errorf("got %d bytes", len(text))
			}
		}
	}
}

func logging(to *servertest.Buffer) func(*otlp.Options) {
	return func(o *otlp.Options) { o.Log = slog.New(slog.NewTextHandler(to, nil)) }
}

// A collector that takes requests and never answers holds up nobody: neither who makes spans, nor the end.
func TestCollectorThatHangs(t *testing.T) {
	quit, asked := make(chan struct{}), make(chan struct{}, 1)
	defer close(quit)
	c := otlptest.New(t, func(_ http.ResponseWriter, r *http.Request) bool {
		select {
		case asked <- struct{}{}:
		default:
		}
		select {
		case <-quit:
		case <-r.Context().Done():
		}
		return true
	})
	var log servertest.Buffer
	tracer := open(t, c, logging(&log))
	for range 10_000 { // more than the queue has places
		tracer.Request(http.Header{}, "GET").End(time.Time{})
	}
	<-asked
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := tracer.Close(ctx); err == nil {
		t.Error("all was sent")
	}
	if err := leaktest.Goroutines("TestMain(", "TestCollectorThatHangs", "otlptest"); err != nil {
		t.Error(err)
	}
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "cannot send traces") {
		t.Errorf("log: %s", text)
	}
}

// What a collector refuses is not sent again, and what it cannot take now is.
func TestCollectorThatRefuses(t *testing.T) {
	for status, again := range map[int]bool{400: false, 401: false, 404: false, 307: false, 500: false, 429: true, 502: true, 503: true, 504: true} {
		var asked atomic.Int64
		c := otlptest.New(t, func(w http.ResponseWriter, r *http.Request) bool {
			if asked.Add(1) > 2 {
				return false
			}
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
			return true
		})
		var log servertest.Buffer
		tracer := open(t, c, logging(&log))
		tracer.Request(http.Header{}, "GET").End(time.Time{})
		closed(t, tracer)
		if again && (asked.Load() != 3 || len(c.Spans()) != 1 || log.String() != "") {
			t.Errorf("%d: asked %d times, %v, log: %s", status, asked.Load(), c.Spans(), log.String())
		}
		if !again && (asked.Load() != 1 || !strings.Contains(log.String(), "lost_spans=1")) {
			t.Errorf("%d: asked %d times, log: %s", status, asked.Load(), log.String())
		}
	}
}

// One that is not there costs a line of the log, and none of its headers are in it.
func TestNoCollector(t *testing.T) {
	var log servertest.Buffer
	tracer, err := otlp.Open(otlp.Options{URL: "http://user:secret@127.0.0.1:1/v1/traces", Headers: map[string]string{"X-Key": "secret"}, Log: slog.New(slog.NewTextHandler(&log, nil)), Pause: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	tracer.Request(http.Header{}, "GET").End(time.Time{})
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = tracer.Close(ctx)
	if err := leaktest.Goroutines("TestMain(", "TestNoCollector"); err != nil { // the line comes before the end
		t.Error(err)
	}
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "cannot send traces") || strings.Contains(text, "secret") {
		t.Errorf("log: %s", text)
	}
}

func TestBadOptions(t *testing.T) {
	for _, where := range []string{"", "127.0.0.1:4318", "grpc://x:4317", "http://", "http://a b/", "unix:/x"} {
		if _, err := otlp.Open(otlp.Options{URL: where}); err == nil {
			t.Errorf("%q is good", where)
		}
	}
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "no equals sign")
	if _, err := otlp.Open(otlp.Options{URL: "http://127.0.0.1:1"}); err == nil || !strings.Contains(err.Error(), "OTEL_RESOURCE_ATTRIBUTES") {
		t.Errorf("got %v", err)
	}
}
