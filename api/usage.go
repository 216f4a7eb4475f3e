package api

import "time"

// Usage is what a sandbox used at a time. What is not known where the server runs is nil.
type Usage struct {
	Time            time.Time `json:"time"`
	CPUSeconds      *float64  `json:"cpu_seconds,omitempty"`       // since its start
	CPUs            *float64  `json:"cpus,omitempty"`              // cores in use, on average since the measurement before or the start
	MemoryBytes     *int64    `json:"memory_bytes,omitempty"`      // without what it has in memory of files that it has not used lately
	MemoryPeakBytes *int64    `json:"memory_peak_bytes,omitempty"` // the most at a time since its start, with what it has in memory of files
	Pids            *int64    `json:"pids,omitempty"`              // processes and threads
	DiskBytes       *int64    `json:"disk_bytes,omitempty"`
	OOMKills        *int64    `json:"oom_kills,omitempty"` // processes that were killed for memory since its start
	// By TCP and UDP without headers, since its start or that of the server, if that is later.
	ReceivedBytes *int64 `json:"received_bytes,omitempty"`
	SentBytes     *int64 `json:"sent_bytes,omitempty"`
}

// UsageHistory is what a sandbox has used, the oldest measurement first.
type UsageHistory struct {
	Metrics []Usage `json:"metrics"`
}
