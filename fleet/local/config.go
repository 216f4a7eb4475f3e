package local

import (
	"encoding/json"
	"time"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/fleet/local/cage"
)

// Config is what the first process of a sandbox is told.
type Config struct {
	ID          string            `json:"id"`
	Level       string            `json:"level"`                 // as fleet.Isolation.Level
	Home        string            `json:"home"`                  // of the user, an absolute path inside
	Scratch     string            `json:"scratch"`               // a directory for what the agent makes, which counts as the sandbox's disk
	Cwd         string            `json:"cwd"`                   // where code starts
	Envs        map[string]string `json:"envs,omitempty"`        // the client's, for all code inside
	Environ     []string          `json:"environ"`               // "NAME=value", what code inside gets of the server's environment
	Interpreter string            `json:"interpreter,omitempty"` // the Python of kernels, a path inside
	Packages    string            `json:"packages,omitempty"`    // a folder of distributions beside that Python's own, a path inside
	Image       bool              `json:"image,omitempty"`       // it is made of an image
	Builds      bool              `json:"builds,omitempty"`      // it is a Build: commands run as root
	UID         int               `json:"uid"`                   // of the code inside, as seen there
	GID         int               `json:"gid"`
	Rules       cage.Rules        `json:"rules"` // for all that the agent starts
	Limits      fleet.Limits      `json:"limits"`
	Network     fleet.Network     `json:"network"`
	Agent       json.RawMessage   `json:"agent,omitempty"` // as Options.Agent
	Lease       time.Duration     `json:"lease,omitempty"` // how long it lives where no server is heard of; 0: for ever
}

// settings are a Config, and what else a first process makes of its surroundings when it knows which sandbox it is for.
type settings struct {
	Config
	Sizes sizes             `json:"sizes"`
	Files map[string]string `json:"files,omitempty"` // their contents, by path
}

// sizes are those of file systems in memory, in bytes.
type sizes struct {
	Disk   int64 `json:"disk,omitempty"`   // of the writable layer; 0 where it is a disk
	Shared int64 `json:"shared,omitempty"` // of /dev/shm
}

// setup says what a first process makes of its surroundings, before it is known which sandbox it is
// for. Descriptors are named as in the message.
type setup struct {
	Command  []string `json:"command"` // with which the process has been started
	Level    string   `json:"level"`
	Hostname string   `json:"hostname"`
	Home     string   `json:"home"`
	Own      []string `json:"own,omitempty"` // other directories that are the user's
	UID      int      `json:"uid"`           // of the code inside, as seen there
	GID      int      `json:"gid"`
	SetUID   bool     `json:"set_uid,omitempty"` // there are ids beside the user's
	Tun      bool     `json:"tun,omitempty"`     // make the network device
	IPv6     bool     `json:"ipv6,omitempty"`    // with addresses of IPv6
	Again    bool     `json:"again,omitempty"`   // the process has started itself anew: see underRules
	Cgroups  bool     `json:"cgroups,omitempty"` // the process is in cgroups of its own
	Root     bool     `json:"root,omitempty"`    // code can become root
	Warm     *warm    `json:"warm,omitempty"`    // what it starts before it is somebody's
	Lower    source   `json:"lower"`             // the root file system's read-only layer
	Layers   []source `json:"layers,omitempty"`  // of an image, below that one, the topmost first
	Sizes    sizes    `json:"sizes"`             // until the settings come
	Binds    []bind   `json:"binds,omitempty"`   // parents before what is beneath; read-only, but for Root, who writes to layers above them
}

// source is a tree of files: one whose descriptor the server has sent, already mapped to
// the sandbox's users, or a path that the process itself can still reach.
type source struct {
	File string `json:"file,omitempty"`
	Path string `json:"path,omitempty"`
}

type bind struct {
	Source source `json:"source"`
	Target string `json:"target"` // an absolute path inside, which is there in the lower layer
}
