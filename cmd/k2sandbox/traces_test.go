package main_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/internal/otlptest"
)

const traceID = "4bf92f3577b34da6a3ce929d0e0e4736"

// inTrace sends a request that is part of a trace.
func inTrace(t *testing.T, h *house, path, body string, headers ...string) {
	t.Helper()
	h.client.Transport = transport(func(r *http.Request) (*http.Response, error) {
		r.Header.Set("Traceparent", "00-"+traceID+"-00f067aa0ba902b7-01")
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		return http.DefaultTransport.RoundTrip(r)
	})
	defer func() { h.client.Transport = nil }()
	h.ask(t, "POST", path, body, 200, nil)
}

type transport func(*http.Request) (*http.Response, error)

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

// A create and a run are trees of spans from the request to what happens in the sandbox, of which nothing else is told; and nothing of where they go is
// told to code.
func TestTraces(t *testing.T) {
	t.Parallel()
	c := otlptest.New(t, nil)
	h := openIn(t, filepath.Join(t.TempDir(), "state"), []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.URL, "OTEL_EXPORTER_OTLP_HEADERS=x-key=a%20secret", "OTEL_SERVICE_NAME=my-service", "OTEL_BSP_SCHEDULE_DELAY=20",
	})
	box := h.create(t)
	inTrace(t, h, "/v1/sandboxes/"+box.SandboxID+"/code", `{"code":"import os\nx = [v for v in os.environ if v.startswith('OTEL')]\nassert not x, x\nprint('hidden')"}`)
	inTrace(t, h, "/v1/sandboxes/"+box.SandboxID+"/code", `{"code":"1/0 # hidden"}`)
	inTrace(t, h, "/execute", `{"code":"print('hidden')"}`, "E2b-Sandbox-Id", box.SandboxID, "E2b-Sandbox-Port", "49999")
	spans := c.Wait(func(spans []otlptest.Span) bool {
		n := 0
		for _, s := range spans {
			if s.Kind == "SPAN_KIND_SERVER" {
				n++
			}
		}
		return n == 4
	})
	byID := map[string]otlptest.Span{}
	for _, s := range spans {
		byID[s.ID] = s
		if s.Resource["service.name"] != "my-service" {
			t.Errorf("got %v", s.Resource)
		}
	}
	path := func(s otlptest.Span) (names string) {
		for ; s.ID != ""; s = byID[s.Parent] {
			names = "/" + s.Name + names
		}
		return names
	}
	got := map[string][]otlptest.Span{}
	for _, s := range spans {
		got[path(s)] = append(got[path(s)], s)
		for name, value := range s.Attrs {
			if text, ok := value.(string); ok && strings.Contains(text, "hidden") {
				t.Errorf("%s: %s is %s", s.Name, name, text)
			}
		}
	}
	for name, n := range map[string]int{
		"/POST /v1/sandboxes": 1, "/POST /v1/sandboxes/create": 1, "/POST /v1/sandboxes/create/wait for turn": 1, "/POST /v1/sandboxes/create/take process": 1,
		"/POST /v1/sandboxes/create/confine": 1, "/POST /v1/sandboxes/create/start kernel": 1,
		"/POST /v1/sandboxes/{id}/code": 2, "/POST /v1/sandboxes/{id}/code/forward": 2, "/POST /v1/sandboxes/{id}/code/forward/run": 2, "/POST /execute/forward/run": 1,
	} {
		if len(got[name]) != n {
			t.Fatalf("%d of %q, want %d: %+v", len(got[name]), name, n, got)
		}
	}
	runs := got["/POST /v1/sandboxes/{id}/code/forward/run"]
	for _, s := range runs {
		failed := s.Attrs["k2sandbox.run.status"] == "error"
		if s.Trace != traceID || s.Failed != failed || s.Attrs["k2sandbox.context.id"] != "default" || s.Attrs["k2sandbox.run.queue_time"] == nil ||
			s.Events[0].Name != "started" || failed == (len(s.Events) == 2) {
			t.Errorf("got %+v", s)
		}
	}
	if runs[0].Failed == runs[1].Failed {
		t.Errorf("got %+v", runs)
	}
	if c.Heads()[0].Get("X-Key") != "a secret" {
		t.Errorf("got %v", c.Heads()[0])
	}
	h.stopped(t)
}

// An agent by itself tells of its runs, too.
func TestTracesOfAnAgent(t *testing.T) {
	t.Parallel()
	c := otlptest.New(t, nil)
	e := serve(t, "127.0.0.1:0", "--otlp-endpoint", c.URL)
	e.run(t, map[string]any{"code": "print(1)"}).end()
	e.stop(t) // which sends what there is
	request, run := otlptest.Find(t, c.Spans(), "POST /v1/code"), otlptest.Find(t, c.Spans(), "run")
	if run.Parent != request.ID || request.Parent != "" || run.Attrs["k2sandbox.run.status"] != "ok" || request.Resource["service.name"] != "k2sandbox" {
		t.Errorf("got %+v below %+v", run, request)
	}
}

// A collector that takes requests and never answers holds nobody up, nor the end of the server.
func TestTracesToNowhere(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 100)
	c := otlptest.New(t, func(_ http.ResponseWriter, r *http.Request) bool {
		asked <- struct{}{}
		<-r.Context().Done()
		return true
	})
	h := openIn(t, filepath.Join(t.TempDir(), "state"), []string{"OTEL_BSP_SCHEDULE_DELAY=1"}, "--otlp-endpoint", c.URL)
	box := h.create(t)
	<-asked
	h.ask(t, "POST", "/v1/sandboxes/"+box.SandboxID+"/code", `{"code":"1"}`, 200, nil)
	h.stopped(t)
	if !strings.Contains(h.log.String(), "traces were not sent to their end") {
		t.Error("the log does not tell")
	}
}

func TestTraceSettings(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte("otlp-endpoint: http://127.0.0.1:4318\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(env ...string) result {
		t.Helper()
		return run(t, call{args: []string{"config", "check", file}, env: env})
	}
	for _, env := range []string{
		"X=", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION=gzip", "OTEL_EXPORTER_OTLP_HEADERS=a=b, c=d%3D,", "OTEL_TRACES_SAMPLER=traceidratio",
		"OTEL_TRACES_EXPORTER=none", "OTEL_SDK_DISABLED=TRUE", "OTEL_EXPORTER_OTLP_TIMEOUT=5000",
	} {
		check(env).expect(t, 0, file+": good\n")
	}
	for env, part := range map[string]string{
		"OTEL_EXPORTER_OTLP_PROTOCOL=grpc":                      "$OTEL_EXPORTER_OTLP_PROTOCOL: want http/protobuf",
		"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/json":          "$OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: want http/protobuf",
		"OTEL_EXPORTER_OTLP_COMPRESSION=zstd":                   "$OTEL_EXPORTER_OTLP_COMPRESSION: want none or gzip",
		"OTEL_EXPORTER_OTLP_HEADERS=secret":                     "$OTEL_EXPORTER_OTLP_HEADERS: want NAME=VALUE",
		"OTEL_EXPORTER_OTLP_TIMEOUT=-1":                         "$OTEL_EXPORTER_OTLP_TIMEOUT: want milliseconds",
		"OTEL_EXPORTER_OTLP_CERTIFICATE=/nowhere":               "$OTEL_EXPORTER_OTLP_CERTIFICATE: open /nowhere",
		"OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE=/nowhere": "$OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE: open /nowhere",
		"OTEL_TRACES_SAMPLER=some":                              "$OTEL_TRACES_SAMPLER: want one of",
		"OTEL_TRACES_EXPORTER=console":                          "$OTEL_TRACES_EXPORTER: want otlp or none",
		"OTEL_RESOURCE_ATTRIBUTES=nothing":                      "$OTEL_RESOURCE_ATTRIBUTES: ",
	} {
		got := check(env)
		got.complains(t, part)
		if got.status != 1 || strings.Contains(got.stderr, "secret") {
			t.Errorf("%s: status %d, %s", env, got.status, got.stderr)
		}
	}
	if err := os.WriteFile(file, []byte("otlp-endpoint: 127.0.0.1:4318\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	check().complains(t, "want http:// or https://")
}
