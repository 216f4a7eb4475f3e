package main_test

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestBenchOfAServer(t *testing.T) {
	t.Parallel()
	h := openHouse(t)
	got := run(t, h.by("bench", "--quick", "--only", "reset", "--json"))
	var told struct {
		Server struct{ Version string }
		Rows   []struct {
			Name    string
			Seconds []float64
			P50     float64
		}
	}
	if err := json.Unmarshal([]byte(got.stdout), &told); err != nil || got.status != 0 || len(told.Rows) != 1 {
		t.Fatalf("status %d, %v: %s%s", got.status, err, got.stdout, got.stderr)
	}
	if row := told.Rows[0]; row.Name != "reset" || len(row.Seconds) != 3 || row.P50 <= 0 || told.Server.Version == "" {
		t.Errorf("got %+v", told)
	}
	run(t, h.by("ps", "-q")).expect(t, 0, "")
	h.stopped(t)
}

func TestBenchOfAServerOfItsOwn(t *testing.T) {
	t.Parallel()
	got := run(t, call{args: []string{"bench", "--quick", "--only", "reset", "--python", interpreter}, env: []string{"K2_API_URL="}})
	if got.status != 0 || !strings.Contains(got.stdout, "p50 ms") || !strings.Contains(got.stdout, "reset") {
		t.Errorf("got %+v", got)
	}
}

func TestBenchRefusesBeforeAnythingStarts(t *testing.T) {
	t.Parallel()
	got := run(t, call{args: []string{"bench", "--only", "latency,latenzy"}})
	got.expect(t, 1, "")
	got.complains(t, "--only", `"latenzy"`, "displays")
	got = run(t, call{args: []string{"bench", "--url", "http://127.0.0.1:1", "--python", "python3"}})
	got.complains(t, "--python", "--url")
	got = run(t, call{args: []string{"bench", "--url", "http://127.0.0.1:1"}})
	got.expect(t, 1, "")
	got.complains(t, "no server answers at http://127.0.0.1:1")
}
