package sandboxes

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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

	toSandboxes, fromSandboxes atomic.Int64 // bytes of bodies
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
		return // there was no answer
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.requests[strconv.Itoa(status/100)+"xx"]++
	if status == http.StatusOK && r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/v1/") && strings.HasSuffix(r.URL.Path, "/code") {
		m.runs.Observe(took)
	}
}

// scrapeTime is how long a client may take to read the metrics.
const scrapeTime = 10 * time.Second

// writeMetrics answers in the text format of Prometheus.
func (h *handlers) writeMetrics(w http.ResponseWriter, _ *http.Request) error {
	text := h.metrics.text(h.fleet.Stats(), h.requests())
	for _, m := range h.fleet.Metrics() {
		text.metric(m)
	}
	text.constant("k2sandbox_build_info", "What runs here.", fmt.Sprintf("{version=%q,go_version=%q}", h.o.Version, runtime.Version()))
	text.process()
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(scrapeTime)) // where the connection can
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(text.Bytes()) // fails only where the client is gone, or reads nothing
	return nil
}

// requests tells how many are under way in sandboxes.
func (h *handlers) requests() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, open := range h.open {
		n += open
	}
	return n
}

func (m *metrics) text(stats fleet.Stats, open int) *text {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := new(text)
	family(t, "k2sandbox_sandboxes", "gauge", "Sandboxes there are, by state.", "state", stats.Live)
	refused := int64(0)
	for _, n := range stats.Refused {
		refused += n
	}
	family(t, "k2sandbox_creates_total", "counter", "Requests for a sandbox that made sense, by outcome.", "outcome",
		map[string]int64{"created": stats.Created, "failed": stats.Failed, "refused": refused})
	family(t, "k2sandbox_creates_refused_total", "counter", "Requests for a sandbox that were refused, by the limit that was reached.", "limit", stats.Refused)
	t.histogram("k2sandbox_create_seconds", "From a request for a sandbox until its kernel was ready.", stats.CreateSeconds)
	family(t, "k2sandbox_sandbox_ends_total", "counter", "Sandboxes that have ended, by reason.", "reason", stats.Ends)
	t.histogram("k2sandbox_run_seconds", "From a cell's request to the end of its stream.", m.runs)
	family(t, "k2sandbox_kernel_deaths_total", "counter", "Kernels that died while a cell ran, by cause, as their sandboxes tell.", "cause", m.deaths)
	family(t, "k2sandbox_requests_total", "counter", "Requests that were answered, by class of their status.", "class", m.requests)
	family(t, "k2sandbox_forwarded_requests", "gauge", "Requests that are under way in sandboxes.", "", map[string]int{"": open})
	family(t, "k2sandbox_forwarded_bytes_total", "counter", "Bytes of bodies that went to sandboxes and came from them, but for WebSockets.", "direction",
		map[string]int64{"in": m.toSandboxes.Load(), "out": m.fromSandboxes.Load()})
	return t
}

// text is metrics in the text format.
type text struct{ bytes.Buffer }

func (t *text) head(name, kind, help string) {
	fmt.Fprintf(t, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

func family[K ~string, N int | int64 | float64](t *text, name, kind, help, label string, values map[K]N) {
	t.head(name, kind, help)
	for _, value := range slices.Sorted(maps.Keys(values)) {
		labels := ""
		if label != "" {
			labels = fmt.Sprintf("{%s=%q}", label, value)
		}
		fmt.Fprintf(t, "%s%s %v\n", name, labels, values[value])
	}
}

// metric writes what a runtime tells.
func (t *text) metric(m fleet.Metric) {
	kind := "gauge"
	if m.Counter {
		kind = "counter"
	}
	family(t, "k2sandbox_"+m.Name, kind, m.Help, m.Label, m.Values)
}

// constant writes a gauge that is 1, for its labels.
func (t *text) constant(name, help, labels string) {
	t.head(name, "gauge", help)
	fmt.Fprintf(t, "%s%s 1\n", name, labels)
}

func (t *text) histogram(name, help string, h fleet.Histogram) {
	t.head(name, "histogram", help)
	for i, bound := range h.Bounds {
		fmt.Fprintf(t, "%s_bucket{le=\"%v\"} %d\n", name, bound, h.Counts[i])
	}
	fmt.Fprintf(t, "%s_bucket{le=\"+Inf\"} %d\n%s_sum %v\n%s_count %d\n", name, h.Count, name, h.Sum, name, h.Count)
}
