package agent

import "github.com/k2sandbox/k2sandbox/journal"

// spill takes what is written, and moves it out of memory once it is large.
type spill struct {
	open  func() (journal.Store, error)
	small []byte
	store journal.Store
	size  int64
}

func (w *spill) Write(p []byte) (int, error) {
	if w.store == nil && len(w.small)+len(p) <= smallNotebook {
		w.small = append(w.small, p...)
		w.size += int64(len(p))
		return len(p), nil
	}
	if w.store == nil {
		store, err := w.open()
		if err != nil {
			return 0, err
		}
		w.store = store
		if _, err := store.WriteAt(w.small, 0); err != nil {
			return 0, err
		}
		w.small = nil
	}
	n, err := w.store.WriteAt(p, w.size)
	w.size += int64(n)
	return n, err
}
