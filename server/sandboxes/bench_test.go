package sandboxes_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/server/sandboxes"
)

// lines are what a run of 1+1 answers with.
const lines = `{"seq":1,"type":"start","time":"2026-11-25T12:00:00.000100Z","execution_id":"ex_5e1f8ad5a16d4d0fb4f3d6f5b9e3e7a1","context":"default","execution_count":1}
{"seq":2,"type":"result","time":"2026-11-25T12:00:00.001900Z","is_main":true,"data":{"text/plain":"2"},"metadata":{}}
{"seq":3,"type":"end","time":"2026-11-25T12:00:00.002800Z","status":"ok","state_lost":false,"execution_count":1,"duration":0.003400}
`

func run(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/x-ndjson")
	_, _ = io.WriteString(w, lines)
	_ = http.NewResponseController(w).Flush() // as a stream does
}

// BenchmarkRun tells what the server adds to a run: through less direct.
func BenchmarkRun(b *testing.B) {
	s := start(b, handler(http.HandlerFunc(run)), func(o *sandboxes.Options, _ *fleet.Options) { o.Log = nil })
	id := s.create(b)
	direct := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return s.machines.Get(id).Dial(ctx) }}
	defer direct.CloseIdleConnections()
	for _, way := range []struct {
		name, url string
		by        http.RoundTripper
	}{
		{"direct", "http://agent/v1/code", direct},
		{"health", s.URL + "/healthz", s.Client().Transport},
		{"through", s.URL + "/v1/sandboxes/" + id + "/code", s.Client().Transport},
	} {
		b.Run(way.name, func(b *testing.B) {
			client := http.Client{Transport: way.by}
			b.ReportAllocs()
			var took []time.Duration
			for b.Loop() {
				begun := time.Now()
				resp, err := client.Post(way.url, "application/json", strings.NewReader(`{"code":"1+1"}`))
				if err != nil {
					b.Fatal(err)
				}
				got, err := io.ReadAll(resp.Body)
				if err != nil || string(got) != lines && way.name != "health" {
					b.Fatalf("got %q, %v", got, err)
				}
				resp.Body.Close()
				took = append(took, time.Since(begun))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
		})
	}
}
