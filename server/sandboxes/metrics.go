package sandboxes

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
)

// metrics counts requests. The fleet counts sandboxes.
type metrics struct {
	mu       sync.Mutex
	requests map[string]int64 // by class of their status
	runs     fleet.Histogram
	deaths   map[api.Death]int64
}

var runBounds = []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300}

func newMetrics() *metrics {
	m := &metrics{requests: map[string]int64{}, runs: fleet.NewHistogram(runBounds...), deaths: map[api.Death]int64{}}
	for _, cause := range api.Deaths {
		m.deaths[cause] = 0
	}
	return m
}

// death counts the death of a kernel that an agent tells of. Whatever it says, there are
// no more causes than we know.
func (m *metrics) death(cause api.Death) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.deaths[cause]; !known {
		cause = api.DeathUnknown
	}
	m.deaths[cause]++
}

// observe is told of each request that was answered.
func (m *metrics) observe(r *http.Request, status int, took time.Duration) {
	if status == 0 {
		status = http.StatusSwitchingProtocols // nothing else takes the connection away
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.requests[strconv.Itoa(status/100)+"xx"]++
	if status == http.StatusOK && r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/v1/") && strings.HasSuffix(r.URL.Path, "/code") {
		m.runs.Observe(took)
	}
}

// writeMetrics answers in the text format of Prometheus.
func (h *handlers) writeMetrics(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(h.metrics.text(h.fleet.Stats())) // fails only where the client is gone
	return nil
}

func (m *metrics) text(stats fleet.Stats) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	var t text
	family(&t, "k2sandbox_sandboxes", "gauge", "Sandboxes there are, by state.", "state", stats.Live)
	t.head("k2sandbox_creates_total", "counter", "Sandboxes created.")
	fmt.Fprintf(&t, "k2sandbox_creates_total %d\n", stats.Created)
	t.head("k2sandbox_create_failures_total", "counter", "Sandboxes that did not start.")
	fmt.Fprintf(&t, "k2sandbox_create_failures_total %d\n", stats.Failed)
	t.histogram("k2sandbox_create_seconds", "From a request for a sandbox until its kernel was ready.", stats.CreateSeconds)
	family(&t, "k2sandbox_sandbox_ends_total", "counter", "Sandboxes that have ended, by reason.", "reason", stats.Ends)
	t.histogram("k2sandbox_run_seconds", "From a cell's request to the end of its stream.", m.runs)
	family(&t, "k2sandbox_kernel_deaths_total", "counter", "Kernels that died while a cell ran, by cause, as their sandboxes tell.", "cause", m.deaths)
	family(&t, "k2sandbox_requests_total", "counter", "Requests that were answered, by class of their status.", "class", m.requests)
	return t.Bytes()
}

// text is metrics in the text format.
type text struct{ bytes.Buffer }

func (t *text) head(name, kind, help string) {
	fmt.Fprintf(t, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

func family[K ~string, N int | int64](t *text, name, kind, help, label string, values map[K]N) {
	t.head(name, kind, help)
	for _, value := range slices.Sorted(maps.Keys(values)) {
		fmt.Fprintf(t, "%s{%s=%q} %d\n", name, label, value, values[value])
	}
}

func (t *text) histogram(name, help string, h fleet.Histogram) {
	t.head(name, "histogram", help)
	for i, bound := range h.Bounds {
		fmt.Fprintf(t, "%s_bucket{le=\"%v\"} %d\n", name, bound, h.Counts[i])
	}
	fmt.Fprintf(t, "%s_bucket{le=\"+Inf\"} %d\n%s_sum %v\n%s_count %d\n", name, h.Count, name, h.Sum, name, h.Count)
}
