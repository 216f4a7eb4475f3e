package inside

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

// contentsSchema is that of what is told of contents.
const contentsSchema = "https://events.jupyter.org/jupyter_server/contents_service/v1"

// event is what happened to a file by this API.
type event struct {
	Schema string `json:"schema_id"`
	Action string `json:"action"` // save, rename or delete
	Path   string `json:"path"`
	Source string `json:"source_path,omitempty"`
}

// events has those who want to be told.
type events struct {
	mu        sync.Mutex
	listeners map[chan event]struct{}
}

func newEvents() *events { return &events{listeners: map[chan event]struct{}{}} }

// tell tells all who listen. One who is slow misses it.
func (e *events) tell(action, path, source string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for l := range e.listeners {
		select {
		case l <- event{contentsSchema, action, path, source}:
		default:
		}
	}
}

func (e *events) listen() (told chan event, stop func()) {
	told = make(chan event, 100)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.listeners[told] = struct{}{}
	return told, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.listeners, told)
	}
}

// subscribe tells a WebSocket what happens until the client leaves or the sandbox ends.
func (h *handlers) subscribe(w http.ResponseWriter, r *http.Request) error {
	told, stop := h.events.listen() // who has got the handshake's answer misses nothing
	defer stop()
	conn, err := accept(w, r)
	if conn == nil {
		return err
	}
	defer conn.CloseNow()
	ctx := conn.CloseRead(context.WithoutCancel(r.Context())) // it has nothing to say
	tick := time.NewTicker(h.o.Ping)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.box.Ended():
			_ = conn.Close(websocket.StatusGoingAway, "the sandbox has ended") // fails where the client is gone
			return nil
		case e := <-told:
			err = h.send(ctx, conn, e)
		case <-tick.C:
			if late(ctx, conn, h.o.WriteTimeout) {
				return nil
			}
		}
		if err != nil {
			return nil // the client is gone
		}
	}
}

func (h *handlers) send(ctx context.Context, conn *websocket.Conn, e event) error {
	ctx, cancel := context.WithTimeout(ctx, h.o.WriteTimeout)
	defer cancel()
	return wsjson.Write(ctx, conn, e)
}
