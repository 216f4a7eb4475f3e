package inside

import (
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"path"
	"strconv"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/files"
	"github.com/k2sandbox/k2sandbox/server"
)

// skippedHeader is the trailer that tells how many files are not in an archive.
const skippedHeader = "X-Archive-Skipped"

// pack sends a file or a directory as a tar archive.
func (h *fileHandlers) pack(w http.ResponseWriter, r *http.Request) error {
	given, err := queryPath(r)
	if err != nil {
		return err
	}
	compressed, err := queryCompression(r)
	if err != nil {
		return err
	}
	write, err := h.box.Files().Pack(given)
	if err != nil {
		return fault("path", err)
	}
	typ, suffix := "application/x-tar", ".tar"
	if compressed {
		typ, suffix = "application/gzip", ".tar.gz"
	}
	w.Header().Set("Content-Type", typ)
	w.Header().Set("Content-Disposition", disposition("attachment", path.Base(path.Clean("/"+given))+suffix))
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Trailer", skippedHeader)
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	packed, err := send(w, r, write, compressed)
	if err != nil {
		h.o.Log.Warn("an archive was cut", "path", given, "error", err)
		panic(http.ErrAbortHandler) // the answer has begun, and is not whole
	}
	w.Header().Set(skippedHeader, strconv.Itoa(packed.Skipped))
	return nil
}

func queryCompression(r *http.Request) (bool, error) {
	given, ok := r.URL.Query()["compression"]
	switch {
	case !ok || given[0] == "none":
		return false, nil
	case given[0] == "gzip":
		return true, nil
	}
	return false, api.Invalid("compression", `expected "none" or "gzip", got %q`, given[0])
}

func send(w io.Writer, r *http.Request, write files.Packer, compressed bool) (files.Packed, error) {
	if !compressed {
		return write(r.Context(), w)
	}
	zip, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return files.Packed{}, err
	}
	packed, err := write(r.Context(), zip)
	return packed, errors.Join(err, zip.Close())
}

// extract extracts a tar archive below a directory.
func (h *fileHandlers) extract(w http.ResponseWriter, r *http.Request) error {
	body := server.Body(w, r, h.o)
	path, err := queryPath(r)
	if err != nil {
		return err
	}
	links, ok := r.URL.Query()["links"]
	if ok && links[0] != "inside" && links[0] != "any" {
		return api.Invalid("links", `expected "inside" or "any", got %q`, links[0])
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding == "gzip" {
		r.Header.Del("Content-Encoding") // which it finds out by itself
	}
	if err := plainBody(r.Header); err != nil {
		return err
	}
	done, err := h.box.Files().Extract(r.Context(), path, body, files.ExtractOptions{Links: ok && links[0] == "any"})
	if err != nil {
		told := *server.Describe(w, fault("path", err))
		told.Details = map[string]any{"extracted": done}
		return &told
	}
	server.WriteJSON(w, http.StatusOK, done)
	return nil
}
