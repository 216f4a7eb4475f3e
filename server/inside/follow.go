package inside

import (
	"context"
	"iter"
	"net/http"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/server"
)

// kept is what has a log that ends: a run, a process, an installation, a notebook.
type kept interface {
	Done() <-chan struct{} // closed once the end is in the log
	Lines(ctx context.Context, after int64) iter.Seq2[journal.Line, error]
}

// follow replays a log from the number that the request names, and follows it to its
// end. newest tells the number of its newest line.
func follow(w http.ResponseWriter, r *http.Request, o server.Options, log kept, newest func() int64) error {
	after, err := server.After(r, newest())
	if err != nil {
		return err
	}
	if over(log.Done()) && after == newest() {
		if server.WantsSSE(r) {
			w.WriteHeader(http.StatusNoContent) // an EventSource comes back for ever otherwise
			return nil
		}
		after-- // a stream has an end
	}
	_, err = server.Follow(w, r, o, after, log.Lines)
	return err
}

// connected tells the timeline of a client that follows what e says, and, when the function
// that it returns is called, that it has left.
func connected(box *agent.Sandbox, w http.ResponseWriter, r *http.Request, e api.TimelineEvent) (left func()) {
	if r.Method == http.MethodHead {
		return func() {} // it follows nothing
	}
	e.RequestID = w.Header().Get("X-Request-Id")
	return box.Connected(e)
}

// over reports whether what the channel stands for has ended.
func over(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}
