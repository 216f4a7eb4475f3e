package notebook

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/k2sandbox/k2sandbox/executor"
)

// Kernel runs cells one at a time, in the order of Submit. An *executor.Context is one.
type Kernel interface {
	Submit(cell executor.Cell) (*executor.Execution, error)
	SendComm(ctx context.Context, id string, data json.RawMessage) error
	Status() executor.ContextStatus
}

// Options say how to run a notebook. The zero value of each field stands for its default.
type Options struct {
	KernelName    string // of the kernelspec; goes into metadata that name none
	KernelDisplay string // its display name: KernelName

	Timeout            time.Duration             // of each cell, from the kernel's turn; 0 is none
	TimeoutOf          func(*Cell) time.Duration // of a cell, in place of Timeout; 0 is none
	InterruptOnTimeout bool                      // a cell whose time is up is interrupted and the run goes on; else it ends there
	ErrorOnTimeout     *CellError                // with InterruptOnTimeout: what such a cell is taken to have raised

	// A cell that raises ends the run, unless it is allowed to: as all cells are, or
	// for the name of its error, or by the tag raises-exception.
	AllowErrors      bool
	AllowErrorNames  []string
	ForceRaiseErrors bool // no cell is allowed to, whatever the three say

	SkipTag     string // cells with this tag are not run, and keep their outputs: skip-execution
	AllowStdin  bool   // input() asks, as an Input event; else it raises
	NoTiming    bool   // no times in the metadata of cells
	NoWidgets   bool   // no state of widgets in the notebook's metadata
	Coalesce    bool   // each stream of a cell is one output, with \b and \r applied
	OutputLimit int64  // bytes of outputs that the notebook holds: 64 MiB; the rest is left out, which an output tells

	Papermill   *Papermill // papermill's metadata and its banner after an error; nil: none
	PrepareOnly bool       // run nothing
	ReportMode  bool       // mark the source of code cells as hidden

	// Save is called before the first cell, after each that ran, every SaveEvery while
	// a cell runs, and at the end, however the run ends. Where it takes long it is called
	// less often, but for the first and the last time. An error of the last call is the
	// run's; others are Warned of.
	Save      func(*Notebook) error
	SaveEvery time.Duration // 30 s

	Grace time.Duration // for an interrupted cell to end when the run is called off: 10 s
}

// CellError is an error that a cell raised.
type CellError struct {
	Name      string   `json:"ename"`
	Value     string   `json:"evalue"`
	Traceback []string `json:"traceback"`
}

func (o *Options) setDefaults() {
	o.SkipTag = cmp.Or(o.SkipTag, "skip-execution")
	o.SaveEvery = cmp.Or(o.SaveEvery, 30*time.Second)
	o.Grace = cmp.Or(o.Grace, 10*time.Second)
}

// timeout returns the time that a cell has.
func (o *Options) timeout(c *Cell) time.Duration {
	if o.TimeoutOf != nil {
		return o.TimeoutOf(c)
	}
	return o.Timeout
}

// allows reports whether the cell may raise the error.
func (o *Options) allows(c *Cell, e CellError) bool {
	return !o.ForceRaiseErrors &&
		(o.AllowErrors || slices.Contains(o.AllowErrorNames, e.Name) || c.HasTag("raises-exception"))
}
