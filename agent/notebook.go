package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/files"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/notebook"
)

// Notebook is one run of a notebook. Its methods are safe for concurrent use.
type Notebook struct {
	id      string
	box     *Sandbox
	o       NotebookOptions
	context string // the id of the one that it runs in
	own     bool   // which was made for it
	created time.Time
	cells   int
	log     *journal.Log
	ctx     context.Context // done: the run is called off
	cancel  context.CancelFunc

	document *notebook.Notebook // of the one goroutine that runs

	mu      sync.Mutex
	state   executor.State
	status  executor.Status
	cell    *int
	ended   time.Time
	size    int64         // of the executed notebook
	small   []byte        // the executed notebook
	large   journal.Store // the executed notebook, where it is not small
	evicted bool
}

// smallNotebook is the size in bytes up to which an executed notebook is kept in
// memory, and goes with the end line.
const smallNotebook = 256 << 10

// ID returns the run's id.
func (n *Notebook) ID() string { return n.id }

// Done is closed when the end can be read.
func (n *Notebook) Done() <-chan struct{} { return n.log.Done() }

// Lines yields the lines after number after and follows the run to its end.
func (n *Notebook) Lines(ctx context.Context, after int64) iter.Seq2[journal.Line, error] {
	return n.log.Lines(ctx, after)
}

// Interrupt calls the run off; executor.ErrFinished where it has ended.
func (n *Notebook) Interrupt() error {
	if closed(n.Done()) {
		return executor.ErrFinished
	}
	n.cancel()
	return nil
}

// Summary returns where the run stands.
func (n *Notebook) Summary() api.Notebook {
	_, _, lines := n.log.Size()
	n.mu.Lock()
	defer n.mu.Unlock()
	s := api.Notebook{
		NotebookID: n.id, Context: n.context, Path: n.o.Path, OutputPath: n.o.Output, State: n.state, Status: n.status,
		Cells: n.cells, Cell: n.cell, CreatedAt: n.created.UTC(), Events: lines, Bytes: n.size,
	}
	if !n.ended.IsZero() {
		at := n.ended.UTC()
		s.EndedAt = &at
	}
	return s
}

// ErrRunning is the error of what has to wait for the end of a run.
var ErrRunning = errors.New("the run has not ended")

// Executed returns the executed notebook and its size in bytes; ErrRunning before
// the end, executor.ErrEvicted once it is given up.
func (n *Notebook) Executed() (io.ReadSeeker, int64, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.state != executor.Done:
		return nil, 0, ErrRunning
	case n.evicted:
		return nil, 0, executor.ErrEvicted
	case n.large != nil:
		return io.NewSectionReader(n.large, 0, n.size), n.size, nil
	}
	return bytes.NewReader(n.small), n.size, nil
}

// Size returns how many bytes the run's events and the executed notebook take, in
// memory and in the store.
func (n *Notebook) Size() (memory, stored int64) {
	size, memory, _ := n.log.Size()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.large != nil {
		return memory, size - memory + n.size
	}
	return memory + int64(len(n.small)), size - memory
}

// Evict gives up what is kept of a run that has ended.
func (n *Notebook) Evict() {
	n.log.Evict()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.evicted, n.small = true, nil
	if n.large != nil {
		_ = n.large.Close() // what it held is given up
	}
}

// notebookKernel is the context of a notebook as notebook.Run wants it.
type notebookKernel struct {
	*executor.Context
	box *Sandbox
}

// Submit makes the runs of cells the sandbox's, as all are.
func (k notebookKernel) Submit(cell executor.Cell) (*executor.Execution, error) {
	return k.box.Submit(k.ID(), cell)
}

// run runs the notebook to its end.
func (n *Notebook) run() {
	defer n.cancel()
	end := api.NotebookEnd{Type: executor.End, NotebookID: n.id, OutputPath: n.o.Output}
	fault := n.follow(&end)
	if n.own {
		if err := n.box.DeleteContext(n.context); err != nil && !errors.Is(err, ErrNotFound) {
			n.box.o.Log.Warn("cannot end the context of a notebook", "notebook", n.id, "error", err)
		}
	}
	fault = errors.Join(fault, n.keep(&end))
	if fault != nil {
		end.Status, end.Error = faultOf(fault)
	}
	n.mu.Lock()
	n.state, n.status, n.ended = executor.Done, end.Status, time.Now()
	n.mu.Unlock()
	n.log.End((*notebookEnd)(&end))
}

// follow runs the cells and writes what happens, the last event into end.
func (n *Notebook) follow(end *api.NotebookEnd) error {
	var kernel notebook.Kernel
	if n.context != "" {
		c, err := n.box.Context(n.context)
		if err != nil {
			return err
		}
		kernel = notebookKernel{c, n.box}
	}
	o := n.o.Run
	if n.o.Output != "" {
		o.Save = n.save
	}
	for e, err := range notebook.Run(n.ctx, kernel, n.document, o) {
		if err != nil {
			return err
		}
		switch e.Type {
		case notebook.Started:
			n.began(e.Cells)
			continue
		case notebook.Ended:
			end.Status, end.Cell, end.CellID, end.Name, end.Value = e.Status, e.Cell, e.CellID, e.Name, e.Value
			end.StateLost, end.Exit, end.Duration = e.StateLost, e.Exit, e.Duration
			continue
		case notebook.CellStarted:
			n.reached(e.Cell)
		}
		n.log.Append(e)
	}
	return nil
}

func (n *Notebook) began(cells int) {
	n.log.Append(notebookStart{n, cells})
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cells = cells
}

func (n *Notebook) reached(cell *int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cell = cell
}

// save writes the notebook to the output path, in one step, if it has one.
func (n *Notebook) save(nb *notebook.Notebook) error {
	if n.o.Output == "" {
		return nil
	}
	read, write := io.Pipe()
	var work sync.WaitGroup
	work.Go(func() { write.CloseWithError(nb.Write(write)) })
	_, err := n.box.files.Write(context.Background(), n.o.Output, read, files.WriteOptions{})
	read.Close() // ends the writer where not all was read
	work.Wait()
	return err
}

// keep keeps the executed notebook, and puts it into the end where it is small.
func (n *Notebook) keep(end *api.NotebookEnd) error {
	w := &spill{open: n.box.o.Executor.Spill}
	err := n.document.Write(w)
	n.document = nil
	n.mu.Lock()
	defer n.mu.Unlock()
	n.size, n.small, n.large = w.size, w.small, w.store
	end.Bytes = n.size
	if n.large == nil && n.o.Output == "" && json.Valid(n.small) { // with all around, it may nest too deep
		end.Notebook = n.small
	}
	if err != nil {
		return fmt.Errorf("cannot keep the executed notebook: %w", err)
	}
	return nil
}

// faultOf tells of what went wrong beside the notebook's code.
func faultOf(err error) (executor.Status, *api.Error) {
	switch {
	case errors.Is(err, ErrClosed):
		return executor.SandboxKilled, nil
	case errors.Is(err, executor.ErrClosed), errors.Is(err, ErrNotFound): // its context was deleted
		return executor.Aborted, nil
	case errors.Is(err, executor.ErrQueueFull):
		return executor.Failed, api.Errorf(api.LimitReached, "%v", err)
	case errors.Is(err, files.ErrFull):
		return executor.Failed, api.Errorf(api.DiskFull, "%v", err)
	}
	return executor.Failed, api.Errorf(api.Unprocessable, "%v", err)
}
