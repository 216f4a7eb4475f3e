package channels

import (
	"testing"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
	"github.com/k2sandbox/k2sandbox/server"
)

// A death ends what was sent to the kernel that died: not what waits for the next one, nor what that has already.
func TestDeathEndsWhatItsKernelWasSent(t *testing.T) {
	over, alive := make(chan struct{}), make(chan struct{})
	close(over)
	h := &hub{Channels: New(nil, server.Options{}), sessions: map[string]*session{}, pending: map[string]*request{}}
	s := newSession(h, "client")
	h.sessions[s.id] = s
	for id, with := range map[string]chan struct{}{"sent": over, "waits": nil, "the next one's": alive} {
		h.pending[id] = &request{with: with, session: s, channel: wire.Shell, kind: "execute_request", header: []byte(`{"msg_id":"` + id + `"}`)}
	}
	h.died(&wire.Death{Signal: "SIGKILL"})
	if h.pending["sent"] != nil || h.pending["waits"] == nil || h.pending["the next one's"] == nil {
		t.Errorf("what is left: %v", h.pending)
	}
	if len(s.queue) != 3 {
		t.Errorf("the client is sent %d messages, not an error, a reply and the idle of one request", len(s.queue))
	}
}
