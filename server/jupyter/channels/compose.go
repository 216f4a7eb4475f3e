package channels

import (
	"encoding/json"
	"time"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// author is who the messages are from that no kernel has sent.
const author = "k2sandbox"

// compose makes a message of our own, about the request whose header is parent; nil: about none. The session is that of
// the kernel, since clients take another for a kernel that was restarted.
func compose(session string, ch wire.Channel, kind string, parent []byte, content map[string]any) wire.Message {
	header, _ := json.Marshal(map[string]string{ // strings
		"msg_id": wire.NewID(), "msg_type": kind, "session": session, "username": author,
		"date": time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"), "version": "5.3",
	})
	raw, _ := json.Marshal(content) // ours: strings and lists of them
	if parent == nil {
		parent = []byte("{}")
	}
	return wire.Message{Channel: ch, Header: header, Parent: parent, Metadata: []byte("{}"), Content: raw}
}
