package kernel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// script is a connection whose peer says what was written before and hears nothing.
type script struct {
	io.Reader
	said bytes.Buffer // by us
}

func (s *script) Write(b []byte) (int, error)      { return s.said.Write(b) }
func (s *script) Close() error                     { return nil }
func (s *script) LocalAddr() net.Addr              { return nil }
func (s *script) RemoteAddr() net.Addr             { return nil }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// hear returns the messages that a DEALER gets from a script, up to its error,
// and what it said after the handshake.
func hear(r io.Reader, limit int64) (messages [][][]byte, said string, err error) {
	conn := &script{Reader: r}
	s, err := handshake(context.Background(), conn, typeDealer, "me", limit)
	for err == nil {
		var m [][]byte
		if m, err = s.recv(); err == nil {
			messages = append(messages, m)
		}
	}
	said = conn.said.String()
	return messages, said[min(handSize, len(said)):], err
}

const hand = peerGreeting + readyRouter

// handSize is the bytes of our own greeting and READY, as the DEALER "me".
const handSize = greetingSize + 2 + len("\x05READY") + 1 + len("Socket-Type") + 4 + len("DEALER") + 1 + len("Identity") + 4 + len("me")

func TestTransportReads(t *testing.T) {
	big := strings.Repeat("0123456789", 70_000) // more than any buffer
	text := hand + "\x01\x01a\x00\x00" + "\x03\x00\x00\x00\x00\x00\x00\x00\x01b" + string(frameOf(0, []byte(big))) +
		"\x04\x0a\x04PING\x00\x10ctx" + "\x01\x01c" + "\x04\x09\x04PING\x00\x10in" + "\x00\x01d"
	messages, said, err := hear(strings.NewReader(text), 1<<20)
	if !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("ended with %v", err)
	}
	var got []string
	for _, m := range messages {
		got = append(got, string(bytes.Join(m, []byte("|"))))
	}
	if strings.Join(got, ",") != "a|,b|"+big+",c|d" {
		t.Errorf("got %.200q", got)
	}
	if said != "\x04\x08\x04PONGctx"+"\x04\x07\x04PONGin" {
		t.Errorf("we said %q", said)
	}
}

func TestTransportRefuses(t *testing.T) {
	ready := func(body string) string { return peerGreeting + "\x04" + string(rune(len(body))) + body }
	for _, c := range []struct{ name, said, want string }{
		{"nothing", "", "unexpected EOF"},
		{"no ZMTP", "HTTP/1.1 400 Bad Request" + strings.Repeat("\r\n", 40), "greeting"},
		{"ZMTP 2", strings.Replace(peerGreeting, "\x7f\x03\x01", "\x7f\x01\x00", 1), "version"},
		{"another mechanism", strings.Replace(peerGreeting, "NULL", "CURV", 1), "security mechanism"},
		{"greeting alone", peerGreeting, "unexpected EOF"},
		{"half a READY", hand[:len(hand)-3], "unexpected EOF"},
		{"a message for READY", peerGreeting + "\x00\x01a", "before the READY"},
		{"an endless READY", peerGreeting + "\x06\x7f\xff\xff\xff\xff\xff\xff\xff", "larger than"},
		{"a large READY", peerGreeting + "\x06\x00\x00\x00\x00\x00\x00\xff\xff", "too large"},
		{"a READY in parts", peerGreeting + "\x05\x06\x05READY", "several frames"},
		{"a command without a name", peerGreeting + "\x04\x00", "without a name"},
		{"a name that is too long", ready("\x09READY"), "without a name"},
		{"another command", ready("\x05ERROR\x07go away"), "go away"},
		{"no properties", ready("\x05READY"), "socket type"},
		{"a name's length lies", ready("\x05READY\xffS"), "length"},
		{"a name fills it", ready("\x05READY\x0bSocket-Type"), "length"},
		{"a value's length lies", ready("\x05READY\x0bSocket-Type\x00\x00\x01\x00ROUTER"), "length"},
		{"a value's length is huge", ready("\x05READY\x0bSocket-Type\xff\xff\xff\xffROUTER"), "length"},
		{"half a length", ready("\x05READY\x0bSocket-Type\x00\x00"), "length"},
		{"an unknown type", ready("\x05READY" + property("Socket-Type", "SOCKET")), "socket type"},
		{"the wrong type", ready("\x05READY" + property("Socket-Type", "PUB")), "socket type"},
		{"a frame's length is negative", hand + "\x02\xff\xff\xff\xff\xff\xff\xff\xff", "larger than"},
		{"a frame is huge", hand + "\x02\x00\x00\x00\x00\x40\x00\x00\x00", "larger than"},
		{"a frame is a byte too large", hand + "\x02\x00\x00\x00\x00\x00\x10\x00\x01", "larger than"},
		{"frames add up", hand + strings.Repeat(string(frameOf(flagMore, make([]byte, 1<<18))), 5), "larger than"},
		{"endless frames", hand + strings.Repeat("\x01\x00", maxFrames+1), "more than 65536 frames"},
		{"reserved flags", hand + "\x08\x00", "reserved"},
		{"half a header", hand + "\x02\x00", "unexpected EOF"},
		{"half a body", hand + "\x00\x05abc", "unexpected EOF"},
		{"half a message", hand + "\x01\x01a", "unexpected EOF"},
		{"half a command", hand + "\x04\x05\x04PI", "unexpected EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			messages, _, err := hear(strings.NewReader(c.said), 1<<20)
			if err == nil || !strings.Contains(err.Error(), c.want) || len(messages) > 0 {
				t.Errorf("%q, %v; want %q", messages, err, c.want)
			}
		})
	}
}

// A peer that says a byte now and then does not extend the handshake's deadline.
func TestTransportHandshakeDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		go func() {
			for _, b := range []byte(hand) {
				if _, err := theirs.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		go io.Copy(io.Discard, theirs)
		ctx, cancel := context.WithTimeout(t.Context(), handshakeTimeout)
		defer cancel()
		if _, err := handshake(ctx, ours, typeDealer, "me", 1<<20); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ended with %v", err)
		}
		theirs.Close()
		time.Sleep(time.Second) // for the peer to notice
	})
}

// A kernel that reads nothing blocks nobody for ever, and those who wait for
// their turn for no longer than they want to.
func TestTransportWriteDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		go theirs.Write([]byte(hand))
		go io.CopyN(io.Discard, theirs, int64(handSize))
		s, err := handshake(t.Context(), ours, typeDealer, "me", 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		first := make(chan error)
		go func() { first <- s.send(t.Context(), make([]byte, 1<<20)) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.send(ctx, []byte("b")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the second sender: %v", err)
		}
		if err := <-first; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the first sender: %v", err)
		}
		if err := s.send(t.Context(), []byte("c")); err == nil {
			t.Error("sent behind half a message")
		}
		if _, err := s.recv(); err == nil {
			t.Error("received behind half a message")
		}
	})
}

// A message goes out in one write, and a PONG never inside it.
func TestTransportWrites(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	go func() {
		io.WriteString(theirs, hand)
		for err := error(nil); err == nil; {
			_, err = io.WriteString(theirs, "\x04\x09\x04PING\x00\x10me")
		}
	}()
	go io.CopyN(io.Discard, theirs, int64(handSize))
	s, err := handshake(t.Context(), ours, typeDealer, "me", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	go s.recv()
	go func() {
		for err := error(nil); err == nil; {
			err = s.send(t.Context(), []byte("a"), make([]byte, 1000), nil)
		}
	}()
	message := "\x01\x01a" + string(frameOf(flagMore, make([]byte, 1000))) + "\x00\x00"
	buf := make([]byte, 4096)
	for messages, pongs := 0, 0; messages < 100 || pongs < 10; {
		n, err := theirs.Read(buf) // a pipe's Read returns what one Write wrote
		if err != nil {
			t.Fatal(err)
		}
		switch string(buf[:n]) {
		case message:
			messages++
		case "\x04\x07\x04PONGme":
			pongs++
		default:
			t.Fatalf("we wrote %q", buf[:n])
		}
	}
}

// FuzzTransport says anything, to a socket before and after the handshake: the
// library does not panic, messages are bounded, and what is heard does not depend
// on the pieces in which it came.
func FuzzTransport(f *testing.F) {
	f.Add([]byte(""), true)
	f.Add([]byte(hand+"\x01\x01a\x00\x00"), false)
	f.Add([]byte("\x01\x01a\x02\x00\x00\x00\x00\x00\x00\x00\x03abc\x04\x09\x04PING\x00\x10in\x00\x01d"), true)
	f.Add([]byte("\x02\xff\xff\xff\xff\xff\xff\xff\xff"), true)
	f.Add([]byte(peerGreeting+"\x04\x20\x05READY\x0bSocket-Type\x00\x00\x00\x06ROUTER\x01X\xff\xff\xff\xff"), false)
	f.Fuzz(func(t *testing.T, said []byte, shaken bool) {
		if shaken {
			said = append([]byte(hand), said...)
		}
		const limit = 4096
		whole, answers, err := hear(bytes.NewReader(said), limit)
		pieces, again, errPieces := hear(iotest.OneByteReader(bytes.NewReader(said)), limit)
		if err.Error() != errPieces.Error() || len(whole) != len(pieces) || answers != again {
			t.Fatalf("%d messages, %v; in pieces: %d, %v", len(whole), err, len(pieces), errPieces)
		}
		for i, m := range whole {
			size := 0
			for k, f := range m {
				size += len(f)
				if !bytes.Equal(f, pieces[i][k]) {
					t.Fatalf("%q; in pieces: %q", m, pieces[i])
				}
			}
			if size > limit || len(m) > maxFrames {
				t.Fatalf("%d bytes in %d frames", size, len(m))
			}
		}
	})
}
