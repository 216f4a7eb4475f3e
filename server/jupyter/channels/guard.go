package channels

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
)

var errFrameSize = errors.New("frame: its header says that it is larger than a message may be")

// guarded is a ResponseWriter whose connection refuses, by errFrameSize, a frame that is too large when its header comes: the
// WebSocket's limit counts what has come of it.
type guarded struct {
	http.ResponseWriter
	limit int64
}

// Unwrap is for http.ResponseController.
func (g guarded) Unwrap() http.ResponseWriter { return g.ResponseWriter }

// Hijack is for http.Hijacker.
func (g guarded) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, both, err := http.NewResponseController(g.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	come, _ := both.Reader.Peek(both.Reader.Buffered()) // which are there
	frames := &frames{Conn: conn, from: io.MultiReader(bytes.NewReader(bytes.Clone(come)), conn), limit: uint64(g.limit)}
	return frames, bufio.NewReadWriter(bufio.NewReader(frames), both.Writer), nil
}

// frames is a connection of which the frames that are read are looked at: RFC 6455 section 5.2.
type frames struct {
	net.Conn
	from  io.Reader
	limit uint64

	head []byte // of a frame whose header has not come as a whole
	left uint64 // bytes of the payload under way
	bad  error
}

// Read is for io.Reader.
func (f *frames) Read(p []byte) (int, error) {
	if f.bad != nil {
		return 0, f.bad
	}
	n, err := f.from.Read(p)
	for rest := p[:n]; len(rest) > 0; {
		if f.left > 0 {
			skip := min(f.left, uint64(len(rest)))
			f.left -= skip
			rest = rest[skip:]
			continue
		}
		f.head, rest = append(f.head, rest[0]), rest[1:]
		if size, whole := payload(f.head); whole {
			if size > f.limit {
				f.bad = errFrameSize
				return n - len(rest) - 1, f.bad // without the header's end
			}
			f.left, f.head = size, f.head[:0]
		}
	}
	return n, err
}

// payload returns the length in a frame's header, once that has come as a whole, with the mask.
func payload(head []byte) (size uint64, whole bool) {
	if len(head) < 2 {
		return 0, false
	}
	at, size := 2, uint64(head[1]&0x7f)
	switch {
	case size == 126 && len(head) >= 4:
		at, size = 4, uint64(binary.BigEndian.Uint16(head[2:]))
	case size == 127 && len(head) >= 10:
		at, size = 10, binary.BigEndian.Uint64(head[2:])
	case size >= 126:
		return 0, false
	}
	if head[1]&0x80 != 0 {
		at += 4
	}
	return size, len(head) == at
}
