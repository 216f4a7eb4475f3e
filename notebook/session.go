package notebook

import (
	"iter"

	"github.com/k2sandbox/k2sandbox/executor"
)

// Session makes a notebook of cells that have run one after the other in a context.
// What a later one updates, by its display id, is up to date in earlier ones, too.
type Session struct {
	notebook   *Notebook
	displays   displays
	budget     *budget
	collectors []*collector // of the notebook's cells
}

// NewSession returns a session without cells, whose outputs take up to limit bytes;
// where there are more, a text in their place says so.
func NewSession(limit int64) *Session {
	return &Session{notebook: New(), displays: displays{}, budget: newBudget(limit)}
}

// Add adds a cell with what it shows, from the events of its run so far. It returns
// the first error of the events, and leaves the cell then as it is.
func (s *Session) Add(source string, events iter.Seq2[executor.Event, error]) error {
	c := newCollector(s.displays, false, s.budget)
	s.collectors = append(s.collectors, c)
	s.notebook.Cells = append(s.notebook.Cells, s.notebook.NewCell(Code, source))
	for e, err := range events {
		if err != nil {
			return err
		}
		c.take(e)
	}
	return nil
}

// Notebook returns the notebook, which is the caller's.
func (s *Session) Notebook() *Notebook {
	for i, cell := range s.notebook.Cells {
		cell.Outputs, cell.ExecutionCount = s.collectors[i].outputs, s.collectors[i].count
	}
	return s.notebook
}
