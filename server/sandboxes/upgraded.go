package sandboxes

import (
	"bufio"
	"net"
	"net/http"
	"time"
)

// stuck is how many times as long as an answer, a connection that was upgraded may make no progress: an agent looks after its
// clients itself, and is to be the first to lose patience.
const stuck = 15

// upgraded is for a request that may take its connection away. A client that takes nothing of what it is sent is cut then,
// as nobody else would: what passes through waits for it, and TCP for ever.
type upgraded struct {
	http.ResponseWriter
	patience time.Duration
}

// Unwrap is for http.ResponseController.
func (u upgraded) Unwrap() http.ResponseWriter { return u.ResponseWriter }

// Hijack is for http.Hijacker.
func (u upgraded) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, both, err := http.NewResponseController(u.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	return &watched{Conn: conn, patience: u.patience}, both, nil
}

// watched is a connection whose writes have to make progress.
type watched struct {
	net.Conn
	patience time.Duration
	extended time.Time // when the deadline was last moved
}

func (c *watched) Write(p []byte) (int, error) {
	if now := time.Now(); now.Sub(c.extended) > c.patience/64 {
		c.extended = now
		if err := c.SetWriteDeadline(now.Add(c.patience)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(p)
}
