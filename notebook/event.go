package notebook

import (
	"time"

	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/journal"
)

// The types of events of a notebook's run, beside those of its cells' runs, which are
// executor's Stdout, Stderr, Result, Update, Clear, Input, Error and Truncated.
const (
	Started     journal.Type = "start"      // Cells
	CellStarted journal.Type = "cell_start" // Cell, CellID, ExecutionID, Description
	CellEnded   journal.Type = "cell_end"   // Cell, CellID, Status, ExecutionCount, Duration, CPUTime, MemoryPeak, StateLost, Exit
	Saved       journal.Type = "saved"      // Options.Save was called, and succeeded
	Warned      journal.Type = "warning"    // Text
	Ended       journal.Type = journal.End  // Status, Duration; Cell, CellID, Name, Value, Exit and StateLost of the cell that it ended in
)

// Event is one thing that happened while a notebook ran. Fields that do not belong to
// its Type are zero.
type Event struct {
	Type        journal.Type    `json:"-"`              // in the head of the line, with seq and time
	Run         *executor.Event `json:"-"`              // what the cell's run said: the members of the line after cell
	Cell        *int            `json:"cell,omitempty"` // place in the notebook as it was when the run began, from 0
	CellID      string          `json:"cell_id,omitempty"`
	Cells       int             `json:"cells,omitempty"` // how many there are
	ExecutionID string          `json:"execution_id,omitempty"`
	Description string          `json:"description,omitempty"` // what a comment "papermill_description=NAME" in the cell says
	Text        string          `json:"text,omitempty"`

	Status         executor.Status `json:"status,omitempty"`
	ExecutionCount *int            `json:"execution_count,omitempty"`
	Name           string          `json:"name,omitempty"` // of the error
	Value          string          `json:"value,omitempty"`
	StateLost      bool            `json:"state_lost,omitempty"`
	Exit           *executor.Exit  `json:"exit,omitempty"`
	Duration       float64         `json:"duration,omitempty"`    // seconds
	CPUTime        float64         `json:"cpu_time,omitempty"`    // seconds, as of a run
	MemoryPeak     int64           `json:"memory_peak,omitempty"` // bytes, likewise
}

// Piece is for a journal.
func (e Event) Piece() (stream string, size int) {
	if e.Run != nil {
		return e.Run.Piece()
	}
	return "", 256
}

// AppendLine is for a journal.
func (e Event) AppendLine(dst []byte, seq int64, at time.Time) []byte {
	dst = journal.AppendHead(dst, seq, e.Type, at)
	if own := encode(e); own != "{}" {
		dst = append(append(dst, ','), own[1:len(own)-1]...)
	}
	if e.Run == nil {
		return append(dst, '}')
	}
	head := len(journal.AppendHead(nil, 0, e.Type, at))
	run := *e.Run
	run.Seq, run.Time = 0, at
	n := len(dst)
	dst = run.AppendJSON(dst)
	return append(dst[:n], dst[n+head:]...)
}
