package notebook

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/internal/lazy"
)

// Run runs the notebook's code cells in the kernel, one after the other, and puts
// into nb what they show, as nbclient and, with Options.Papermill, papermill do. It
// yields what happens; the last event is Ended. An error ends the loop: of the engine,
// in place of Ended, or of the last Save, after it.
//
// Leaving the loop, or the end of ctx, interrupts the cell that runs. However the
// run ends, nb holds what there was until then, and Save was called with it. nb is
// not to be used elsewhere while the loop runs; its body may read it.
func Run(ctx context.Context, k Kernel, nb *Notebook, o Options) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		o.setDefaults()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		r := &run{kernel: k, nb: nb, o: o, began: time.Now(), displays: displays{}, budget: newBudget(o.OutputLimit)}
		r.widgets = newWidgets(r.displays, r.budget)
		left := false
		r.emit = func(e Event) {
			if !left && !yield(e, nil) {
				left = true
				cancel()
			}
		}
		if err := r.all(ctx); err != nil && !left {
			yield(Event{}, err)
		}
	}
}

// run is a notebook while it runs.
type run struct {
	kernel   Kernel
	nb       *Notebook
	o        Options
	emit     func(Event)
	began    time.Time
	displays displays
	budget   *budget
	widgets  *widgets
	record   *record

	changed   bool      // since the last save
	saveAt    time.Time // the next save while a cell runs
	saveAfter time.Time // the next save between cells is not before
}

// all runs the notebook and returns what is no matter of its code.
func (r *run) all(ctx context.Context) error {
	r.prepare()
	r.emit(Event{Type: Started, Cells: len(r.nb.Cells)})
	for _, w := range r.nb.Warnings {
		r.emit(Event{Type: Warned, Text: w})
	}
	end := Event{Type: Ended, Status: executor.OK}
	var fault error
	if !r.o.PrepareOnly {
		r.save()
		end, fault = r.cells(ctx)
		r.describe()
	}
	end.Duration = time.Since(r.began).Round(time.Microsecond).Seconds()
	r.record.ends(r.nb, end)
	if fault == nil {
		r.emit(end)
	}
	if r.o.Save != nil {
		if err := r.o.Save(r.nb); err != nil {
			return errors.Join(fault, fmt.Errorf("cannot save notebook: %w", err))
		}
	}
	return fault
}

// prepare makes the notebook ready to run.
func (r *run) prepare() {
	r.nb.removeBanners()
	if r.o.ReportMode {
		r.nb.hideSources()
	}
	r.record = newRecord(r.nb, &r.o)
}

// cells runs the cells up to the one that ends the run, and says how that was.
func (r *run) cells(ctx context.Context) (Event, error) {
	for i, c := range r.nb.Cells {
		if ctx.Err() != nil {
			return Event{Type: Ended, Status: executor.Interrupted, Cell: &i, CellID: c.ID}, nil
		}
		if c.Type != Code || strings.TrimSpace(c.Source) == "" || c.HasTag(r.o.SkipTag) {
			r.record.cellBegins(c).ends(c, false)
			continue
		}
		end, more, err := r.cell(ctx, i, c)
		if err != nil || !more {
			return end, err
		}
		if r.changed = true; time.Now().After(r.saveAfter) {
			r.save()
		} else {
			r.saveAt = r.saveAfter
		}
	}
	return Event{Type: Ended, Status: executor.OK}, nil
}

var description = lazy.Regexp(`papermill_description=(\S+)`)

// cell runs one cell. It reports whether the run goes on, and else how it ended.
func (r *run) cell(ctx context.Context, i int, c *Cell) (Event, bool, error) {
	e, err := r.kernel.Submit(executor.Cell{
		Code: c.Source, Timeout: r.o.timeout(c), AllowStdin: r.o.AllowStdin, Comms: true,
	})
	if err != nil {
		return Event{}, false, err
	}
	began := Event{Type: CellStarted, Cell: &i, CellID: c.ID, ExecutionID: e.ID()}
	if m := description().FindStringSubmatch(c.Source); m != nil {
		began.Description = m[1]
	}
	record := r.record.cellBegins(c)
	r.emit(began)
	t := &turn{run: r, Execution: e, index: i, cell: c, collector: newCollector(r.displays, r.o.Coalesce, r.budget)}
	c.Outputs, c.ExecutionCount = nil, nil
	if err := t.follow(ctx); err != nil {
		return Event{}, false, err
	}
	t.finish(ctx)
	end, goOn := t.verdict(ctx.Err() != nil)
	record.ends(c, !goOn && end.Status != executor.OK)
	r.emit(Event{
		Type: CellEnded, Cell: &i, CellID: c.ID, Status: t.end.Status, ExecutionCount: c.ExecutionCount,
		Duration: t.end.Duration, CPUTime: t.end.CPUTime, MemoryPeak: t.end.MemoryPeak, StateLost: t.end.StateLost, Exit: t.end.Exit,
	})
	return end, goOn, nil
}

// slowSave is how long a save may take before the next one has to wait, so that
// saving takes no more than a quarter of the time.
const slowSave = 50 * time.Millisecond

// save saves the notebook between its cells, or in a long one.
func (r *run) save() {
	if r.o.Save == nil {
		r.saveAt = time.Now().Add(time.Hour)
		return
	}
	began := time.Now()
	err := r.o.Save(r.nb)
	took := time.Since(began)
	r.changed, r.saveAt, r.saveAfter = false, time.Now().Add(max(r.o.SaveEvery, 4*took)), time.Time{}
	if took > slowSave {
		r.saveAfter = time.Now().Add(3 * took)
	}
	if err != nil {
		r.emit(Event{Type: Warned, Text: fmt.Sprintf("cannot save notebook: %v", err)})
		return
	}
	r.emit(Event{Type: Saved})
}

// describe puts into the notebook's metadata what only the kernel knows.
func (r *run) describe() {
	info := r.kernel.Status().Kernel
	if info.LanguageInfo != "" {
		r.nb.Metadata.Set("language_info", json.RawMessage(info.LanguageInfo))
	}
	if _, ok := r.nb.Metadata.Get("kernelspec"); !ok && r.o.KernelName != "" {
		r.nb.Metadata.Set("kernelspec", map[string]string{
			"name": r.o.KernelName, "display_name": cmp.Or(r.o.KernelDisplay, r.o.KernelName), "language": info.Language,
		})
	}
	if !r.o.NoWidgets {
		r.widgets.save(r.nb)
	}
}
