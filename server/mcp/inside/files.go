package inside

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/files"
	"github.com/k2sandbox/k2sandbox/server"
)

// writeFile writes a file.
func (h *handlers) writeFile(w http.ResponseWriter, r *http.Request) error {
	var req api.MCPWriteFile
	if err := server.Decode(r, &req); err != nil {
		return err
	}
	content := req.Base64
	if req.Content != nil {
		content = []byte(*req.Content)
	}
	write := h.overwrite
	if req.Mode == api.WriteAppend {
		write = h.append
	}
	wrote, err := write(r.Context(), req.Path, content, req.Mode)
	if err != nil {
		return err
	}
	verb := "replaced"
	switch {
	case wrote.Created:
		verb = "created"
	case req.Mode == api.WriteAppend:
		verb = "appended to"
	}
	a := say(fmt.Sprintf("%s %s (%d bytes)", verb, show(wrote.Entry.Path), wrote.Entry.Size))
	a.Written = &api.MCPWritten{Path: show(wrote.Entry.Path), Size: wrote.Entry.Size, Created: wrote.Created}
	return answer(w, a)
}

// show returns a path as text.
func show(path string) string { return strings.ToValidUTF8(path, "\ufffd") }

func (h *handlers) overwrite(ctx context.Context, path string, content []byte, mode api.WriteMode) (files.Written, error) {
	var o files.WriteOptions
	if mode == api.WriteNew {
		o.Match = func(etag string) bool { return etag == "" }
	}
	wrote, err := h.box.Files().Write(ctx, path, bytes.NewReader(content), o)
	if mode == api.WriteNew && errors.Is(err, files.ErrChanged) {
		return wrote, &files.Error{Verb: "create", Path: path, Err: files.ErrExist}
	}
	return wrote, err
}

// append writes behind what is in a file, or a file that is new.
func (h *handlers) append(ctx context.Context, path string, content []byte, _ api.WriteMode) (files.Written, error) {
	err := h.box.Files().Append(ctx, path, bytes.NewReader(content))
	if errors.Is(err, files.ErrNotExist) {
		return h.overwrite(ctx, path, content, api.WriteOver)
	}
	if err != nil {
		return files.Written{}, err
	}
	entry, err := h.box.Files().StatTarget(path)
	return files.Written{Entry: entry}, err
}

// maxListing is how many bytes the text of a list has at most, or a line more.
const maxListing = 256 << 10

// listFiles lists a directory.
func (h *handlers) listFiles(w http.ResponseWriter, r *http.Request) error {
	var req api.MCPListFiles
	if err := server.Decode(r, &req); err != nil {
		return err
	}
	path := cmp.Or(req.Path, ".")
	page, err := h.box.Files().List(r.Context(), path, files.ListOptions{Depth: cmp.Or(req.Depth, 1), Limit: api.MaxMCPEntries})
	if err != nil {
		return err
	}
	dir, err := h.box.Files().StatTarget(path)
	if err != nil {
		return err
	}
	list := &api.MCPListing{Path: show(dir.Path), Entries: []api.MCPEntry{}, Truncated: page.Next != ""}
	var text strings.Builder
	fmt.Fprintf(&text, "%s:\n", list.Path)
	for _, e := range page.Entries {
		if list.Truncated = list.Truncated || text.Len() > maxListing; text.Len() > maxListing {
			break
		}
		one := api.MCPEntry{Path: show(e.Path), Type: string(e.Type), Size: e.Size, Modified: e.ModifiedAt.Format(time.RFC3339)}
		if e.Target != nil {
			one.Target = show(*e.Target)
		}
		list.Entries = append(list.Entries, one)
		text.WriteString(entryLine(&one, dir.Path) + "\n")
	}
	switch {
	case list.Truncated:
		fmt.Fprintf(&text, "[there are more than these %d: list a directory in it, or use run_command with find]", len(list.Entries))
	case len(list.Entries) == 0:
		text.WriteString("(empty)")
	}
	a := say(strings.TrimSuffix(text.String(), "\n"))
	a.Files = list
	return answer(w, a)
}

// entryLine tells of a file in a line.
func entryLine(e *api.MCPEntry, dir string) string {
	name := strings.TrimPrefix(strings.TrimPrefix(e.Path, dir), "/")
	switch files.Type(e.Type) {
	case files.Dir:
		return name + "/"
	case files.Symlink:
		return name + " -> " + e.Target
	case files.Regular:
		return fmt.Sprintf("%s  %d bytes  %s", name, e.Size, e.Modified)
	}
	return name + "  (" + e.Type + ")"
}
