package inside

import (
	"net/http"
	"path"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/files"
	"github.com/k2sandbox/k2sandbox/server"
)

// checkpointID is that of the one checkpoint that a file can have.
const checkpointID = "checkpoint"

type checkpoint struct {
	ID           string          `json:"id"`
	LastModified api.JupyterTime `json:"last_modified"`
}

// checkpointOf returns where the checkpoint of a file is: where Jupyter Server has it, too.
func checkpointOf(at string) string {
	ext := path.Ext(at)
	return path.Join(path.Dir(at), ".ipynb_checkpoints", path.Base(at[:len(at)-len(ext)])+"-"+checkpointID+ext)
}

func (h *handlers) listCheckpoints(w http.ResponseWriter, r *http.Request) error {
	at, err := pathOf(r)
	if err != nil {
		return err
	}
	list := []checkpoint{}
	if entry, err := h.box.Files().Stat(checkpointOf(at)); err == nil && entry.Type == files.Regular {
		list = append(list, checkpoint{checkpointID, moment(entry.ModifiedAt)})
	}
	server.WriteJSON(w, http.StatusOK, list)
	return nil
}

func (h *handlers) createCheckpoint(w http.ResponseWriter, r *http.Request) error {
	at, err := pathOf(r)
	if err != nil {
		return err
	}
	written, err := h.duplicate(r, at, checkpointOf(at))
	if err != nil {
		return missing(at, err)
	}
	where := "/api/contents/" + escape(named(at)) + "/checkpoints/" + checkpointID
	h.created(w, r, where, checkpoint{checkpointID, moment(written.Entry.ModifiedAt)})
	return nil
}

// duplicate writes what is in a file to another.
func (h *handlers) duplicate(r *http.Request, from, to string) (files.Written, error) {
	f, err := h.box.Files().Open(from)
	if err != nil {
		return files.Written{}, err
	}
	defer f.Close()
	content := f.Sized()
	if content == nil {
		return files.Written{}, refuse(http.StatusBadRequest, "%.300s has no size", from)
	}
	return h.box.Files().Write(r.Context(), to, content, files.WriteOptions{})
}

// checkpointFor returns the file that a request is about, and where its checkpoint is.
func (h *handlers) checkpointFor(r *http.Request) (at, kept string, err error) {
	if at, err = pathOf(r); err != nil {
		return "", "", err
	}
	kept = checkpointOf(at)
	entry, err := h.box.Files().Stat(kept)
	if id := server.Param(r, "checkpoint"); err != nil || id != checkpointID || entry.Type != files.Regular {
		return "", "", refuse(http.StatusNotFound, "Checkpoint does not exist: %.300s@%.100s", named(at), id)
	}
	return at, kept, nil
}

func (h *handlers) restoreCheckpoint(w http.ResponseWriter, r *http.Request) error {
	at, kept, err := h.checkpointFor(r)
	if err != nil {
		return err
	}
	if _, err := h.duplicate(r, kept, at); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h *handlers) deleteCheckpoint(w http.ResponseWriter, r *http.Request) error {
	_, kept, err := h.checkpointFor(r)
	if err != nil {
		return err
	}
	if err := h.box.Files().Remove(kept, false); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
