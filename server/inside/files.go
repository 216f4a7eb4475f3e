package inside

import (
	"context"
	"encoding/base64"
	"errors"
	"iter"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/files"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/server"
)

// fileHandlers answer what is about the sandbox's files.
type fileHandlers struct {
	box *agent.Sandbox
	o   server.Options
}

func (h *fileHandlers) routes() []server.Route {
	query := func(names ...string) []string { return append([]string{"path", "path_base64"}, names...) }
	return []server.Route{
		{Method: "GET", Path: "/v1/files", Handle: h.read, Query: query()},
		{Method: "PUT", Path: "/v1/files", Handle: h.write, Query: query("mode"), Body: server.Unbounded},
		{Method: "DELETE", Path: "/v1/files", Handle: h.remove, Query: query("recursive")},
		{Method: "GET", Path: "/v1/files/list", Handle: h.list, Query: query("depth", "limit", "cursor")},
		{Method: "GET", Path: "/v1/files/stat", Handle: h.stat, Query: query()},
		{Method: "POST", Path: "/v1/files/move", Handle: h.move},
		{Method: "POST", Path: "/v1/files/mkdir", Handle: h.mkdir},
		{Method: "GET", Path: "/v1/files/archive", Handle: h.pack, Query: query("compression")},
		{Method: "PUT", Path: "/v1/files/archive", Handle: h.extract, Query: query("links"), Body: server.Unbounded},
		{Method: "GET", Path: "/v1/files/watch", Handle: h.watch, Query: query("recursive")},
	}
}

// maxPath is the longest path in bytes, PATH_MAX on Linux without its NUL.
const maxPath = 4095

// queryPath returns the path that a request is about: any bytes, percent-encoded or in base64.
func queryPath(r *http.Request) (string, error) {
	query := r.URL.Query()
	if len(query.Get("path")) > maxPath { // also where it does not count
		return "", api.Invalid("path", "is longer than %d bytes", maxPath)
	}
	if encoded := query.Get("path_base64"); encoded != "" {
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return "", api.Invalid("path_base64", "%v", err)
		}
		return string(raw), nil
	}
	if query.Get("path") == "" {
		return "", api.Invalid("path", "is required")
	}
	return query.Get("path"), nil
}

// fault names the field that holds a path that cannot be one.
func fault(field string, err error) error {
	if errors.Is(err, files.ErrPath) {
		return api.Invalid(field, "%v", err)
	}
	return err
}

// ifMatch returns what a request says of the version that it expects (RFC 9110 §13.1);
// nil where it says nothing.
func ifMatch(h http.Header) func(etag string) bool {
	match, noneMatch := strings.Join(h.Values("If-Match"), ","), strings.Join(h.Values("If-None-Match"), ",")
	if match == "" && noneMatch == "" {
		return nil
	}
	return func(etag string) bool {
		return (match == "" || names(match, etag)) && (noneMatch == "" || !names(noneMatch, etag))
	}
}

// names reports whether a list of entity-tags, or "*", names the version of a file; "" is none.
func names(list, etag string) bool {
	if etag == "" {
		return false
	}
	for tag := range strings.SplitSeq(list, ",") {
		if tag = strings.TrimSpace(tag); tag == "*" || tag == etag {
			return true
		}
	}
	return false
}

// write puts the body into a file, in one step.
func (h *fileHandlers) write(w http.ResponseWriter, r *http.Request) error {
	body := server.Body(w, r, h.o)
	path, err := queryPath(r)
	if err != nil {
		return err
	}
	mode, err := queryMode(r)
	if err != nil {
		return err
	}
	if err := plainBody(r.Header); err != nil {
		return err
	}
	written, err := h.box.Files().Write(r.Context(), path, body, files.WriteOptions{
		Mode: mode, Match: ifMatch(r.Header),
	})
	if err != nil {
		return fault("path", err)
	}
	w.Header().Set("ETag", written.ETag)
	server.WriteJSON(w, made(written.Created), written.Entry)
	return nil
}

func queryMode(r *http.Request) (*os.FileMode, error) {
	given, ok := r.URL.Query()["mode"]
	if !ok {
		return nil, nil
	}
	if given[0] == "" {
		return nil, api.Invalid("mode", "is empty")
	}
	return api.ParseMode(given[0])
}

// plainBody refuses a body that is not the file itself.
func plainBody(h http.Header) error {
	if h.Get("Content-Range") != "" {
		return api.Invalid("Content-Range", "a part of a file cannot be written")
	}
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return api.Errorf(api.UnsupportedMedia, "Content-Encoding %q is not supported", encoding)
	}
	if typ, _, _ := mime.ParseMediaType(h.Get("Content-Type")); typ == "multipart/form-data" {
		return api.Errorf(api.UnsupportedMedia, "Content-Type multipart/form-data is not supported: send the file itself as the body (curl: -T FILE)")
	}
	return nil
}

// made returns the status for what was made, or was there.
func made(created bool) int {
	if created {
		return http.StatusCreated
	}
	return http.StatusOK
}

func (h *fileHandlers) remove(w http.ResponseWriter, r *http.Request) error {
	path, err := queryPath(r)
	if err != nil {
		return err
	}
	recursive, err := server.QueryBool(r, "recursive")
	if err != nil {
		return err
	}
	if err := h.box.Files().Remove(path, recursive); err != nil {
		return fault("path", err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h *fileHandlers) list(w http.ResponseWriter, r *http.Request) error {
	path, err := queryPath(r)
	if err != nil {
		return err
	}
	depth, err := server.QueryInt(r, "depth", 1, 1, files.MaxDepth)
	if err != nil {
		return err
	}
	limit, err := server.QueryInt(r, "limit", 1000, 1, 10_000)
	if err != nil {
		return err
	}
	page, err := h.box.Files().List(r.Context(), path, files.ListOptions{
		Depth: int(depth), Limit: int(limit), Cursor: r.URL.Query().Get("cursor"),
	})
	if errors.Is(err, files.ErrCursor) {
		return api.Invalid("cursor", "expected the next_cursor of a list, got %q", r.URL.Query().Get("cursor"))
	}
	if err != nil {
		return fault("path", err)
	}
	server.WriteJSON(w, http.StatusOK, api.FileList{Entries: page.Entries, NextCursor: page.Next})
	return nil
}

func (h *fileHandlers) stat(w http.ResponseWriter, r *http.Request) error {
	path, err := queryPath(r)
	if err != nil {
		return err
	}
	entry, err := h.box.Files().Stat(path)
	if err != nil {
		return fault("path", err)
	}
	server.WriteJSON(w, http.StatusOK, entry)
	return nil
}

func (h *fileHandlers) move(w http.ResponseWriter, r *http.Request) error {
	var req api.MoveRequest
	if err := server.Decode(r, &req); err != nil {
		return err
	}
	entry, err := h.box.Files().Move(r.Context(), req.From, req.To, req.Overwrite)
	var at *files.Error
	if errors.As(err, &at) && at.Path == req.From {
		return fault("from", err)
	}
	if err != nil {
		return fault("to", err)
	}
	server.WriteJSON(w, http.StatusOK, entry)
	return nil
}

func (h *fileHandlers) mkdir(w http.ResponseWriter, r *http.Request) error {
	var req api.MkdirRequest
	if err := server.Decode(r, &req); err != nil {
		return err
	}
	mode, err := api.ParseMode(req.Mode)
	if err != nil {
		return err
	}
	entry, created, err := h.box.Files().Mkdir(req.Path, mode)
	if err != nil {
		return fault("path", err)
	}
	server.WriteJSON(w, made(created), entry)
	return nil
}

// watch streams what happens in a directory until the client leaves or the directory goes.
func (h *fileHandlers) watch(w http.ResponseWriter, r *http.Request) error {
	path, err := queryPath(r)
	if err != nil {
		return err
	}
	recursive, err := server.QueryBool(r, "recursive")
	if err != nil {
		return err
	}
	watch, err := h.box.Files().Watch(r.Context(), path, recursive)
	if err != nil {
		return fault("path", err)
	}
	defer watch.Close()
	lines := watch.Lines
	if r.Header.Get("Last-Event-ID") != "" {
		lines = missed(lines)
	}
	_, err = server.Follow(w, r, h.o, 0, lines)
	return err
}

// missed has an overflow come first: a browser that comes back does not know what
// happened since it lost its watch.
func missed(lines func(context.Context, int64) iter.Seq2[journal.Line, error]) func(context.Context, int64) iter.Seq2[journal.Line, error] {
	return func(ctx context.Context, after int64) iter.Seq2[journal.Line, error] {
		return func(yield func(journal.Line, error) bool) {
			raw := files.Event{Type: files.Overflow}.AppendLine(nil, after, time.Now())
			if !yield(journal.Line{Seq: after, Type: files.Overflow, JSON: raw}, nil) {
				return
			}
			lines(ctx, after)(yield)
		}
	}
}

// disposition says under which name a browser keeps what it does not show.
func disposition(how, name string) string {
	escaped := strings.ReplaceAll(url.QueryEscape(strings.ToValidUTF8(name, "_")), "+", "%20")
	return how + "; filename*=UTF-8''" + escaped // RFC 6266 §4.3
}
