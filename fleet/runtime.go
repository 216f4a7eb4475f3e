package fleet

import (
	"context"
	"encoding/json"
	"net"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
)

// Runtime makes sandboxes of one kind. Its methods are safe for concurrent use.
type Runtime interface {
	// Complete returns the spec with all that it leaves open: what Start would take for it.
	// ErrUnknownTemplate and ErrUnsupported where there can be no such sandbox.
	Complete(s Spec) (Spec, error)

	// Start starts a sandbox and returns when its agent answers and its kernel is ready.
	// ctx bounds the start. A *LimitError where the machine has no room for it. What fails to start has left nothing behind.
	Start(ctx context.Context, s Spec) (Machine, error)

	// Adopt takes back a sandbox that an earlier process started, by what its
	// Machine.Record gave. ErrGone where it has ended meanwhile; nothing is left of it then.
	Adopt(ctx context.Context, id string, record json.RawMessage) (Machine, error)

	// Sweep removes what is left of sandboxes that nobody keeps any more.
	Sweep(keep func(id string) bool) error

	// Close ends what the runtime itself runs, such as zygotes, and no sandbox.
	Close() error
}

// Spec is what a sandbox is to be. Its values have been checked.
type Spec struct {
	ID       string
	Owner    string // whose starts take turns with those of others
	Template string
	Cwd      string            // "" is the template's
	Envs     map[string]string // for all code inside
	Limits   Limits
	Network  Network
	Lease    time.Duration // how long it lives, at first, where it hears of no server; 0: for ever
}

// Limits bound what a sandbox uses; 0 is the runtime's default, which Machine.Limits tells.
type Limits struct {
	Memory int64   `json:"memory"` // bytes
	CPUs   float64 `json:"cpus"`   // cores
	Pids   int64   `json:"pids"`   // processes and threads
	Disk   int64   `json:"disk"`   // bytes
	Files  int64   `json:"files"`  // open files of a process
}

// Network says what a sandbox reaches.
type Network struct {
	Mode  string   `json:"mode"`            // one of the modes below; "" is the runtime's default
	Allow []string `json:"allow,omitempty"` // destinations of NetworkAllow and NetworkPackages: see api.ParseDestination
}

// The modes of networks.
const (
	NetworkFull     = string(api.NetworkFull)
	NetworkPackages = string(api.NetworkPackages)
	NetworkAllow    = string(api.NetworkAllow)
	NetworkNone     = string(api.NetworkNone)
)

// Machine is a sandbox that runs, as its runtime sees it. Its methods are safe for
// concurrent use. All that comes out of a sandbox is hostile.
type Machine interface {
	// Record is what Adopt needs.
	Record() json.RawMessage

	// Dial connects to the agent's HTTP API.
	Dial(ctx context.Context) (net.Conn, error)

	// Limits and Isolation tell what holds, and how.
	Limits() Limits
	Isolation() Isolation

	// Done is closed when the agent has ended, by whatever; Exit tells how, after Done.
	Done() <-chan struct{}
	Exit() Exit

	// Kill ends everything in the sandbox and removes what was its own: processes,
	// mounts, cgroups, directories. All is gone when it returns, to every caller.
	Kill() error

	// Pause freezes all processes, and Resume lets them go on; both may be said twice.
	// ErrUnsupported where there is no way to.
	Pause(ctx context.Context) error
	Resume(ctx context.Context) error

	// Usage tells what the sandbox uses now.
	Usage() (Usage, error)
}

// Networked is a Machine whose network the server serves.
type Networked interface {
	// SetNetwork has the sandbox reach something else from now on; what is open and not allowed any more is
	// ended. ErrUnsupported where it cannot.
	SetNetwork(n Network) error

	// Refusals tells what the sandbox wanted to reach and was refused; what nobody receives in time is dropped. nil:
	// nothing comes.
	Refusals() <-chan Refusal
}

// Refusal is something that a sandbox wanted to reach in vain.
type Refusal = api.Refusal

// Isolation tells how a sandbox is confined.
type Isolation struct {
	Level    string            `json:"level"`              // one of the levels below
	Missing  map[string]string `json:"missing,omitempty"`  // what does not hold here, and why: "cgroup": "…"
	Enforced map[string]string `json:"enforced,omitempty"` // how each limit is enforced: "memory": "cgroup v1"
}

// Levels of isolation, the strongest first.
const (
	LevelNamespace = "namespace"
	LevelLandlock  = "landlock"
	LevelNone      = "none"
)

// Exit tells how an agent ended.
type Exit struct {
	Code   int
	Signal string // such as "SIGKILL"
	OOM    bool   // the sandbox ran out of memory, and the agent was killed for it
}

// Usage is what a sandbox uses; a value is negative where it is not known.
type Usage struct {
	Memory  int64         `json:"memory"` // bytes
	Peak    int64         `json:"peak"`   // bytes of memory, the most at a time since the start, with what it has of files
	CPU     time.Duration `json:"cpu"`    // since the start
	Pids    int64         `json:"pids"`
	Disk    int64         `json:"disk"`     // bytes
	OOMKill int64         `json:"oom_kill"` // processes that were killed for memory

	// Received and Sent are bytes over the network, since the start or since it was adopted.
	Received int64 `json:"received"`
	Sent     int64 `json:"sent"`
}
