package envd

import (
	"context"
	"errors"
	gopath "path"
	"strings"

	"github.com/k2sandbox/k2sandbox/files"
)

// Bounds of what ListDir answers: of entries, and of the bytes of their metadata.
const (
	maxEntries  = 100_000
	maxMetadata = 16 << 20
)

type pathRequest struct {
	Path string `json:"path"`
}

type entryAnswer struct {
	Entry entryInfo `json:"entry"`
}

func (h *handler) stat(_ context.Context, home string, q *pathRequest) (a entryAnswer, err error) {
	path, err := resolve(home, q.Path)
	if err == nil {
		a.Entry, err = h.describe(path)
	}
	return a, err
}

// makeDir makes a directory and those on the way. That it is there already is an error.
func (h *handler) makeDir(_ context.Context, home string, q *pathRequest) (a entryAnswer, err error) {
	path, err := resolve(home, q.Path)
	if err != nil {
		return a, err
	}
	_, created, err := h.box.Files().Mkdir(path, nil)
	switch {
	case errors.Is(err, files.ErrExist):
		return a, errorf(invalidArgument, "path already exists but it is not a directory: %s", path)
	case err != nil:
		return a, err
	case !created:
		return a, errorf(alreadyExists, "directory already exists: %s", path)
	}
	a.Entry, err = h.describe(path)
	return a, err
}

type moveRequest struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
}

// move gives a file another path, in place of the file that is there.
func (h *handler) move(ctx context.Context, home string, q *moveRequest) (a entryAnswer, err error) {
	from, err := resolve(home, q.Source)
	if err != nil {
		return a, err
	}
	to, err := resolve(home, q.Destination)
	if err != nil {
		return a, err
	}
	if _, err := h.box.Files().Move(ctx, from, to, true); err != nil {
		return a, err
	}
	a.Entry, err = h.describe(to)
	return a, err
}

// remove removes a file, or a directory with all that is in it. Where there is none, that is all right.
func (h *handler) remove(_ context.Context, home string, q *pathRequest) (empty, error) {
	if q.Path == "" {
		return empty{}, errorf(invalidArgument, "path is required") // and is not the home directory, with all that is in it
	}
	path, err := resolve(home, q.Path)
	if err != nil {
		return empty{}, err
	}
	if err = h.box.Files().Remove(path, true); errors.Is(err, files.ErrNotExist) {
		err = nil
	}
	return empty{}, err
}

type listRequest struct {
	Path  string `json:"path"`
	Depth number `json:"depth"`
}

type listAnswer struct {
	Entries []entryInfo `json:"entries"`
}

// listDir lists a directory, and those in it down to a depth.
func (h *handler) listDir(ctx context.Context, home string, q *listRequest) (a listAnswer, err error) {
	path, err := resolve(home, q.Path)
	if err != nil {
		return a, err
	}
	depth := max(1, int(q.Depth))
	o := files.ListOptions{Depth: min(depth, files.MaxDepth), Limit: 10_000}
	a.Entries = []entryInfo{}
	metadata := 0
	for {
		page, err := h.box.Files().List(ctx, path, o)
		if err != nil {
			return a, err
		}
		for _, e := range page.Entries {
			if depth > files.MaxDepth && e.Type == files.Dir && below(path, e.Path) == files.MaxDepth {
				return a, errorf(resourceExhausted, "%s has directories deeper than %d, which is as deep as a list goes", path, files.MaxDepth)
			}
			info := h.info(e)
			for name, value := range info.Metadata {
				metadata += len(name) + len(value)
			}
			a.Entries = append(a.Entries, info)
		}
		if len(a.Entries) > maxEntries || metadata > maxMetadata {
			return a, errorf(resourceExhausted, "%s has more than %d files, or metadata of more than %d bytes, down to the depth %d", path, maxEntries, maxMetadata, depth)
		}
		if page.Next == "" {
			return a, nil
		}
		o.Cursor = page.Next
	}
}

// below tells how deep a path is beneath a directory.
func below(dir, path string) int {
	rel := strings.TrimPrefix(path, strings.TrimSuffix(gopath.Clean(dir), "/")+"/")
	return strings.Count(rel, "/") + 1
}
