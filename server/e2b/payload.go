package e2b

import (
	"cmp"
	"math"
	"runtime"
	"time"

	"github.com/k2sandbox/k2sandbox/fleet"
)

// What clients are told that they decide by.
const (
	envdVersion = "0.6.13" // of E2B, whose envd ours does as
	clientID    = "k2"     // an id of the machine, which no client looks at
)

// sandbox is what a client needs to use a sandbox.
type sandbox struct {
	TemplateID         string  `json:"templateID"`
	SandboxID          string  `json:"sandboxID"`
	ClientID           string  `json:"clientID"`
	Alias              string  `json:"alias"`
	EnvdVersion        string  `json:"envdVersion"`
	EnvdAccessToken    string  `json:"envdAccessToken,omitempty"`
	TrafficAccessToken *string `json:"trafficAccessToken"`
	Domain             *string `json:"domain"`
}

// listed is what a list tells of a sandbox.
type listed struct {
	TemplateID  string            `json:"templateID"`
	SandboxID   string            `json:"sandboxID"`
	ClientID    string            `json:"clientID"`
	Alias       string            `json:"alias"`
	StartedAt   time.Time         `json:"startedAt"`
	EndAt       time.Time         `json:"endAt"`
	CPUCount    int               `json:"cpuCount"`
	MemoryMB    int               `json:"memoryMB"`
	DiskSizeMB  int               `json:"diskSizeMB"`
	Metadata    map[string]string `json:"metadata"`
	State       fleet.State       `json:"state"`
	EnvdVersion string            `json:"envdVersion"`
}

// detailed is all that is told of a sandbox.
type detailed struct {
	listed
	EnvdAccessToken     string    `json:"envdAccessToken,omitempty"`
	AllowInternetAccess bool      `json:"allowInternetAccess"`
	Domain              *string   `json:"domain"`
	Lifecycle           lifecycle `json:"lifecycle"`
	PauseMode           string    `json:"pauseMode,omitempty"`
}

type lifecycle struct {
	AutoResume bool   `json:"autoResume"`
	OnTimeout  string `json:"onTimeout"` // "pause" or "kill"
}

func (a *API) sandboxOf(info fleet.Info) sandbox {
	told := sandbox{
		TemplateID: templateOf(info), SandboxID: info.ID, ClientID: clientID, Alias: templateOf(info),
		EnvdVersion: envdVersion, EnvdAccessToken: a.tokenOf(info),
	}
	if a.private(info) {
		token := a.o.Fleet.TrafficToken(info.ID)
		told.TrafficAccessToken = &token
	}
	return told
}

func listedOf(info fleet.Info) listed {
	metadata := info.Metadata
	if metadata == nil {
		metadata = map[string]string{}
	}
	return listed{
		TemplateID: templateOf(info), SandboxID: info.ID, ClientID: clientID, Alias: templateOf(info), StartedAt: info.CreatedAt, EndAt: info.ExpiresAt,
		CPUCount: cpus(info), MemoryMB: int(info.Limits.Memory >> 20), DiskSizeMB: int(info.Limits.Disk >> 20),
		Metadata: metadata, State: info.State, EnvdVersion: envdVersion,
	}
}

func (a *API) detailOf(info fleet.Info) detailed {
	told := detailed{
		listed: listedOf(info), EnvdAccessToken: a.tokenOf(info), AllowInternetAccess: info.Network.Mode != fleet.NetworkNone,
		Lifecycle: lifecycle{info.Labels[labelResume] != "", "kill"},
	}
	if info.AutoPause {
		told.Lifecycle.OnTimeout = "pause"
	}
	if info.State == fleet.Paused {
		told.PauseMode = "full"
	}
	return told
}

// templateOf returns what the creator of a sandbox called its template.
func templateOf(info fleet.Info) string { return cmp.Or(info.Labels[labelTemplate], info.Template) }

func (a *API) tokenOf(info fleet.Info) string {
	if !a.secure(info) {
		return ""
	}
	return a.o.Fleet.AccessToken(info.ID)
}

// cpus returns how many cores a sandbox has, a part of one counted as one.
func cpus(info fleet.Info) int {
	if info.Limits.CPUs == 0 {
		return runtime.NumCPU()
	}
	return int(math.Ceil(info.Limits.CPUs))
}
