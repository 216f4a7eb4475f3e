package api

import (
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// SandboxRequest asks for a new sandbox: the body of POST /v1/sandboxes.
type SandboxRequest struct {
	Template string            `json:"template,omitempty"` // "" is the server's default
	Cwd      string            `json:"cwd,omitempty"`      // absolute; "" is the template's
	Envs     map[string]string `json:"envs,omitempty"`     // for all code inside
	Timeout  float64           `json:"timeout,omitempty"`  // seconds of inactivity; 0 is the server's default
	Metadata map[string]string `json:"metadata,omitempty"`
	Limits   *LimitsRequest    `json:"limits,omitempty"`
	Network  *NetworkRequest   `json:"network,omitempty"`
}

// LimitsRequest bounds what a sandbox may use; 0 is the server's default.
type LimitsRequest struct {
	MemoryMB int     `json:"memory_mb,omitempty"` // of 2^20 bytes
	CPUs     float64 `json:"cpus,omitempty"`
	Pids     int     `json:"pids,omitempty"`    // processes and threads
	DiskMB   int     `json:"disk_mb,omitempty"` // of 2^20 bytes
}

// The bounds of a sandbox's request.
const (
	MaxMetadata      = 64      // entries
	MaxMetadataKey   = 128     // bytes
	MaxMetadataValue = 1 << 10 // bytes
	MaxEnvs          = 1 << 20 // bytes, of all together

	maxMB   = 64 << 20 // 64 TiB
	maxCPUs = 4096
	maxPids = 1 << 22 // as many as Linux has
)

// Validate returns an *Error that names the first wrong field.
func (r *SandboxRequest) Validate() error {
	if strings.ContainsFunc(r.Template, unprintable) || len(r.Template) > 256 {
		return Invalid("template", "%.256q is not the name of a template", r.Template)
	}
	if err := validTimeout(r.Timeout); err != nil {
		return err
	}
	if err := validPlace(r.Cwd, r.Envs); err != nil {
		return err
	}
	if err := validEnvsSize(r.Envs); err != nil {
		return err
	}
	if err := validMetadata(r.Metadata); err != nil {
		return err
	}
	if err := r.Limits.validate(); err != nil {
		return err
	}
	return r.Network.validate("network.")
}

// Duration returns the timeout; 0 is the server's default.
func (r *SandboxRequest) Duration() time.Duration { return seconds(r.Timeout) }

func seconds(s float64) time.Duration {
	return time.Duration(math.Ceil(s * float64(time.Second))) // never 0 for a short one
}

func validEnvsSize(envs map[string]string) error {
	size := 0
	for name, value := range envs {
		size += len(name) + len(value) + 2
	}
	if size > MaxEnvs {
		return Invalid("envs", "have %d bytes together, %d are the most", size, MaxEnvs)
	}
	return nil
}

func validMetadata(metadata map[string]string) error {
	if len(metadata) > MaxMetadata {
		return Invalid("metadata", "has %d entries, %d are the most", len(metadata), MaxMetadata)
	}
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		if err := ValidMetadata(key, metadata[key]); err != nil {
			return err
		}
	}
	return nil
}

// ValidMetadata returns an *Error where an entry cannot be a sandbox's metadata.
func ValidMetadata(key, value string) error {
	switch name := "metadata." + key; {
	case key == "" || len(key) > MaxMetadataKey || strings.ContainsFunc(key, unprintable) || !utf8.ValidString(key):
		return Invalid("metadata", "%.200q is no key: expected 1 to %d bytes of printable text", key, MaxMetadataKey)
	case len(value) > MaxMetadataValue:
		return Invalid(name, "has %d bytes, %d are the most", len(value), MaxMetadataValue)
	case !utf8.ValidString(value) || strings.ContainsRune(value, 0):
		return Invalid(name, "is no text")
	}
	return nil
}

func unprintable(r rune) bool { return r < ' ' || r == 0x7f }

func (l *LimitsRequest) validate() error {
	switch {
	case l == nil:
		return nil
	case l.MemoryMB != 0 && (l.MemoryMB < 32 || l.MemoryMB > maxMB):
		return Invalid("limits.memory_mb", "expected 32 to %d, or 0 for the server's default, got %d", maxMB, l.MemoryMB)
	case l.CPUs != 0 && !(l.CPUs >= 0.01 && l.CPUs <= maxCPUs): // NaN is neither
		return Invalid("limits.cpus", "expected 0.01 to %d, or 0 for the server's default, got %v", maxCPUs, l.CPUs)
	case l.Pids != 0 && (l.Pids < 16 || l.Pids > maxPids):
		return Invalid("limits.pids", "expected 16 to %d, or 0 for the server's default, got %d", maxPids, l.Pids)
	case l.DiskMB != 0 && (l.DiskMB < 1 || l.DiskMB > maxMB):
		return Invalid("limits.disk_mb", "expected 1 to %d, or 0 for the server's default, got %d", maxMB, l.DiskMB)
	}
	return nil
}

// TimeoutRequest asks for another inactivity timeout: the body of POST /v1/sandboxes/{id}/timeout.
type TimeoutRequest struct {
	Timeout float64 `json:"timeout" api:"required"` // seconds
}

// Validate returns an *Error that names the first wrong field.
func (r *TimeoutRequest) Validate() error {
	if r.Timeout > 0 && r.Timeout <= MaxTimeout { // NaN is neither
		return nil
	}
	return Invalid("timeout", "expected seconds, more than 0 and at most %d, got %v", MaxTimeout, r.Timeout)
}

// Duration returns the timeout.
func (r *TimeoutRequest) Duration() time.Duration { return seconds(r.Timeout) }
