package inside

import (
	"context"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/files"
)

// Bounds of the look for files that a run has changed.
const (
	lookDepth   = 3
	lookEntries = 2000
	lookTime    = 500 * time.Millisecond
	maxChanged  = 50
)

// coarse is how far the clock of a file system may be behind.
const coarse = 20 * time.Millisecond

// changed returns files below the working directory that were modified since the source began: what a quick look
// finds, without hidden ones.
func (f *follower) changed(ctx context.Context) (changed []string) {
	dir, since := f.place()
	if dir == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	page, err := f.box.Files().List(ctx, dir, files.ListOptions{Depth: lookDepth, Limit: lookEntries})
	if err != nil {
		return nil
	}
	for _, e := range page.Entries {
		rel := strings.TrimPrefix(strings.TrimPrefix(e.Path, dir), "/")
		if e.Type == files.Regular && e.ModifiedAt.After(since.Add(-coarse)) && !hidden(rel) && len(changed) < maxChanged {
			changed = append(changed, strings.ToValidUTF8(rel, "\ufffd"))
		}
	}
	return changed
}

func hidden(rel string) bool {
	for part := range strings.SplitSeq(rel, "/") {
		if strings.HasPrefix(part, ".") || part == "__pycache__" || part == "node_modules" {
			return true
		}
	}
	return false
}
