package inside

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/k2sandbox/k2sandbox/api"
)

// position is a place in a log: all before a byte of the text of a line.
type position struct {
	seq int64 // of the line, from 1
	off int   // bytes of its text, as it is rendered
}

func (p position) String() string { return fmt.Sprintf("%d.%d", p.seq, p.off) }

// parsePosition reads what String wrote; "" is the beginning.
func parsePosition(text string) (position, error) {
	if text == "" {
		return position{seq: 1}, nil
	}
	line, rest, _ := strings.Cut(text, ".")
	seq, err1 := strconv.ParseInt(line, 10, 64)
	off, err2 := strconv.Atoi(rest)
	if p := (position{seq, off}); err1 == nil && err2 == nil && seq >= 1 && off >= 0 && p.String() == text {
		return p, nil
	}
	return position{}, api.Invalid("after", "expected a next_cursor, as %q, got %.64q", position{12, 0}, text)
}
