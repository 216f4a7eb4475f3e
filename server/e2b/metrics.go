package e2b

import (
	"math"
	"net/http"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/server"
)

// metric is what a sandbox used at a time; what is not known is 0.
type metric struct {
	Timestamp     time.Time `json:"timestamp"`
	TimestampUnix int64     `json:"timestampUnix"` // s
	CPUCount      int       `json:"cpuCount"`
	CPUUsedPct    float64   `json:"cpuUsedPct"` // of all of its cores
	MemUsed       int64     `json:"memUsed"`    // bytes, as below
	MemTotal      int64     `json:"memTotal"`
	MemCache      int64     `json:"memCache"` // 0: memUsed is without
	DiskUsed      int64     `json:"diskUsed"`
	DiskTotal     int64     `json:"diskTotal"`
}

func (a *API) metrics(w http.ResponseWriter, r *http.Request, info fleet.Info) error {
	start, err := server.QueryInt(r, "start", 0, 0, math.MaxInt32)
	if err != nil {
		return err
	}
	end, err := server.QueryInt(r, "end", math.MaxInt32, 0, math.MaxInt32)
	if err != nil {
		return err
	}
	if start > end {
		return api.Invalid("start", "is after end")
	}
	samples, err := a.o.Fleet.History(info.ID, time.Unix(start, 0).Add(-1))
	if err != nil {
		return err
	}
	told := []metric{}
	for _, s := range samples {
		if s.At.Unix() <= end {
			told = append(told, metricOf(s, info))
		}
	}
	server.WriteJSON(w, http.StatusOK, told)
	return nil
}

func metricOf(s fleet.Sample, info fleet.Info) metric {
	cores := cpus(info)
	return metric{
		Timestamp: s.At, TimestampUnix: s.At.Unix(), CPUCount: cores,
		CPUUsedPct: max(0, s.CPUs) / float64(cores) * 100, MemUsed: max(0, s.Memory), MemTotal: info.Limits.Memory,
		DiskUsed: max(0, s.Disk), DiskTotal: info.Limits.Disk,
	}
}
