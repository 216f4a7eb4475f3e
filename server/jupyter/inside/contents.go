package inside

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/files"
	"github.com/k2sandbox/k2sandbox/server"
	native "github.com/k2sandbox/k2sandbox/server/inside"
)

// Types of contents.
const (
	directory  = "directory"
	file       = "file"
	notebookIs = "notebook"
)

// Formats of contents.
const (
	asText   = "text"
	asBase64 = "base64"
	asJSON   = "json"
)

// getContents tells of a file or directory, with what is in it unless the query says content=0.
func (h *handlers) getContents(w http.ResponseWriter, r *http.Request) error {
	at, err := pathOf(r)
	if err != nil {
		return err
	}
	q := wish{kind: r.URL.Query().Get("type"), format: r.URL.Query().Get("format")}
	if q.kind != "" && q.kind != directory && q.kind != notebookIs {
		q.kind = file
	}
	if q.format != "" && q.format != asText && q.format != asBase64 {
		return refuse(http.StatusBadRequest, "Format %.100q is invalid", q.format)
	}
	if q.content, err = flag(r, "content", true); err != nil {
		return err
	}
	if q.hash, err = flag(r, "hash", false); err != nil {
		return err
	}
	if entry, err := h.box.Files().StatTarget(at); err == nil && q.content {
		release, err := h.large.enter(r.Context(), entry.Size)
		if err != nil {
			return err
		}
		defer release()
	}
	m, err := h.look(r.Context(), at, q)
	if err != nil {
		return err
	}
	return h.tell(w, r, http.StatusOK, m)
}

func flag(r *http.Request, name string, otherwise bool) (bool, error) {
	switch given := r.URL.Query().Get(name); given {
	case "":
		return otherwise, nil
	case "0", "1":
		return given == "1", nil
	default:
		return false, refuse(http.StatusBadRequest, "%s %.100q is invalid. It must be '0' or '1'", name, given)
	}
}

// tell answers with a model.
func (h *handlers) tell(w http.ResponseWriter, r *http.Request, status int, m model) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Location", h.base(r)+"/api/contents/"+escape(m.Path))
	}
	w.Header().Set("Last-Modified", m.LastModified.UTC().Format(http.TimeFormat))
	server.WriteJSON(w, status, m)
	return nil
}

func escape(at string) string {
	parts := strings.Split(at, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}

// saveRequest is the body of PUT.
type saveRequest struct {
	Type     string          `json:"type"`
	Format   string          `json:"format"`
	Content  json.RawMessage `json:"content"`
	Chunk    *int            `json:"chunk"` // of a large file: 1, 2, …, and -1 for the last
	CopyFrom string          `json:"copy_from"`
}

// saveContents writes a file, a notebook or a directory of the name that the client gives it.
func (h *handlers) saveContents(w http.ResponseWriter, r *http.Request) error {
	at, err := pathOf(r)
	if err != nil {
		return err
	}
	release, err := h.large.enter(r.Context(), r.ContentLength)
	if err != nil {
		return err
	}
	defer release()
	var req saveRequest
	if err := h.decodeLarge(w, r, &req); err != nil {
		return err
	}
	if req.CopyFrom != "" {
		return refuse(http.StatusBadRequest, "Cannot copy with PUT, only POST")
	}
	status := http.StatusOK
	if _, err := h.box.Files().StatTarget(at); errors.Is(err, files.ErrNotExist) {
		status = http.StatusCreated
		req.complete(at)
	}
	if err := h.save(r.Context(), at, req); err != nil {
		return err
	}
	m, err := h.look(r.Context(), at, wish{})
	if err != nil {
		return err
	}
	h.events.tell("save", m.Path, "")
	return h.tell(w, r, status, m)
}

// complete fills in what may be left out of a file that is new.
func (r *saveRequest) complete(at string) {
	if r.Type == "" {
		r.Type = file
		if path.Ext(at) == ".ipynb" {
			r.Type = notebookIs
		}
	}
	if len(r.Content) == 0 && r.Type == file {
		r.Content, r.Format = json.RawMessage(`""`), asText
	}
	if len(r.Content) == 0 && r.Type == notebookIs {
		r.Content = json.RawMessage(emptyNotebook)
	}
}

// bytes returns what the file is to hold.
func (r *saveRequest) bytes() ([]byte, error) {
	if r.Type == notebookIs {
		return notebookFile(r.Content)
	}
	var content string
	if err := json.Unmarshal(r.Content, &content); err != nil {
		return nil, refuse(http.StatusBadRequest, "content: expected a string")
	}
	switch r.Format {
	case asText:
		return []byte(content), nil
	case asBase64:
		raw, err := base64.StdEncoding.DecodeString(content) // which passes over line ends
		if err != nil {
			return nil, refuse(http.StatusBadRequest, "content: %v", err)
		}
		return raw, nil
	}
	return nil, refuse(http.StatusBadRequest, "Must specify format of file contents as 'text' or 'base64'")
}

// createRequest is the body of POST.
type createRequest struct {
	CopyFrom string `json:"copy_from"`
	Type     string `json:"type"`
	Ext      string `json:"ext"`
}

// createContents makes something new in a directory, or a copy, and chooses its name.
func (h *handlers) createContents(w http.ResponseWriter, r *http.Request) error {
	at, err := pathOf(r)
	if err != nil {
		return err
	}
	var req createRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	entry, err := h.box.Files().StatTarget(at)
	if errors.Is(err, files.ErrNotExist) {
		return refuse(http.StatusNotFound, "No such directory: %.300s", named(at))
	}
	if err != nil {
		return err
	}
	if entry.Type != files.Dir {
		return refuse(http.StatusBadRequest, "Cannot POST to files, use PUT instead.")
	}
	var made string
	if req.CopyFrom != "" {
		made, err = h.copy(r.Context(), req.CopyFrom, at)
	} else {
		made, err = h.untitled(r.Context(), at, req)
	}
	if err != nil {
		return err
	}
	m, err := h.look(r.Context(), made, wish{})
	if err != nil {
		return err
	}
	h.events.tell("save", m.Path, "")
	return h.tell(w, r, http.StatusCreated, m)
}

// renameContents gives a file or directory another path.
func (h *handlers) renameContents(w http.ResponseWriter, r *http.Request) error {
	from, err := pathOf(r)
	if err != nil {
		return err
	}
	var req struct {
		Path *string `json:"path"`
	}
	if err := decode(r, &req); err != nil {
		return err
	}
	to := from
	if req.Path != nil {
		if to, err = clean(*req.Path); err != nil {
			return err
		}
	}
	if to != from {
		if from == "." || to == "." {
			return refuse(http.StatusBadRequest, "Cannot rename the root of the contents")
		}
		_, err := h.box.Files().Move(r.Context(), from, to, false)
		if errors.Is(err, files.ErrExist) {
			return refuse(http.StatusConflict, "File already exists: %.300s", to)
		}
		if err != nil {
			return err
		}
		_, _ = h.box.Files().Move(r.Context(), checkpointOf(from), checkpointOf(to), true) // there may be none
		h.events.tell("rename", to, from)
	}
	m, err := h.look(r.Context(), to, wish{})
	if err != nil {
		return err
	}
	return h.tell(w, r, http.StatusOK, m)
}

// deleteContents removes a file, or a directory with all that is in it: the client has asked.
func (h *handlers) deleteContents(w http.ResponseWriter, r *http.Request) error {
	at, err := pathOf(r)
	if err != nil {
		return err
	}
	if at == "." {
		return refuse(http.StatusBadRequest, "Cannot delete the root of the contents")
	}
	if err := h.box.Files().Remove(at, true); err != nil {
		return missing(at, err)
	}
	_ = h.box.Files().Remove(checkpointOf(at), false) // there may be none
	h.events.tell("delete", at, "")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// download sends a file as it is.
func (h *handlers) download(w http.ResponseWriter, r *http.Request) error {
	at, err := pathOf(r)
	if err != nil {
		return err
	}
	return missing(at, native.Download(h.box.Files(), at, w, r))
}

// missing says of what is not there what Jupyter Server says.
func missing(at string, err error) error {
	if errors.Is(err, files.ErrNotExist) {
		return refuse(http.StatusNotFound, "file or directory '%.300s' does not exist", named(at))
	}
	return err
}

// moment is when a file was changed last.
func moment(t time.Time) api.JupyterTime { return api.JupyterTime{Time: t} }
