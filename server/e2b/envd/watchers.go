package envd

import (
	"context"
	"crypto/rand"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/journal"
)

// Bounds of watchers, which clients may leave behind: of their number, and of how long one that
// nobody asked is left alone when there is no more room.
const (
	maxWatchers = 32
	forgetAfter = 10 * time.Minute
)

// lookTime bounds how long events that have just happened are waited for.
const lookTime = time.Second

// watcher is a watch that a client asks for its events.
type watcher struct {
	*observer
	id string

	mu    sync.Mutex // held while it is asked
	after int64      // number of the newest event that the client had
	asked time.Time  // guarded by watchers.mu
}

// watchers are those of all clients.
type watchers struct {
	mu   sync.Mutex
	byID map[string]*watcher
}

// add makes room for a watcher, in place of one that was forgotten, which it returns.
func (k *watchers) add(w *watcher) (forgotten *watcher, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.byID == nil {
		k.byID = map[string]*watcher{}
	}
	if len(k.byID) >= maxWatchers {
		for _, old := range k.byID {
			if time.Since(old.asked) > forgetAfter && (forgotten == nil || old.asked.Before(forgotten.asked)) {
				forgotten = old
			}
		}
		if forgotten == nil {
			return nil, errorf(resourceExhausted, "there are %d watchers, as many as there can be: remove one", maxWatchers)
		}
		delete(k.byID, forgotten.id)
	}
	k.byID[w.id] = w
	return forgotten, nil
}

// get returns a watcher, which is asked now, and takes it away if remove says so.
func (k *watchers) get(id string, remove bool) (*watcher, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	w := k.byID[id]
	if w == nil {
		return nil, errorf(notFound, "watcher with id %.64q not found", id)
	}
	w.asked = time.Now()
	if remove {
		delete(k.byID, id)
	}
	return w, nil
}

type watcherID struct {
	WatcherID string `json:"watcherId"`
}

func (h *handler) createWatcher(ctx context.Context, _ *http.Request, q *watchRequest) (watcherID, error) {
	o, err := h.observe(ctx, q)
	if err != nil {
		return watcherID{}, err
	}
	w := &watcher{observer: o, id: "w" + strings.ToLower(rand.Text()), asked: time.Now()}
	forgotten, err := h.watchers.add(w)
	if err != nil {
		o.watch.Close()
		return watcherID{}, err
	}
	if forgotten != nil {
		forgotten.watch.Close()
	}
	return watcherID{w.id}, nil
}

type watcherEvents struct {
	Events []filesystemEvent `json:"events"`
}

// getWatcherEvents tells what has happened since it was asked last, up to now.
func (h *handler) getWatcherEvents(ctx context.Context, _ *http.Request, q *watcherID) (watcherEvents, error) {
	w, err := h.watchers.get(q.WatcherID, false)
	if err != nil {
		return watcherEvents{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	all, err := w.drain(ctx)
	return watcherEvents{all}, err
}

// drain takes the events that there are. w.mu is held.
func (w *watcher) drain(ctx context.Context) ([]filesystemEvent, error) {
	brief, cancel := context.WithTimeout(ctx, lookTime)
	newest := w.watch.Newest(brief)
	cancel()
	all := []filesystemEvent{}
	if newest <= w.after {
		return all, nil
	}
	for line, err := range w.watch.Lines(ctx, w.after) {
		if err != nil {
			return nil, err
		}
		w.after = line.Seq
		if line.Type == journal.End && closed(line) {
			return nil, errorf(unavailable, "the sandbox is closed")
		}
		events, err := w.events(line)
		if err != nil {
			return nil, err
		}
		if all = append(all, events...); line.Seq >= newest {
			break
		}
	}
	return all, nil
}

func (h *handler) removeWatcher(_ context.Context, _ *http.Request, q *watcherID) (empty, error) {
	w, err := h.watchers.get(q.WatcherID, true)
	if err == nil {
		w.watch.Close()
	}
	return empty{}, err
}
