package files

import (
	"encoding/json"
	"time"

	"github.com/k2sandbox/k2sandbox/journal"
)

// What a Watch tells.
const (
	Created    journal.Type = "created"    // Path is there: made, or moved here from elsewhere
	Modified   journal.Type = "modified"   // its content changed, or it was replaced by Write
	Removed    journal.Type = "removed"    // Path is gone: removed, or moved elsewhere
	Renamed    journal.Type = "renamed"    // From is now Path, which replaced what was there
	Attributes journal.Type = "attributes" // mode, owner, times or links changed
	Overflow   journal.Type = "overflow"   // events were lost: look again at all of it
)

// Reasons for the end of a Watch.
const (
	Gone      = "removed"   // the directory was removed
	Moved     = "moved"     // the directory has another path now
	Unmounted = "unmounted" // its file system was
	Closed    = "closed"    // the sandbox was
)

// Event is one thing that a Watch saw. The last is journal.End, with a Reason.
type Event struct {
	Type       journal.Type `json:"-"` // in the head of the line, with seq and time
	Path       string       `json:"path,omitempty"`
	PathBase64 []byte       `json:"path_base64,omitempty"` // where it is not UTF-8, as in Entry
	From       string       `json:"from,omitempty"`
	FromBase64 []byte       `json:"from_base64,omitempty"`
	IsDir      bool         `json:"is_dir,omitempty"`
	Status     string       `json:"status,omitempty"` // "ok" at the end
	Reason     string       `json:"reason,omitempty"`
}

// Piece is for a journal.
func (e Event) Piece() (stream string, size int) { return "", 64 + len(e.Path) + len(e.From) }

// AppendLine is for a journal.
func (e Event) AppendLine(dst []byte, seq int64, at time.Time) []byte {
	dst = journal.AppendHead(dst, seq, e.Type, at)
	e.PathBase64, e.FromBase64 = exact(e.Path), exact(e.From)
	rest, _ := json.Marshal(e) // a struct of strings
	if len(rest) == len("{}") {
		return append(dst, '}')
	}
	return append(append(dst, ','), rest[1:]...)
}
