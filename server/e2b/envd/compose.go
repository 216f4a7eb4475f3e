package envd

import (
	"errors"
	"io"
	"net/http"
	gopath "path"
	"slices"

	"github.com/k2sandbox/k2sandbox/files"
	"github.com/k2sandbox/k2sandbox/server"
)

// maxSources is how many files can be put together at once: each is open then.
const maxSources = 256

type composeRequest struct {
	SourcePaths []string `json:"source_paths"`
	Destination string   `json:"destination"`
	Username    string   `json:"username"`
}

// compose puts files together into one, in one step, and removes them.
func (h *handler) compose(w http.ResponseWriter, r *http.Request) error {
	raw, err := io.ReadAll(http.MaxBytesReader(w, server.Body(w, r, h.o), h.o.MaxBody))
	if err != nil {
		return bodyError(err, "invalid request body")
	}
	var q composeRequest
	if err := decode(raw, &q); err != nil {
		return err
	}
	if err := asked(q.Username); err != nil {
		return err
	}
	return h.as(q.Username, func(home string) error { return h.composeFiles(w, r, home, &q) })
}

func (h *handler) composeFiles(w http.ResponseWriter, r *http.Request, home string, q *composeRequest) error {
	if len(q.SourcePaths) == 0 || len(q.SourcePaths) > maxSources {
		return errorf(invalidArgument, "source_paths: expected 1 to %d paths, got %d", maxSources, len(q.SourcePaths))
	}
	if q.Destination == "" {
		return errorf(invalidArgument, "destination is required")
	}
	to, err := resolve(home, q.Destination)
	if err != nil {
		return err
	}
	sources, content, err := h.openAll(home, q.SourcePaths, to)
	defer func() {
		for _, f := range sources {
			f.Close()
		}
	}()
	if err != nil {
		return err
	}
	same := false
	_, err = h.box.Files().Write(r.Context(), to, content, files.WriteOptions{Match: func(etag string) bool {
		same = etag != "" && slices.ContainsFunc(sources, func(f *files.File) bool { return f.ETag == etag })
		return !same
	}})
	switch {
	case same: // by another path, as through a link
		return errorf(invalidArgument, "a source path leads to the destination")
	case err != nil:
		return err
	}
	for _, f := range sources {
		if err := h.box.Files().Remove(f.Path, false); err != nil && !errors.Is(err, files.ErrNotExist) {
			return err
		}
	}
	to = gopath.Clean(to)
	server.WriteJSON(w, http.StatusOK, uploaded{Path: to, Name: gopath.Base(to), Type: "file"})
	return nil
}

// openAll opens the sources, and returns their content as one. Those that it opened before it
// failed it returns, too.
func (h *handler) openAll(home string, paths []string, to string) (open []*files.File, content io.Reader, err error) {
	var parts []io.Reader
	for _, path := range paths {
		resolved, err := resolve(home, path)
		if err != nil {
			return open, nil, err
		}
		if gopath.Clean(resolved) == gopath.Clean(to) {
			return open, nil, errorf(invalidArgument, "source path %q cannot be the same as destination", path)
		}
		f, err := h.box.Files().Open(resolved)
		if errors.Is(err, files.ErrNotExist) {
			return open, nil, errorf(notFound, "source file not found: %s", path)
		}
		if err != nil {
			return open, nil, err
		}
		open = append(open, f)
		if sized := f.Sized(); sized != nil {
			parts = append(parts, sized)
		} else {
			parts = append(parts, f.Stream())
		}
	}
	return open, io.MultiReader(parts...), nil
}
