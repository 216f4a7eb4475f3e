// Package wire is the Jupyter messaging protocol (version 5.x) as values:
// messages, requests, frames and signatures. It does no I/O and starts no
// goroutines.
package wire

import (
	"github.com/google/uuid"
	"github.com/tidwall/gjson"
)

// Channel names a socket of a kernel.
// https://jupyter-client.readthedocs.io/en/stable/messaging.html#introduction
type Channel string

// The channels of a kernel. A Message comes from Shell, Control, IOPub or Stdin.
const (
	Shell     Channel = "shell"
	Control   Channel = "control"
	IOPub     Channel = "iopub"
	Stdin     Channel = "stdin"
	Heartbeat Channel = "hb"
)

// Request is a message to a kernel before it has a header and a signature.
// Metadata and Content are JSON objects; nil stands for {}.
type Request struct {
	Channel  Channel
	ID       string // msg_id; NewID makes one
	Type     string // msg_type, such as "execute_request"
	Metadata []byte
	Content  []byte
}

// Message is a message from a kernel. The four JSON parts are the kernel's own
// bytes: valid JSON objects in valid UTF-8 (Decode sees to it), never re-encoded.
type Message struct {
	Channel  Channel
	Header   []byte
	Parent   []byte // parent_header
	Metadata []byte
	Content  []byte
	Buffers  [][]byte // binary buffers of comm messages, unsigned

	kind, parent string // what Type and ParentID return, once Decode has looked
	signature    uint64 // the first bytes of the signature; 0 where there is none
}

// ID returns the message's msg_id.
func (m *Message) ID() string { return gjson.GetBytes(m.Header, "msg_id").String() }

// Type returns the message's msg_type.
func (m *Message) Type() string {
	if m.kind != "" {
		return m.kind
	}
	return gjson.GetBytes(m.Header, "msg_type").String()
}

// Session returns the session of the sender.
func (m *Message) Session() string { return gjson.GetBytes(m.Header, "session").String() }

// Date returns when the sender says that it made the message: ISO 8601, as it spells it.
func (m *Message) Date() string { return gjson.GetBytes(m.Header, "date").String() }

// ParentID returns the msg_id of the request that the message belongs to, or "".
func (m *Message) ParentID() string {
	if m.parent != "" {
		return m.parent
	}
	return gjson.GetBytes(m.Parent, "msg_id").String()
}

// ParentType returns the msg_type of the request that the message belongs to, or "".
func (m *Message) ParentType() string { return gjson.GetBytes(m.Parent, "msg_type").String() }

// ParentSession returns the session of who sent the request that the message belongs to, or "".
func (m *Message) ParentSession() string { return gjson.GetBytes(m.Parent, "session").String() }

// Size returns the number of bytes that the message holds.
func (m *Message) Size() int {
	n := len(m.Header) + len(m.Parent) + len(m.Metadata) + len(m.Content)
	for _, b := range m.Buffers {
		n += len(b)
	}
	return n
}

// Get returns a value of the content by its gjson path.
func (m *Message) Get(path string) gjson.Result { return gjson.GetBytes(m.Content, path) }

// NewID returns a new unique msg_id.
func NewID() string { return uuid.NewString() }

// Info is what a kernel says of itself in its kernel_info_reply.
type Info struct {
	Protocol       string // protocol_version
	Implementation string
	Version        string // implementation_version
	Language       string // language_info.name
	LanguageInfo   string // language_info, the JSON object as the kernel sent it
	Features       []string
}

// RunOptions is the feature of a kernel whose launcher is ours: the metadata of
// an execute_request may hold {"k2": {"cwd": string, "envs": {name: value}}},
// which hold for that cell and are restored after it.
const RunOptions = "k2:run_options"

// Variables is the feature of a kernel whose launcher is ours: it answers a
// k2_variables_request on shell with a k2_variables_reply, which has the user's variables.
const Variables = "k2:variables"

// Has reports whether the kernel lists the feature.
func (i Info) Has(feature string) bool {
	for _, f := range i.Features {
		if f == feature {
			return true
		}
	}
	return false
}
