package sandboxes_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/internal/otlptest"
	"github.com/k2sandbox/k2sandbox/internal/servertest"
	"github.com/k2sandbox/k2sandbox/server/sandboxes"
	"github.com/k2sandbox/k2sandbox/trace/otlp"
)

// traced starts a server that sends traces, and returns what waits until all of them have come.
func traced(t *testing.T, serve func(net.Conn)) (*site, func() []otlptest.Span) {
	t.Helper()
	c := otlptest.New(t, nil)
	tracer, err := otlp.Open(otlp.Options{URL: c.URL + "/v1/traces", Service: "k2sandbox"})
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, serve, func(o *sandboxes.Options, _ *fleet.Options) { o.Tracer = tracer })
	return s, func() []otlptest.Span {
		t.Helper()
		s.Server.Close() // once all requests have been answered
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := tracer.Close(ctx); err != nil {
			t.Error(err)
		}
		return c.Spans()
	}
}

const (
	traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	parent  = "00-" + traceID + "-00f067aa0ba902b7-01"
)

var ran = api.RunTrace{
	ExecutionID: "ex_1", Context: "default", Status: executor.OK, Started: time.Millisecond, FirstOutput: 2 * time.Millisecond,
	Ended: 3 * time.Millisecond, Told: 4 * time.Millisecond, CPUTime: time.Second / 2, MemoryPeak: 1 << 20,
}

// tells is an agent that tells in a trailer of a run.
func tells(text string, heard func(h http.Header)) func(net.Conn) {
	return handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		heard(r.Header)
		w.Header().Set("Content-Type", "application/x-ndjson")
		_, _ = io.WriteString(w, lines)
		_ = http.NewResponseController(w).Flush()
		w.Header().Set(http.TrailerPrefix+api.RunTraceHeader, text)
	}))
}

// A request, what happens in its sandbox and the run are one tree, in the client's trace.
func TestTraceOfARun(t *testing.T) {
	heard := make(chan http.Header, 1)
	s, all := traced(t, tells(ran.String(), func(h http.Header) { heard <- h }))
	id := s.create(t, "Traceparent", parent, "Tracestate", "a=b")
	resp := s.call(t, "POST", "/v1/sandboxes/"+id+"/code?secret=1", `{"code":"secret"}`, "Traceparent", parent, "X-Run-Trace", "mine", "X-Request-Id", "my-request")
	if servertest.Read(t, resp); resp.Trailer.Get(api.RunTraceHeader) != "" {
		t.Errorf("the client got %v", resp.Trailer)
	}
	got := <-heard
	spans := all()
	for _, span := range spans {
		if text := fmt.Sprint(span); span.Trace != traceID || strings.Contains(text, "secret") {
			t.Errorf("got %s", text)
		}
	}
	made, create := otlptest.Find(t, spans, "POST /v1/sandboxes"), otlptest.Find(t, spans, "create")
	if create.Parent != made.ID || create.Attrs["k2sandbox.sandbox.id"] != id || made.Attrs["http.response.status_code"] != int64(201) || made.Parent != "00f067aa0ba902b7" {
		t.Errorf("got %+v below %+v", create, made)
	}
	request, forward, run := otlptest.Find(t, spans, "POST /v1/sandboxes/{id}/code"), otlptest.Find(t, spans, "forward"), otlptest.Find(t, spans, "run")
	for name, want := range map[string]any{
		"http.request.method": "POST", "http.route": "/v1/sandboxes/{id}/code", "http.response.status_code": int64(200), "url.path": "/v1/sandboxes/" + id + "/code",
		"url.scheme": "http", "k2sandbox.sandbox.id": id, "k2sandbox.request.id": "my-request", "client.address": "127.0.0.1", "server.address": "127.0.0.1",
		"network.protocol.version": "1.1", "user_agent.original": "Go-http-client/1.1",
	} {
		if request.Attrs[name] != want {
			t.Errorf("%s: got %v, want %v", name, request.Attrs[name], want)
		}
	}
	if request.Failed || forward.Failed || forward.Parent != request.ID || forward.Kind != "SPAN_KIND_CLIENT" || len(forward.Events) != 1 {
		t.Errorf("got %+v below %+v", forward, request)
	}
	if got.Get("Traceparent") != "00-"+traceID+"-"+forward.ID+"-01" || got.Get(api.RunTraceHeader) != "true" {
		t.Errorf("the agent got %v", got)
	}
	if run.Parent != forward.ID || run.Failed || run.Start.Before(forward.Start) || run.End.After(forward.End) || run.Attrs["k2sandbox.execution.id"] != "ex_1" ||
		run.Attrs["k2sandbox.run.status"] != "ok" || run.Attrs["k2sandbox.run.cpu_time"] != 0.5 || run.Attrs["k2sandbox.run.memory_peak"] != int64(1<<20) || len(run.Events) != 2 {
		t.Errorf("got %+v", run)
	}
}

// What an agent tells of a run is bounded by what the server has seen of it, or no span at all.
func TestHostileRunTraces(t *testing.T) {
	mad := ran
	mad.Told, mad.Ended, mad.Started, mad.FirstOutput, mad.CPUTime, mad.MemoryPeak = 1<<62, 1<<61, 1<<60, -1<<60, 1<<62, 1<<62
	mad.Status, mad.Context, mad.ExecutionID = executor.KernelDied, "\xff\x00"+strings.Repeat("x", 100), strings.Repeat("ä", 100)
	for text, good := range map[string]bool{
		ran.String(): true, mad.String(): true, ran.String() + "&run=second": true,
		"": false, "x": false, "%zz": false, "status=ok": false, strings.Replace(ran.String(), "status=ok", "status=fine", 1): false,
		strings.Replace(ran.String(), "ended=", "ended=-", 1): false, strings.Replace(ran.String(), "told=", "told=9999999999999999999999", 1): false,
		ran.String() + "&x=" + strings.Repeat("y", 2000): false,
	} {
		s, all := traced(t, tells(text, func(http.Header) {}))
		servertest.Read(t, s.call(t, "POST", "/v1/sandboxes/"+s.create(t)+"/code", `{}`))
		spans := all()
		forward, found := otlptest.Find(t, spans, "forward"), false
		for _, span := range spans {
			if span.Name != "run" {
				continue
			}
			found = true
			if span.Start.Before(forward.Start) || span.End.After(forward.End) || span.End.Before(span.Start) || len(fmt.Sprint(span)) > 2000 {
				t.Errorf("%q: got %+v in %+v", text, span, forward)
			}
			for _, e := range span.Events {
				if e.At.Before(span.Start) || e.At.After(forward.End) {
					t.Errorf("%q: got %+v in %+v", text, e, span)
				}
			}
		}
		if found != good {
			t.Errorf("%q: there is a span: %v", text, found)
		}
	}
}

// What fails is told by a word of which there are few.
func TestTracesOfFailures(t *testing.T) {
	s, all := traced(t, scripted(func(conn net.Conn, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/capabilities") {
			_, _ = io.WriteString(conn, ok+"Content-Length: 100\r\n\r\nhalf")
		}
		conn.Close()
	}))
	path := "/v1/sandboxes/" + s.create(t)
	refused(t, s.call(t, "GET", path+"/timeline", ""), 502, api.SandboxUnreachable)
	resp := s.call(t, "GET", path+"/capabilities", "")
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("the answer looks whole")
	}
	refused(t, s.call(t, "GET", "/v1/sandboxes/sb_none/files", ""), 404, api.NotFound)
	s.machines.fail = io.ErrNoProgress
	refused(t, s.call(t, "POST", "/v1/sandboxes", "{}"), 500, api.Internal)
	spans := all()
	for name, want := range map[string]any{
		"GET /v1/sandboxes/{id}/timeline": "sandbox_unreachable", "GET /v1/sandboxes/{id}/capabilities": "cut", "GET /v1/sandboxes/{id}/{path}": nil,
	} {
		if got := otlptest.Find(t, spans, name); got.Failed != (want != nil) || got.Attrs["error.type"] != want {
			t.Errorf("%s: got %+v, want %v", name, got, want)
		}
	}
	kinds := map[string]int{}
	for _, span := range spans {
		if span.Name == "forward" || span.Name == "create" || span.Name == "POST /v1/sandboxes" {
			kinds[fmt.Sprint(span.Name, " ", span.Attrs["error.type"])]++
		}
	}
	for _, want := range []string{"forward sandbox_unreachable", "forward cut", "create <nil>", "create _OTHER", "POST /v1/sandboxes internal"} {
		if kinds[want] != 1 {
			t.Errorf("no %q in %v", want, kinds)
		}
	}
}

// Spans are named by routes, of which there are few, whatever clients ask for; what is a program's inside is not told.
func TestRoutesOfTraces(t *testing.T) {
	s, all := traced(t, handler(http.HandlerFunc(echo)))
	id := s.create(t)
	want := map[string]string{ // → url.path below the sandbox's
		"/executions/ex_1/events": "GET /v1/sandboxes/{id}/executions/{eid}/events /executions/ex_1/events",
		"/contexts/a%2Fb":         "GET /v1/sandboxes/{id}/contexts/{cid} /contexts/a/b",
		"/files?path=secret":      "GET /v1/sandboxes/{id}/files /files",
		"/ports/80/secret?a":      "GET /v1/sandboxes/{id}/ports/{port}/{path} /ports/80",
		"/ports/80/secret/other":  "GET /v1/sandboxes/{id}/ports/{port}/{path} /ports/80",
		"/v1/timeline":            "GET /v1/sandboxes/{id}/timeline /v1/timeline",
		"/no/such/thing":          "GET /v1/sandboxes/{id}/{path} /no/such/thing",
	}
	for rest := range want {
		servertest.Read(t, s.call(t, "GET", "/v1/sandboxes/"+id+rest, ""))
	}
	servertest.Read(t, s.call(t, "BREW", "/v1/sandboxes/"+id+"/coffee", ""))
	servertest.Read(t, s.call(t, "GET", "/nowhere/at/all", ""))
	got := map[string]bool{}
	for _, span := range all() {
		if span.Kind == "SPAN_KIND_SERVER" {
			got[span.Name+" "+strings.TrimPrefix(span.Attrs["url.path"].(string), "/v1/sandboxes/"+id)] = true
		}
	}
	for _, name := range want {
		if !got[name] {
			t.Errorf("no %q in %v", name, got)
		}
	}
	for _, name := range []string{"HTTP /v1/sandboxes/{id}/{path} /coffee", "GET /nowhere/at/all"} {
		if !got[name] {
			t.Errorf("no %q in %v", name, got)
		}
	}
}

// Who has no traces adds nothing to requests, and takes nothing from them.
func TestNoTraces(t *testing.T) {
	heard := make(chan http.Header, 1)
	s := start(t, tells(ran.String(), func(h http.Header) { heard <- h }), nil)
	resp := s.call(t, "POST", "/v1/sandboxes/"+s.create(t)+"/code", `{}`, "Traceparent", parent, "X-Run-Trace", "true")
	if servertest.Read(t, resp); resp.Trailer.Get(api.RunTraceHeader) != "" {
		t.Errorf("the client got %v", resp.Trailer)
	}
	if h := <-heard; h.Get("Traceparent") != parent || h.Get(api.RunTraceHeader) != "" {
		t.Errorf("the agent got %v", h)
	}
}

// A span of a stream ends with the stream.
func TestTraceOfAStream(t *testing.T) {
	quit := make(chan struct{})
	s, all := traced(t, handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-quit
	})))
	path := "/v1/sandboxes/" + s.create(t)
	resp := s.call(t, "GET", path+"/stream", "")
	there := time.Now()
	close(quit)
	servertest.Read(t, resp)
	spans := all()
	for _, name := range []string{"GET /v1/sandboxes/{id}/stream", "forward"} {
		if got := otlptest.Find(t, spans, name); got.End.Before(there) || got.Failed {
			t.Errorf("got %+v, which ends before %v", got, there)
		}
	}
}
