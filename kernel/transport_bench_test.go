package kernel

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
)

// endless says the same again and again.
type endless struct {
	said []byte
	at   int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.said[e.at:])
	e.at = (e.at + n) % len(e.said)
	return n, nil
}

// BenchmarkReceive is what a message takes from the connection to its frames.
func BenchmarkReceive(b *testing.B) {
	for name, content := range map[string][]byte{"small": bytes.Repeat([]byte("x"), 30), "large": bytes.Repeat([]byte("x"), 4<<20)} {
		b.Run(name, func(b *testing.B) {
			var said []byte
			for _, size := range []int{50, 9, 64, 180, 180, 2} { // topic, delimiter, signature, header, parent, metadata
				said = append(said, frameOf(flagMore, make([]byte, size))...)
			}
			said = append(said, frameOf(0, content)...)
			conn := &script{Reader: io.MultiReader(strings.NewReader(hand), &endless{said: said})}
			s, err := handshake(context.Background(), conn, typeDealer, "me", 8<<20)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(said)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.recv(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
