package envd

import (
	"compress/gzip"
	"errors"
	"io"
	"mime"
	"net/http"
	gopath "path"
	"strconv"
	"strings"

	"github.com/k2sandbox/k2sandbox/files"
)

// download sends a file, or the ranges of it that are asked for.
func (h *handler) download(w http.ResponseWriter, r *http.Request) error {
	name := r.URL.Query().Get("username")
	if err := asked(name); err != nil {
		return err
	}
	return h.as(name, func(home string) error { return h.sendFile(w, r, home) })
}

func (h *handler) sendFile(w http.ResponseWriter, r *http.Request, home string) error {
	path, err := resolve(home, r.URL.Query().Get("path"))
	if err != nil {
		return err
	}
	f, err := h.box.Files().Open(path)
	switch {
	case errors.Is(err, files.ErrNotExist):
		return errorf(notFound, "path '%s' does not exist", path)
	case errors.Is(err, files.ErrIsDir):
		return errorf(invalidArgument, "path '%s' is a directory", path)
	case err != nil:
		return err
	}
	defer f.Close()
	zipped, err := wantsGzip(r.Header)
	if err != nil {
		return err
	}
	header := w.Header()
	header.Set("Vary", "Accept-Encoding")
	header.Set("Content-Disposition", mime.FormatMediaType("inline", map[string]string{"filename": strings.ToValidUTF8(gopath.Base(path), "_")}))
	header.Set("Content-Type", contentType(f.Name))
	switch {
	case zipped:
		sendGzip(w, r, f)
	case f.Sized() == nil:
		send(w, r, f.Stream())
	default:
		if f.ETag != "" {
			header.Set("ETag", f.ETag)
		}
		http.ServeContent(&plain{ResponseWriter: w}, r, "", f.Modified, f.Sized())
	}
	return nil
}

// contentType guesses by its name what a file is.
func contentType(name string) string {
	if typ := mime.TypeByExtension(gopath.Ext(name)); typ != "" {
		return typ
	}
	return "application/octet-stream"
}

// send sends what has no size that is known.
func send(w http.ResponseWriter, r *http.Request, content io.Reader) {
	if r.Method == http.MethodHead {
		return
	}
	if _, err := io.Copy(w, content); err != nil {
		cut() // the answer is not whole
	}
}

func sendGzip(w http.ResponseWriter, r *http.Request, f *files.File) {
	w.Header().Set("Content-Encoding", "gzip")
	if r.Method == http.MethodHead {
		return
	}
	var content io.Reader = f.Sized()
	if f.Sized() == nil {
		content = f.Stream()
	}
	packed, _ := gzip.NewWriterLevel(w, gzip.BestSpeed) // a level that there is
	_, err := io.Copy(packed, content)
	if err == nil {
		err = packed.Close()
	}
	if err != nil {
		cut()
	}
}

// wantsGzip reports whether a client asks for gzip. One that names other encodings, too, is
// a library that takes them all: it gets the file as it is, which is faster. A part of a
// file is never packed.
func wantsGzip(header http.Header) (bool, error) {
	zipped, others, identity := false, false, true
	for one := range strings.SplitSeq(strings.Join(header.Values("Accept-Encoding"), ","), ",") {
		name, params, _ := strings.Cut(one, ";")
		refused := refuses(params)
		switch name = strings.ToLower(strings.TrimSpace(name)); name {
		case "":
		case "gzip", "x-gzip":
			zipped = !refused
		case "identity":
			identity, others = !refused, others || !refused
		case "*":
			identity = identity && !refused
			others = others || !refused
		default:
			others = others || !refused
		}
	}
	for _, name := range []string{"Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"} {
		if header.Get(name) != "" {
			zipped = false
		}
	}
	if !zipped && !identity {
		return false, &rpcError{invalidArgument, "no acceptable encoding found: supported are gzip and, for parts of a file and for conditions, only identity", http.StatusNotAcceptable}
	}
	return zipped && (!others || !identity), nil
}

// refuses reports whether a weight is 0 (RFC 9110 section 12.4.2).
func refuses(params string) bool {
	for param := range strings.SplitSeq(params, ";") {
		if weight, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(param)), "q="); ok {
			q, err := strconv.ParseFloat(weight, 64)
			return err == nil && q == 0
		}
	}
	return false
}

// plain has what http.ServeContent refuses told as all errors are.
type plain struct {
	http.ResponseWriter
	refused bool
}

func (w *plain) WriteHeader(status int) {
	if status < http.StatusBadRequest {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	w.refused = true
	for _, name := range []string{"Content-Disposition", "Last-Modified", "Etag"} {
		w.Header().Del(name)
	}
	writeError(w.ResponseWriter, status, http.StatusText(status))
}

func (w *plain) Write(p []byte) (int, error) {
	if w.refused {
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}

// ReadFrom leaves it to the answer how to send a file.
func (w *plain) ReadFrom(src io.Reader) (int64, error) { return io.Copy(w.ResponseWriter, src) }
