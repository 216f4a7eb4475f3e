package sandboxes_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/internal/servertest"
)

// What "promtool check metrics" finds wrong is wrong.
func TestMetricsAreAsPrometheusWantsThem(t *testing.T) {
	s := start(t, handler(http.HandlerFunc(echo)), nil)
	path := "/v1/sandboxes/" + s.create(t)
	servertest.Read(t, s.call(t, "POST", path+"/code", `{"code":"1"}`))
	text := servertest.Read(t, s.call(t, "GET", "/metrics", ""))
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	series := 0
	for name, f := range families {
		series += len(f.GetMetric())
		if len(f.GetMetric()) == 0 || len(f.GetMetric()) > 16 {
			t.Errorf("%s has %d series", name, len(f.GetMetric()))
		}
	}
	if series < 30 || series > 300 {
		t.Errorf("there are %d series", series)
	}
	bytes := families["k2sandbox_forwarded_bytes_total"]
	for _, m := range bytes.GetMetric() {
		if m.GetCounter().GetValue() < float64(len(`{"code":"1"}`)) {
			t.Errorf("bytes %v", m)
		}
	}
	refused := families["k2sandbox_creates_refused_total"]
	if got := len(refused.GetMetric()); got != 6 {
		t.Errorf("%d limits", got)
	}
	if own := families["k2sandbox_test_parts_total"]; len(own.GetMetric()) != 2 {
		t.Errorf("of the runtime: %v", own)
	}
	for _, name := range []string{"process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds", "go_goroutines", "k2sandbox_build_info", "k2sandbox_test_open"} {
		if f := families[name]; len(f.GetMetric()) != 1 {
			t.Errorf("no %s", name)
		}
	}
}

// Metrics is for fleet.Fleet.Metrics.
func (*machines) Metrics() []fleet.Metric {
	return []fleet.Metric{
		{Name: "test_parts_total", Help: "Parts.", Counter: true, Label: "part", Values: map[string]float64{"a": 1, "b": 2}},
		{Name: "test_open", Help: "What is open.", Values: map[string]float64{"": 3}},
	}
}

// What a client asked for, and who it is, makes no new series.
func TestMetricsAreBounded(t *testing.T) {
	s := start(t, handler(http.HandlerFunc(echo)), nil)
	count := func() int { return strings.Count(servertest.Read(t, s.call(t, "GET", "/metrics", "")), "\n") }
	before := count()
	for _, path := range []string{"/v1/sandboxes/sb_a", "/v1/sandboxes/sb_b/code", "/nowhere", "/v1/sandboxes?limit=x"} {
		servertest.Read(t, s.call(t, "GET", path, ""))
	}
	servertest.Read(t, s.call(t, "POST", "/v1/sandboxes/"+s.create(t)+"/code", "{}"))
	if after := count(); after > before+2 { // classes of statuses that had not been there
		t.Errorf("%d lines after %d", after, before)
	}
}

// Those who ask and do not read hold nobody up.
func TestScrapersThatHang(t *testing.T) {
	s := start(t, handler(http.HandlerFunc(echo)), nil)
	for range 20 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, strings.Repeat("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 100)); err != nil {
			t.Fatal(err)
		}
	}
	servertest.Read(t, s.call(t, "POST", "/v1/sandboxes/"+s.create(t)+"/code", "{}"))
	if text := servertest.Read(t, s.call(t, "GET", "/metrics", "")); !strings.Contains(text, "k2sandbox_run_seconds_count 1\n") {
		t.Error(text)
	}
}
