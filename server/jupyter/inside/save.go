package inside

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/files"
	"github.com/k2sandbox/k2sandbox/internal/lazy"
)

// save writes what is asked for.
func (h *handlers) save(ctx context.Context, at string, req saveRequest) error {
	switch {
	case req.Type == "":
		return refuse(http.StatusBadRequest, "No file type provided")
	case req.Chunk != nil && req.Type != file:
		return refuse(http.StatusBadRequest, "File type %.100q is not supported for large file transfer", req.Type)
	case req.Type == directory:
		_, _, err := h.box.Files().Mkdir(at, nil)
		if errors.Is(err, files.ErrExist) || errors.Is(err, files.ErrNotDir) {
			return refuse(http.StatusBadRequest, "Not a directory: %.300s", at)
		}
		return err
	case len(req.Content) == 0:
		return refuse(http.StatusBadRequest, "No file content provided")
	}
	raw, err := req.bytes()
	if err != nil {
		return err
	}
	if req.Chunk != nil && *req.Chunk != 1 {
		return missing(at, h.box.Files().Append(ctx, at, bytes.NewReader(raw)))
	}
	_, err = h.box.Files().Write(ctx, at, bytes.NewReader(raw), files.WriteOptions{})
	return err
}

// untitled makes something empty in a directory, of the first name that is free.
func (h *handlers) untitled(ctx context.Context, in string, req createRequest) (at string, err error) {
	if strings.ContainsAny(req.Ext, "/\x00") || len(req.Ext) > 100 {
		return "", api.Invalid("ext", "%.100q is no extension", req.Ext)
	}
	if req.Ext != "" && req.Type == "" && req.Ext == ".ipynb" {
		req.Type = notebookIs
	}
	switch req.Type {
	case directory:
		return h.free(in, "Untitled Folder", " ", func(at string) (bool, error) {
			_, made, err := h.box.Files().Mkdir(at, nil)
			return made, err
		})
	case notebookIs:
		raw, err := notebookFile([]byte(emptyNotebook))
		if err != nil {
			return "", err
		}
		return h.free(in, "Untitled.ipynb", "", h.creator(ctx, bytes.NewReader(raw)))
	}
	if req.Ext == "" {
		req.Ext = ".txt"
	}
	return h.free(in, "untitled"+req.Ext, "", h.creator(ctx, bytes.NewReader(nil)))
}

// creator returns what writes a file that is not there, and reports whether there was none.
func (h *handlers) creator(ctx context.Context, content io.ReadSeeker) func(at string) (bool, error) {
	return func(at string) (bool, error) {
		if _, err := content.Seek(0, io.SeekStart); err != nil {
			return false, err
		}
		_, err := h.box.Files().Write(ctx, at, content, files.WriteOptions{Match: func(etag string) bool { return etag == "" }})
		if errors.Is(err, files.ErrChanged) || errors.Is(err, files.ErrIsDir) {
			return false, nil
		}
		return err == nil, err
	}
}

// maxTries is how many names are tried for something new.
const maxTries = 10_000

// free calls create with name, and with names that have between and a number in them, until it has made something.
func (h *handlers) free(in, name, between string, create func(at string) (bool, error)) (at string, err error) {
	for i := range maxTries {
		at = path.Join(in, name)
		if i > 0 {
			at = path.Join(in, insert(name, between+strconv.Itoa(i)))
		}
		if _, err := h.box.Files().Stat(at); err == nil {
			continue
		}
		if made, err := create(at); made || err != nil {
			return at, err
		}
	}
	return "", refuse(http.StatusConflict, "All names like %.300q are taken", name)
}

// copied is how a copy is told by its name.
var copied = lazy.Regexp(`-Copy\d*\.`)

// copy makes a copy of a file or directory in a directory.
func (h *handlers) copy(ctx context.Context, from, in string) (at string, err error) {
	if from, err = clean(from); err != nil {
		return "", err
	}
	entry, err := h.box.Files().StatTarget(from)
	if err != nil {
		return "", missing(from, err)
	}
	name := copied().ReplaceAllString(path.Base(from), ".")
	if entry.Type == files.Dir {
		if in == from || strings.HasPrefix(in, from+"/") || from == "." {
			return "", refuse(http.StatusBadRequest, "Can't copy '%.300s' into Folder '%.300s'", from, named(in))
		}
		return h.free(in, name, "-Copy", func(at string) (bool, error) { return h.copyDirectory(ctx, from, at) })
	}
	f, err := h.box.Files().Open(from)
	if err != nil {
		return "", err
	}
	defer f.Close()
	content := f.Sized()
	if content == nil {
		return "", refuse(http.StatusBadRequest, "%.300s has no size", from)
	}
	return h.free(in, name, "-Copy", h.creator(ctx, content))
}

// copyDirectory makes a directory with all that another one has in it.
func (h *handlers) copyDirectory(ctx context.Context, from, to string) (bool, error) {
	pack, err := h.box.Files().Pack(from)
	if err != nil {
		return false, err
	}
	_, made, err := h.box.Files().Mkdir(to, nil)
	if err != nil || !made {
		return false, err
	}
	r, w := io.Pipe()
	packed := make(chan struct{})
	go func() {
		defer close(packed)
		_, err := pack(ctx, w)
		w.CloseWithError(err)
	}()
	_, err = h.box.Files().Extract(ctx, to, r, files.ExtractOptions{Links: true})
	r.CloseWithError(err)
	<-packed
	return true, err
}
