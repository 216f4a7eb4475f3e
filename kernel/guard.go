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
// that trusts it: it checks what it passes on of the handshake, and ends the
// connection where the library would panic. What comes then it reads itself, a message
// at a time, and ends the connection where the peer breaks the framing or says more than it may.
// It reads through a buffer, writes a message at a time, and answers commands.
//
// Read is the library's, until the handshake is over; then there is message. Both are for one
// goroutine. Write is for the one that holds the turn: the
// handshake's at first, then the one between cork and uncork.
type guard struct {
	net.Conn
	in    *bufio.Reader
	typ   string // our socket type
	limit int64  // bytes of a message

	greeting int    // bytes that remain of the peer's greeting
	ready    []byte // what remains of the READY command that the library gets to see
	shaken   bool   // the handshake is over

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
		greeting: greetingSize, turn: make(chan struct{}, 1)}
	g.turn <- struct{}{}
	return g
}

// Read passes on the peer's greeting, and its READY, checked.
func (g *guard) Read(p []byte) (int, error) {
	if g.greeting > 0 {
		n, err := g.in.Read(p[:min(len(p), g.greeting)])
		g.greeting -= n
		return n, whole(err)
	}
	for len(g.ready) == 0 {
		flags, header, size, err := g.header()
		if err == nil && flags&flagCommand == 0 {
			err = errors.New("message before the READY command")
		}
		if err == nil {
			err = g.command(flags, header, size)
		}
		if err != nil {
			return 0, whole(err)
		}
	}
	n := copy(p, g.ready)
	g.ready = g.ready[n:]
	return n, nil
}

// whole is io.ErrUnexpectedEOF where something has to come.
func whole(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// message reads the frames of the next message. It ends with io.EOF only where the connection ends between two.
func (g *guard) message() ([][]byte, error) {
	var (
		frames [][]byte
		room   []byte // for those that are there already
		bytes  int64
	)
	for {
		flags, header, size, err := g.header()
		if err == nil && flags&flagCommand != 0 {
			if err = g.command(flags, header, size); err == nil {
				continue
			}
		}
		switch bytes += size; {
		case err != nil && frames != nil:
			return nil, whole(err)
		case err != nil:
			return nil, err
		case len(frames) == maxFrames:
			return nil, fmt.Errorf("message of more than %d frames", maxFrames)
		case bytes > g.limit:
			return nil, fmt.Errorf("message larger than %d bytes", g.limit)
		}
		if frames == nil {
			n, bodies := g.ahead()
			frames, room = make([][]byte, 0, max(n, 1)), make([]byte, bodies)
		}
		var body []byte
		if size <= int64(len(room)) {
			body, room = room[:size:size], room[size:]
		} else {
			body = make([]byte, size)
		}
		_, _ = g.in.Discard(header)
		if _, err := io.ReadFull(g.in, body); err != nil {
			return nil, whole(err)
		}
		if frames = append(frames, body); flags&flagMore == 0 {
			return frames, nil
		}
	}
}

// ahead counts the frames of the next message that are in the buffer to their end, and the bytes of their bodies.
func (g *guard) ahead() (frames, bodies int) {
	b, _ := g.in.Peek(g.in.Buffered())
	for len(b) >= 2 {
		flags, header, size := b[0], 2, uint64(b[1])
		if flags&flagLong != 0 && len(b) >= 9 {
			header, size = 9, binary.BigEndian.Uint64(b[1:])
		}
		if flags&flagCommand != 0 || flags&flagLong != 0 && header == 2 || size > uint64(len(b)-header) {
			break
		}
		frames, bodies, b = frames+1, bodies+int(size), b[header+int(size):]
		if flags&flagMore == 0 {
			break
		}
	}
	return frames, bodies
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
