package inside

import (
	"time"

	"github.com/k2sandbox/k2sandbox/mime"
)

// Render is render.
func Render(data []byte) (text, typ string) { return render(mime.New(data)) }

// Shrink is shrink.
func Shrink(raw []byte) (typ string, data []byte, err error) {
	p, err := shrink(raw, time.Now().Add(time.Minute))
	return p.mime, p.data, err
}

// Clean is clean, of pieces of a text, and how many code points all of it has.
func Clean(n int, pieces ...string) (text string, total int64) {
	x := newExcerpt(n)
	s := screen{to: &x}
	for i, piece := range pieces {
		s.write(piece, position{seq: int64(i + 1)})
	}
	s.flush()
	return x.show(n, func(position) string { return "" }).text, x.total
}
