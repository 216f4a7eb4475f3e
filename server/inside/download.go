package inside

import (
	"fmt"
	"io"
	"mime"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/files"
	"github.com/k2sandbox/k2sandbox/internal/lazy"
)

// read sends a file, or the ranges of it that are asked for.
func (h *fileHandlers) read(w http.ResponseWriter, r *http.Request) error {
	path, err := queryPath(r)
	if err != nil {
		return err
	}
	return fault("path", Download(h.box.Files(), path, w, r))
}

// Download sends a file, or the ranges of it that are asked for, such that no browser takes it for a page of ours.
func Download(root *files.Root, path string, w http.ResponseWriter, r *http.Request) error {
	f, err := root.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	content := f.Sized()
	setContentHeaders(w.Header(), f, contentType(f.Name, content))
	if content != nil {
		guarded := &refusals{ResponseWriter: w}
		setRange(r, f.Size)
		http.ServeContent(guarded, r, "", f.Modified, content)
		if guarded.status == http.StatusRequestedRangeNotSatisfiable {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", f.Size))
		}
		return guarded.err()
	}
	if r.Method != http.MethodHead {
		_, err = io.Copy(w, f.Stream())
	}
	if err != nil {
		panic(http.ErrAbortHandler) // the answer is not whole
	}
	return nil
}

// setRange takes away a Range that is to be ignored (RFC 9110 §14.2): of another method
// than GET, of a unit that is not known, or of nothing.
func setRange(r *http.Request, size int64) {
	unit, ranges, _ := strings.Cut(r.Header.Get("Range"), "=")
	if r.Method != http.MethodGet || !strings.EqualFold(unit, "bytes") || size == 0 {
		r.Header.Del("Range")
		return
	}
	some := slices.DeleteFunc(strings.Split(ranges, ","), func(one string) bool { return noBytes().MatchString(one) })
	if len(some) == 0 {
		some = []string{fmt.Sprintf("%d-", size)}
	}
	r.Header.Set("Range", "bytes="+strings.Join(some, ","))
}

// noBytes is a range of the last 0 bytes, which is not in any file.
var noBytes = lazy.Regexp(`^\s*-0+\s*$`)

// contentType guesses what a file is, by its name or else by how it begins; content
// may be nil.
func contentType(name string, content io.ReadSeeker) string {
	if typ := mime.TypeByExtension(path.Ext(name)); typ != "" {
		return typ
	}
	var head [512]byte
	n := 0
	if content != nil {
		n, _ = io.ReadFull(content, head[:]) // where it cannot be read, the answer will tell
		_, _ = content.Seek(0, io.SeekStart)
	}
	typ := http.DetectContentType(head[:n])
	if strings.HasPrefix(typ, "text/") {
		return "text/plain; charset=utf-8"
	}
	return typ
}

// setContentHeaders tells what a file is. It can be anything that a sandbox wrote,
// and comes from the origin of the API: no browser may take it for a page of ours, so
// that pages are not shown, and nothing that is shown can run a script.
func setContentHeaders(header http.Header, f *files.File, typ string) {
	how := "attachment"
	if bare, _, _ := mime.ParseMediaType(typ); slices.Contains(shown, bare) {
		how = "inline"
	}
	header.Set("Content-Type", typ)
	header.Set("Content-Disposition", disposition(how, f.Name))
	header.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	header.Set("Cache-Control", "no-cache") // it may be kept, and is asked for again
	if f.ETag != "" {
		header.Set("ETag", f.ETag)
	}
}

// shown are the types of which a browser runs nothing.
var shown = []string{
	"text/plain", "text/csv", "text/markdown", "application/json", "application/pdf",
	"image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp",
	"audio/mpeg", "audio/ogg", "audio/wav", "audio/x-wav", "video/mp4", "video/webm",
}

// refusals keeps back what http.ServeContent says of conditions and ranges that are
// not met, which has another form here.
type refusals struct {
	http.ResponseWriter
	status int // of what was kept back
}

func (w *refusals) WriteHeader(status int) {
	if status >= http.StatusBadRequest {
		w.status = status
		return
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *refusals) Write(p []byte) (int, error) {
	if w.status != 0 {
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}

// ReadFrom leaves it to the answer how to send a file.
func (w *refusals) ReadFrom(src io.Reader) (int64, error) { return io.Copy(w.ResponseWriter, src) }

func (w *refusals) err() error {
	if w.status != 0 {
		for _, name := range []string{"Content-Disposition", "Content-Security-Policy", "Last-Modified"} {
			w.Header().Del(name)
		}
	}
	switch w.status {
	case 0:
		return nil
	case http.StatusRequestedRangeNotSatisfiable:
		return api.Errorf(api.RangeInvalid, "Range: is not in the file: Content-Range tells its size")
	case http.StatusPreconditionFailed:
		return files.ErrChanged
	}
	return api.Errorf(api.Internal, "cannot serve the file: status %d", w.status)
}
