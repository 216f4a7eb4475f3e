package kernel

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// hello is how a conversation starts: kernel_info_requests of our own, of which no
// ask knows, and the signs that the kernel has answered and is heard.
type hello struct {
	topic string // a subscription that nobody else has
	id    string // what the msg_ids of our requests start with
	count atomic.Int64

	known chan struct{} // closed when info is known
	heard chan struct{} // closed when messages of iopub are known to arrive
	info  wire.Info     // written before known is closed

	onceKnown, onceHeard sync.Once
}

func newHello() *hello {
	return &hello{
		topic: "k2-" + newIdentity(), id: newIdentity() + "_",
		known: make(chan struct{}), heard: make(chan struct{}),
	}
}

// request returns one more kernel_info_request of our own.
func (h *hello) request(ch wire.Channel) wire.Request {
	id := h.id + strconv.FormatInt(h.count.Add(1), 10)
	return wire.Request{Channel: ch, ID: id, Type: "kernel_info_request"}
}

// wait waits until the kernel is known and heard, or for another go.
func (h *hello) wait(ctx context.Context, again <-chan time.Time) (bool, error) {
	for _, sign := range []chan struct{}{h.known, h.heard} {
		select {
		case <-sign:
		case <-again:
			return false, nil
		case <-ctx.Done():
			return false, fmt.Errorf("kernel did not answer: %w", context.Cause(ctx))
		}
	}
	return true, nil
}

// takes reports whether the message is a welcome or belongs to our own requests.
func (h *hello) takes(m *wire.Message) bool {
	ours := strings.HasPrefix(m.ParentID(), h.id)
	switch {
	case m.Channel != wire.IOPub && ours:
		if m.Type() == "kernel_info_reply" {
			h.onceKnown.Do(func() { h.info = kernelInfo(m); close(h.known) })
		}
		return true
	case m.Channel != wire.IOPub:
		return false
	case ours, m.Type() == "iopub_welcome" && m.Get("subscription").String() == h.topic:
		h.onceHeard.Do(func() { close(h.heard) })
		return true
	}
	return m.Type() == "iopub_welcome"
}

func kernelInfo(m *wire.Message) wire.Info {
	info := wire.Info{
		Protocol:       m.Get("protocol_version").String(),
		Implementation: m.Get("implementation").String(),
		Version:        m.Get("implementation_version").String(),
		Language:       m.Get("language_info.name").String(),
		LanguageInfo:   m.Get("language_info").Raw,
	}
	for _, f := range m.Get("supported_features").Array() {
		info.Features = append(info.Features, f.String())
	}
	return info
}
