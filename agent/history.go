package agent

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"slices"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/notebook"
)

const (
	maxHistory = 16 << 20  // bytes of the code of a history
	maxSession = 256 << 20 // bytes of the outputs of an exported notebook
)

// History tells what ran in a context, the oldest first: of the runs that are kept the
// newest limit. Runs that did not begin, and those that are not counted, are left out.
func (s *Sandbox) History(contextID string, limit int) (api.History, error) {
	r, err := s.room(contextID)
	if err != nil {
		return api.History{}, err
	}
	history := api.History{History: []api.HistoryEntry{}}
	size := 0
	for _, e := range s.session(r) {
		size += len(e.Cell().Code)
		if len(history.History) == limit || size > maxHistory {
			history.Truncated = true
			break
		}
		history.History = append(history.History, entryOf(e))
	}
	slices.Reverse(history.History)
	return history, nil
}

func entryOf(e *executor.Execution) api.HistoryEntry {
	summary := e.Summary()
	return api.HistoryEntry{
		ExecutionID: summary.ExecutionID, ExecutionCount: summary.ExecutionCount, Code: e.Cell().Code,
		State: summary.State, Status: summary.Status, StartedAt: *summary.StartedAt, EndedAt: summary.EndedAt,
	}
}

// session returns what ran in a room, the newest first.
func (s *Sandbox) session(r *room) []*executor.Execution {
	return slices.DeleteFunc(s.Executions(), func(e *executor.Execution) bool {
		cell := e.Cell()
		return e.ContextID() != r.ID() || cell.Silent || cell.NoHistory || e.Summary().StartedAt == nil
	})
}

// Session returns what ran in a context as a notebook: the runs of its History, all of
// them, with what they have shown so far.
func (s *Sandbox) Session(ctx context.Context, contextID string) (*notebook.Notebook, error) {
	r, err := s.room(contextID)
	if err != nil {
		return nil, err
	}
	session := notebook.NewSession(maxSession)
	for _, e := range slices.Backward(s.session(r)) {
		err := session.Add(e.Cell().Code, soFar(ctx, e))
		if err != nil && !errors.Is(err, executor.ErrEvicted) {
			return nil, err
		}
	}
	nb := session.Notebook()
	nb.Metadata.Set("kernelspec", map[string]string{
		"name": r.spec.Name, "display_name": r.spec.DisplayName, "language": r.spec.Language,
	})
	if info := r.Status().Kernel.LanguageInfo; info != "" {
		nb.Metadata.Set("language_info", json.RawMessage(info))
	}
	return nb, nil
}

// soFar yields the events that a run has now.
func soFar(ctx context.Context, e *executor.Execution) iter.Seq2[executor.Event, error] {
	return func(yield func(executor.Event, error) bool) {
		last := e.Summary().Events
		if last == 0 {
			return
		}
		for event, err := range e.Events(ctx, 0) {
			if !yield(event, err) || event.Seq >= last {
				return
			}
		}
	}
}
