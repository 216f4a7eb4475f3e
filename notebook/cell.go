package notebook

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"slices"

	"github.com/k2sandbox/k2sandbox/internal/lazy"
)

// The types of cells.
const (
	Code     = "code"
	Markdown = "markdown"
	Raw      = "raw"
)

// Cell is one cell of a notebook.
type Cell struct {
	ID             string // "" before nbformat 4.5
	Type           string // Code, Markdown or Raw
	Source         string
	Outputs        []Output // of code
	ExecutionCount *int     // of code; nil: has not run
	Metadata       Object
	Extra          Object // attachments, and members that nbformat does not name

	read *cellRead
}

// cellRead is what a cell was read from.
type cellRead struct {
	origin  *origin
	raw     string
	cell    Cell
	count   int // what cell.ExecutionCount pointed to
	outputs []*outputRead
}

// Tags returns the tags of the cell, nil where there are none.
func (c *Cell) Tags() []string {
	raw, _ := c.Metadata.Get("tags")
	var tags []string
	_ = json.Unmarshal(raw, &tags) // tags that are no list of strings are none
	return tags
}

// HasTag reports whether the cell has a tag.
func (c *Cell) HasTag(tag string) bool { return slices.Contains(c.Tags(), tag) }

var idPattern = lazy.Regexp(`^[a-zA-Z0-9_-]{1,64}$`)

func validID(id string) bool { return idPattern().MatchString(id) }

// newID returns an id that is not taken, as nbformat makes them: 8 hexadecimal digits.
func newID(taken map[string]bool) string {
	for {
		var b [4]byte
		_, _ = rand.Read(b[:]) // never fails
		if id := hex.EncodeToString(b[:]); !taken[id] {
			return id
		}
	}
}
