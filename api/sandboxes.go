package api

import "time"

// SandboxState is what a sandbox is at.
type SandboxState string

// The states of a sandbox, in the order of its life.
const (
	SandboxCreating SandboxState = "creating"
	SandboxRunning  SandboxState = "running"
	SandboxPaused   SandboxState = "paused" // frozen: no CPU, memory kept
	SandboxEnding   SandboxState = "ending" // it takes no requests any more
	SandboxEnded    SandboxState = "ended"  // nothing is left but the reason; for a day
)

// EndReason tells why a sandbox ended.
type EndReason string

// The reasons. The first one counts.
const (
	EndClosed      EndReason = "closed"        // gracefully, by a client or with the server
	EndKilled      EndReason = "killed"        // by a client, or because its creator had gone
	EndTimedOut    EndReason = "timed_out"     // nothing happened in it for its timeout
	EndOutOfMemory EndReason = "out_of_memory" // its agent was killed for memory
	EndCrashed     EndReason = "crashed"       // its agent ended by itself, or was killed
	EndLost        EndReason = "lost"          // it ended while no server was there to see it
)

// Sandbox tells about a sandbox.
type Sandbox struct {
	SandboxID    string            `json:"sandbox_id"`
	Template     string            `json:"template"`
	State        SandboxState      `json:"state"`
	Cwd          string            `json:"cwd"`
	Metadata     map[string]string `json:"metadata"`
	CreatedAt    time.Time         `json:"created_at"`
	LastActiveAt time.Time         `json:"last_active_at"`
	ExpiresAt    *time.Time        `json:"expires_at"` // where nothing happens until then; null: not at all
	Timeout      float64           `json:"timeout"`    // seconds of inactivity
	Limits       SandboxLimits     `json:"limits"`
	Network      SandboxNetwork    `json:"network"`
	Isolation    SandboxIsolation  `json:"isolation"`
	Reason       EndReason         `json:"reason,omitempty"`       // of its end
	EndedAt      *time.Time        `json:"ended_at,omitempty"`     // when that began
	Usage        *Usage            `json:"usage,omitempty"`        // what it uses now, in lists that ask for it
	AccessToken  string            `json:"access_token,omitempty"` // opens this sandbox alone; only its creator sees it
}

// SandboxLimits bound what a sandbox uses; 0 is no bound.
type SandboxLimits struct {
	MemoryMB  int     `json:"memory_mb"` // of 2^20 bytes
	CPUs      float64 `json:"cpus"`
	Pids      int     `json:"pids"`       // processes and threads
	DiskMB    int     `json:"disk_mb"`    // of 2^20 bytes
	OpenFiles int     `json:"open_files"` // of a process
}

// SandboxNetwork says what a sandbox reaches.
type SandboxNetwork struct {
	Mode  NetworkMode `json:"mode"`
	Allow []string    `json:"allow,omitempty"` // destinations
}

// SandboxIsolation tells how a sandbox is confined.
type SandboxIsolation struct {
	Level    string            `json:"level"`             // "namespace", "landlock" or "none"
	Missing  map[string]string `json:"missing"`           // what does not hold, and why
	Enforced map[string]string `json:"enforced"`          // how each limit is enforced
	Warning  string            `json:"warning,omitempty"` // where nothing keeps the code from the host
}

// Sandboxes is a page of a list of sandboxes, the newest first.
type Sandboxes struct {
	Sandboxes  []Sandbox `json:"sandboxes"`
	NextCursor string    `json:"next_cursor,omitempty"` // "" where nothing comes after
}

// Template is what a sandbox can be made of.
type Template struct {
	Template string   `json:"template"` // its name
	Aliases  []string `json:"aliases"`
	Default  bool     `json:"default"`

	Unavailable string `json:"unavailable,omitempty"` // why no sandbox can be made of it here; "" where one can
}

// Templates are those that there are.
type Templates struct {
	Templates []Template `json:"templates"`
}

// ServerCapabilities is what a server can do here, with reasons where it cannot: the
// answer of its GET /v1/capabilities.
type ServerCapabilities struct {
	Version   string            `json:"version"` // of k2sandbox
	Platform  string            `json:"platform"`
	Isolation SandboxIsolation  `json:"isolation"`
	Levels    map[string]string `json:"levels"`   // why each stronger level of isolation does not work here
	Networks  []string          `json:"networks"` // what a sandbox's network can be
	Pause     Capability        `json:"pause"`
	Snapshots Capability        `json:"snapshots"`
	Root      Capability        `json:"root"`     // sandboxes in which code can become root
	Previews  Capability        `json:"previews"` // links that a browser opens to servers inside
	Fronts    []string          `json:"fronts"`   // other APIs that are spoken here
	Limits    ServerLimits      `json:"limits"`
}

// ServerLimits bound what one request or caller takes; 0 is no bound.
type ServerLimits struct {
	MaxBodyBytes     int64   `json:"max_body_bytes"`     // of a request that is no stream
	MaxSandboxes     int     `json:"max_sandboxes"`      // of one caller
	CreatesPerMinute float64 `json:"creates_per_minute"` // of one caller
}
