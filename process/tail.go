package process

import "sync"

// Tail is a writer that keeps the last bytes it was given. It is safe for
// concurrent use, so that stdout and stderr can share one.
type Tail struct {
	size int

	mu  sync.Mutex
	buf []byte
}

// NewTail returns a Tail of size bytes.
func NewTail(size int) *Tail { return &Tail{size: size} }

// Write never fails.
func (t *Tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(b)
	if len(b) > t.size {
		b = b[len(b)-t.size:]
	}
	if over := len(t.buf) + len(b) - t.size; over > 0 {
		t.buf = t.buf[:copy(t.buf, t.buf[over:])]
	}
	t.buf = append(t.buf, b...)
	return n, nil
}

// String returns the bytes it holds, oldest first.
func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
