package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/notebook"
)

// notebookStart is the first line of a run's log.
type notebookStart struct {
	run   *Notebook
	cells int
}

// Piece is for a journal.
func (notebookStart) Piece() (stream string, size int) { return "", 256 }

// AppendLine is for a journal.
func (s notebookStart) AppendLine(dst []byte, seq int64, at time.Time) []byte {
	dst = journal.AppendHead(dst, seq, notebook.Started, at)
	return fmt.Appendf(dst, `,"notebook_id":%q,"context":%q,"cells":%d}`, s.run.id, s.run.context, s.cells)
}

// notebookEnd is the last line of a run's log.
type notebookEnd api.NotebookEnd

// Piece is for a journal.
func (e *notebookEnd) Piece() (stream string, size int) { return "", len(e.Notebook) + 512 }

// AppendLine is for a journal.
func (e *notebookEnd) AppendLine(dst []byte, seq int64, at time.Time) []byte {
	e.Seq, e.Time = seq, journal.Time{Time: at}
	var raw bytes.Buffer
	encoder := json.NewEncoder(&raw)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode((*api.NotebookEnd)(e)) // strings, numbers and JSON
	return append(dst, bytes.TrimSuffix(raw.Bytes(), []byte{'\n'})...)
}
