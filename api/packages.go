package api

import (
	"errors"
	"fmt"
	"time"

	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/packages"
)

// Packages is what is installed: the answer of GET /v1/packages.
type Packages struct {
	Packages []packages.Distribution `json:"packages"`
}

// MaxPackages is how many requirements one request may have.
const MaxPackages = 200

// PackagesRequest asks to install packages: the body of POST /v1/packages.
type PackagesRequest struct {
	Packages []string `json:"packages" api:"required"` // dependency specifiers (PEP 508)
	Upgrade  bool     `json:"upgrade,omitempty"`       // to the newest version, also what is there
	Timeout  float64  `json:"timeout,omitempty"`       // seconds from the installation's turn; 0 is ten minutes
	Detach   bool     `json:"detach,omitempty"`        // answer at once; the installation goes on
}

// Validate returns an *Error that names the first wrong field.
func (r *PackagesRequest) Validate() error {
	if len(r.Packages) == 0 {
		return Invalid("packages", "is empty")
	}
	if len(r.Packages) > MaxPackages {
		return Invalid("packages", "expected at most %d, got %d", MaxPackages, len(r.Packages))
	}
	if err := validTimeout(r.Timeout); err != nil {
		return err
	}
	_, err := r.Requirements()
	return err
}

// Requirements returns the packages, read.
func (r *PackagesRequest) Requirements() ([]packages.Requirement, error) {
	var all []packages.Requirement
	for i, text := range r.Packages {
		one, err := packages.Parse(text)
		if err != nil {
			return nil, Invalid(packageField(i), "%v", err)
		}
		all = append(all, one)
	}
	return all, nil
}

func packageField(i int) string { return fmt.Sprintf("packages[%d]", i) }

// PackageRefused returns what to tell a client of the error of a package that may not
// be installed here, or err where it is another.
func PackageRefused(err error) error {
	var refused *packages.Refused
	var url *packages.URLRefused
	switch {
	case errors.As(err, &url):
		return &Error{InvalidRequest, err.Error(), map[string]any{"field": packageField(url.Index)}}
	case errors.As(err, &refused) && refused.Index < 0:
		return &Error{Forbidden, err.Error(), map[string]any{"package": refused.Name}}
	case errors.As(err, &refused):
		return &Error{Forbidden, err.Error(), map[string]any{"package": refused.Name, "field": packageField(refused.Index)}}
	}
	return err
}

// Install is an installation: queued, running, or ended.
type Install struct {
	InstallID string          `json:"install_id"`
	Packages  []string        `json:"packages"`
	State     executor.State  `json:"state"`
	Status    executor.Status `json:"status,omitempty"` // once it is done
	CreatedAt time.Time       `json:"created_at"`
	Events    int64           `json:"events"` // the number of the newest
}

// InstallStart is the first line of an installation's stream.
type InstallStart struct {
	Seq       int64         `json:"seq"`
	Type      executor.Type `json:"type"`
	Time      journal.Time  `json:"time"`
	InstallID string        `json:"install_id"`
	Packages  []string      `json:"packages"`
	Installer string        `json:"installer"` // uv or pip
}

// InstallOutput is a line that an installer wrote.
type InstallOutput struct {
	Seq  int64         `json:"seq"`
	Type executor.Type `json:"type"` // stdout or stderr
	Time journal.Time  `json:"time"`
	Text string        `json:"text"`
}

// InstallEnd is the last line of an installation's stream: what it changed. What a
// failed one changed is there too; with uv that is nothing.
type InstallEnd struct {
	Seq        int64                   `json:"seq"`
	Type       executor.Type           `json:"type"`
	Time       journal.Time            `json:"time"`
	Status     executor.Status         `json:"status"` // ok, error, timeout, interrupted or sandbox_killed
	Installed  []packages.Distribution `json:"installed"`
	Changed    []packages.Changed      `json:"changed"`
	Removed    []packages.Distribution `json:"removed"`
	Unchanged  []packages.Distribution `json:"unchanged"`   // those asked for that were there
	NeedsReset []string                `json:"needs_reset"` // modules that a context has imported and that are now others
	Contexts   []string                `json:"contexts"`    // that have imported them
	Unchecked  []string                `json:"unchecked"`   // contexts that could not be asked, as they are busy
	Duration   float64                 `json:"duration"`    // seconds, from the installation's turn to the end
	Error      *Error                  `json:"error,omitempty"`
}
