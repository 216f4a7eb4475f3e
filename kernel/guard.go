package kernel

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

const (
	defaultLimit = 256 << 20 // bytes of a message
	maxFrames    = 1 << 16   // frames of a message
	maxCommand   = 8 << 10   // bytes of a ZMTP command
	greetingSize = 64        // bytes
)

// Flags of a ZMTP frame (RFC 23, "Framing").
const (
	flagMore = 1 << iota
	flagLong
	flagCommand
)

// peers are the socket types that a socket type may be connected to.
var peers = map[string][]string{
	"DEALER": {"ROUTER", "DEALER", "REP"},
	"SUB":    {"XPUB", "PUB"},
	"REQ":    {"ROUTER", "REP"},
}

// guard is a ZMTP connection between a peer that may be hostile and a library
// that trusts it: it follows the framing of what it passes on, and ends the
// connection where the library would panic, or allocate what the peer asks for.
// It reads through a buffer, writes a message at a time, and answers commands.
//
// Read is for one goroutine. Write is for the one that holds the turn: the
// handshake's at first, then the one between cork and uncork.
type guard struct {
	net.Conn
	in    *bufio.Reader
	typ   string // our socket type
	limit int64  // bytes of a message

	ready  []byte // what remains of the READY command that the library gets to see
	shaken bool   // the handshake is over
	left   int64  // bytes that remain of the frame under way, its header included
	frames int    // of the message under way, the frame under way included
	size   int64  // of the message under way

	turn   chan struct{} // holds a token while nobody writes
	corked bool
	out    []byte                 // written since cork
	pong   atomic.Pointer[[]byte] // the answer that is due to a PING
}

func newGuard(raw net.Conn, typ string, limit int64) *guard {
	buffer := 32 << 10
	if typ == "SUB" { // most of what a kernel says, in many small messages
		buffer = 256 << 10
	}
	g := &guard{Conn: raw, in: bufio.NewReaderSize(raw, buffer), typ: typ, limit: limit,
		left: greetingSize, turn: make(chan struct{}, 1)}
	g.turn <- struct{}{}
	return g
}

// Read passes on what the peer sent, checked. Bodies larger than the buffer go
// straight from the connection into p.
func (g *guard) Read(p []byte) (int, error) {
	if g.left == 0 && len(g.ready) == 0 {
		if err := g.next(); err != nil {
			return 0, g.broken(err)
		}
	}
	if len(g.ready) > 0 {
		n := copy(p, g.ready)
		g.ready = g.ready[n:]
		return n, nil
	}
	n, err := g.in.Read(p[:min(int64(len(p)), g.left)])
	g.left -= int64(n)
	return n, g.broken(err)
}

// broken tells the end of the connection from an end in the middle of something.
func (g *guard) broken(err error) error {
	if err == io.EOF && (g.left > 0 || g.frames > 0 || !g.shaken) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// next looks at the header of the next frame, without taking it, and at commands,
// which it takes.
func (g *guard) next() error {
	for {
		flags, header, size, err := g.header()
		switch {
		case err != nil:
			return err
		case flags&flagCommand != 0:
			if err := g.command(flags, header, size); err != nil || len(g.ready) > 0 {
				return err
			}
			continue
		case !g.shaken:
			return errors.New("message before the READY command")
		}
		g.frames++
		g.size += size
		if g.frames > maxFrames {
			return fmt.Errorf("message of more than %d frames", maxFrames)
		}
		if g.size > g.limit {
			return fmt.Errorf("message larger than %d bytes", g.limit)
		}
		g.left = int64(header) + size
		if flags&flagMore == 0 {
			g.frames, g.size = 0, 0
		}
		return nil
	}
}

// header peeks at a frame's header: its flags, its own length, its body's length.
func (g *guard) header() (flags byte, header int, size int64, err error) {
	b, err := g.in.Peek(2)
	if err != nil {
		return 0, 0, 0, cut(b, err)
	}
	flags = b[0]
	if flags&^(flagMore|flagLong|flagCommand) != 0 {
		return 0, 0, 0, fmt.Errorf("frame with reserved flags %#02x", flags)
	}
	if flags&flagLong == 0 {
		return flags, 2, int64(b[1]), nil
	}
	if b, err = g.in.Peek(9); err != nil {
		return 0, 0, 0, cut(b, err)
	}
	long := binary.BigEndian.Uint64(b[1:])
	if long > uint64(g.limit) {
		return 0, 0, 0, fmt.Errorf("frame of %d bytes, larger than %d", long, g.limit)
	}
	return flags, 9, int64(long), nil
}

// cut turns the error of a Peek that got something into io.ErrUnexpectedEOF.
func cut(got []byte, err error) error {
	if err == io.EOF && len(got) > 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}

// command takes a command: READY ends the handshake, PING is answered, others
// are dropped. libzmq sends PING between the frames of a message, too.
func (g *guard) command(flags byte, header int, size int64) error {
	if flags&flagMore != 0 || size > maxCommand {
		return errors.New("command of several frames or too large")
	}
	b, err := g.in.Peek(header + int(size))
	if err != nil {
		return cut(b, err)
	}
	b = b[header:]
	if len(b) == 0 || len(b) < 1+int(b[0]) {
		return errors.New("command without a name")
	}
	name, body := string(b[1:1+b[0]]), b[1+b[0]:]
	switch {
	case !g.shaken && name == "READY":
		err = g.greet(body)
	case !g.shaken:
		err = fmt.Errorf("handshake: the peer said %.20q: %.200q", name, body)
	case name == "PING" && len(body) >= 2:
		err = g.answer(body[2:]) // past its time to live
	}
	g.in.Discard(header + int(size))
	return err
}

// greet checks the properties of the peer's READY command and makes the one that
// the library gets to see. It knows no other properties than the socket type, and
// its parser panics where lengths lie, or where the type is unknown or missing.
func (g *guard) greet(props []byte) error {
	peer := ""
	for len(props) > 0 {
		name, rest, ok := take(props, int(props[0]), 1)
		if !ok || len(rest) < 4 {
			return errors.New("handshake: READY with a length that is wrong")
		}
		value, rest, ok := take(rest, int(binary.BigEndian.Uint32(rest)), 4)
		if !ok {
			return errors.New("handshake: READY with a length that is wrong")
		}
		if strings.EqualFold(string(name), "Socket-Type") {
			peer = string(value)
		}
		props = rest
	}
	if !slices.Contains(peers[g.typ], peer) {
		return fmt.Errorf("handshake: socket type %.20q is not for a %s", peer, g.typ)
	}
	body := "\x05READY\x0bSocket-Type\x00\x00\x00" + string(rune(len(peer))) + peer
	g.ready = append([]byte{flagCommand, byte(len(body))}, body...)
	g.shaken = true
	return nil
}

// take splits off n bytes that come after skip bytes.
func take(b []byte, n, skip int) (got, rest []byte, ok bool) {
	if n < 0 || n > len(b)-skip {
		return nil, nil, false
	}
	return b[skip : skip+n], b[skip+n:], true
}

// Write collects what is written between cork and uncork.
func (g *guard) Write(p []byte) (int, error) {
	if !g.corked {
		return g.Conn.Write(p)
	}
	g.out = append(g.out, p...)
	return len(p), nil
}

// cork takes the turn to write a message.
func (g *guard) cork(ctx context.Context) error {
	select {
	case <-g.turn:
	default:
		select {
		case <-g.turn:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	g.corked = true
	return nil
}

// uncork writes what was collected, at once, and gives the turn on.
func (g *guard) uncork() error {
	g.corked = false
	err := g.flush(g.out)
	if g.out = g.out[:0]; cap(g.out) > 64<<10 {
		g.out = nil
	}
	return errors.Join(err, g.release())
}

func (g *guard) flush(b []byte) error {
	if err := g.Conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := g.Conn.Write(b)
	return err
}

// answer sends a PONG with the context of a PING. Where a message is being
// written it leaves that to the writer: the reader never waits for its turn.
func (g *guard) answer(echo []byte) error {
	body := append([]byte("\x04PONG"), echo[:min(len(echo), 16)]...)
	frame := append([]byte{flagCommand, byte(len(body))}, body...)
	g.pong.Store(&frame)
	select {
	case <-g.turn:
		return g.release()
	default:
		return nil
	}
}

// release gives the turn on, once no PONG is due.
func (g *guard) release() error {
	for {
		var err error
		if frame := g.pong.Swap(nil); frame != nil {
			err = g.flush(*frame)
		}
		g.turn <- struct{}{}
		if err != nil || g.pong.Load() == nil {
			return err
		}
		select {
		case <-g.turn:
		default:
			return nil // its owner will see to it
		}
	}
}
