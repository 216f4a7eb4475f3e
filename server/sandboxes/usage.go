package sandboxes

import (
	"net/http"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/server"
)

// history tells what a sandbox uses and has used, and is no activity.
func (h *handlers) history(w http.ResponseWriter, r *http.Request) error {
	since, err := server.QueryTime(r, "since")
	if err != nil {
		return err
	}
	info, err := h.find(r, server.Param(r, "id"))
	if err != nil {
		return err
	}
	samples, err := h.fleet.History(info.ID, since)
	if err != nil {
		return err
	}
	told := api.UsageHistory{Metrics: make([]api.Usage, 0, len(samples))}
	for _, s := range samples {
		told.Metrics = append(told.Metrics, usage(s))
	}
	server.WriteJSON(w, http.StatusOK, told)
	return nil
}

// usageOf is what a sandbox uses now; nil where it just begins or ends, or cannot be measured.
func (h *handlers) usageOf(id string) *api.Usage {
	s, err := h.fleet.Usage(id)
	if err != nil {
		return nil
	}
	u := usage(s)
	return &u
}

func usage(s fleet.Sample) api.Usage {
	return api.Usage{
		Time: s.At, CPUSeconds: measured(s.CPU.Seconds()), CPUs: measured(s.CPUs), MemoryBytes: measured(s.Memory), MemoryPeakBytes: measured(s.Peak),
		Pids: measured(s.Pids), DiskBytes: measured(s.Disk), OOMKills: measured(s.OOMKill),
		ReceivedBytes: measured(s.Received), SentBytes: measured(s.Sent),
	}
}

// measured is nil for what a runtime does not know.
func measured[N int64 | float64](n N) *N {
	if n < 0 {
		return nil
	}
	return &n
}
