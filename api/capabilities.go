package api

// Capabilities is what a server can do here, with reasons where it cannot: the answer
// of GET /v1/capabilities.
type Capabilities struct {
	Version   string             `json:"version"` // of k2sandbox
	Platform  string             `json:"platform"`
	Kernels   []KernelCapability `json:"kernels"` // the default context's first
	Isolation Isolation          `json:"isolation"`
	Networks  []string           `json:"networks"` // what a sandbox's network can be
	Packages  PackageCapability  `json:"packages"`
	Terminals Capability         `json:"terminals"`
	Watch     Capability         `json:"watch"` // of files
	Ports     PortCapability     `json:"ports"`
	Pause     Capability         `json:"pause"`
	Snapshots Capability         `json:"snapshots"`
	Fronts    []string           `json:"fronts"` // other APIs that are spoken here
	Limits    Limits             `json:"limits"`
}

// Capability is something that works here, or not, for the reason given.
type Capability struct {
	Available bool   `json:"available"`
	Reason    string `json:"reason,omitempty"`
}

// KernelCapability is a kernel that a context can have.
type KernelCapability struct {
	Kernel      string `json:"kernel"`
	Language    string `json:"language"`
	DisplayName string `json:"display_name"`
}

// Isolation tells what keeps the code in a sandbox from the rest of the machine.
type Isolation struct {
	Mode   string `json:"mode"` // none: nothing does
	Reason string `json:"reason,omitempty"`
}

// PackageCapability tells how packages are installed.
type PackageCapability struct {
	Available bool     `json:"available"`
	Reason    string   `json:"reason,omitempty"`
	Installer string   `json:"installer,omitempty"` // uv or pip
	Allow     []string `json:"allow"`               // the only names that may be; empty: all
	Deny      []string `json:"deny"`                // names that may not be
	URLs      bool     `json:"urls"`                // "name @ URL" may be
}

// PortCapability tells how servers inside are reached.
type PortCapability struct {
	Available bool `json:"available"`
	Trusted   bool `json:"trusted"` // pages act in a browser as pages of this API
}

// Limits bound what one request or sandbox takes.
type Limits struct {
	MaxBodyBytes int64 `json:"max_body_bytes"` // of a request that is no stream
	MaxCodeBytes int   `json:"max_code_bytes"`
	MaxContexts  int   `json:"max_contexts"`
	MaxPackages  int   `json:"max_packages"` // in one request
}
