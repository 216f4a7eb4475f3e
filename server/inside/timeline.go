package inside

import (
	"net/http"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
)

// timelineHandlers answer what is about the sandbox as a whole.
type timelineHandlers struct {
	box *agent.Sandbox
	o   server.Options
}

func (h *timelineHandlers) routes() []server.Route {
	return []server.Route{
		{Method: "GET", Path: "/v1/timeline", Handle: h.follow, Query: []string{"after"}},
		{Method: "GET", Path: "/v1/stream", Handle: h.stream, Query: []string{"after", "include", "interval", "watch"}},
	}
}

// follow replays the timeline from a number on, and follows it until the client
// leaves or the sandbox ends.
func (h *timelineHandlers) follow(w http.ResponseWriter, r *http.Request) error {
	after, err := server.After(r, h.box.Now().Timeline)
	if err != nil {
		return err
	}
	defer connected(h.box, w, r, api.TimelineEvent{Client: api.TimelineClient})()
	_, err = server.Follow(w, r, h.o, after, h.box.Timeline)
	return err
}
