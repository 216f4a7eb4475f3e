package fleet

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/internal/netraw"
)

const (
	maxHead   = 64 << 10 // bytes of an answer's head, with informational answers before it
	maxAtOnce = 32 << 10 // bytes of a body that is sent before an answer is read
	maxIdle   = 16
	idleTime  = 30 * time.Second // less than an agent's own
)

// transport sends requests to one agent. In the common case, of a body that is short or
// none, all is done by the caller's goroutine: http.Transport hands each request and
// each answer over between three, which is most of what it costs on a machine with few cores.
type transport struct {
	dial  func(context.Context) (net.Conn, error)
	other *http.Transport // for bodies that are streams, and for other protocols

	mu   sync.Mutex
	idle []*line // that was used last is last
}

// line is a connection.
type line struct {
	net.Conn
	from  *bufio.Reader
	limit *io.LimitedReader
	rest  *time.Timer // closes it when it was idle for long; nil: it never was
	heard bool        // the agent has begun to answer
}

func newTransport(dial func(context.Context) (net.Conn, error)) *transport {
	return &transport{dial: dial, other: &http.Transport{
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		DisableCompression:     true, // what is packed passes as it is
		MaxResponseHeaderBytes: maxHead,
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        idleTime,
	}}
}

// CloseIdleConnections closes what no request uses.
func (t *transport) CloseIdleConnections() {
	t.other.CloseIdleConnections()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.idle {
		l.rest.Stop()
		l.Close()
	}
	t.idle = nil
}

// RoundTrip is for http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.ContentLength < 0 || r.ContentLength > maxAtOnce || r.Header.Get("Upgrade") != "" || r.Header.Get("Expect") != "" {
		return t.other.RoundTrip(r)
	}
	text := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(text)
	text.Reset()
	err := r.Write(text)
	if r.Body != nil {
		r.Body.Close()
	}
	if err != nil {
		return nil, err
	}
	for {
		l, err := t.take(r.Context())
		if err != nil {
			return nil, err
		}
		resp, err := t.send(l, r, text.Bytes())
		if err == nil || l.rest == nil || l.heard || r.Context().Err() != nil || r.Method != http.MethodGet && r.Method != http.MethodHead {
			return resp, err
		} // the agent closed a connection that was idle, which is no answer
	}
}

// send sends a request over a connection.
func (t *transport) send(l *line, r *http.Request, text []byte) (*http.Response, error) {
	stop := context.AfterFunc(r.Context(), func() { l.Close() })
	resp, err := l.exchange(r, text)
	if err != nil {
		l.Close()
		if !stop() {
			err = r.Context().Err()
		}
		return nil, err
	}
	a := &answer{ReadCloser: resp.Body, l: l, done: func(whole bool) {
		if stop() && whole && !resp.Close {
			t.keep(l)
		} else {
			l.Close()
		}
	}}
	if resp.Body == http.NoBody {
		a.end(true)
	} else {
		resp.Body = a
	}
	return resp, nil
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// exchange sends the request and reads the head of the answer.
func (l *line) exchange(r *http.Request, text []byte) (*http.Response, error) {
	l.heard = false
	if _, err := l.Write(text); err != nil {
		return nil, err
	}
	l.limit.N = maxHead
	defer func() { l.limit.N, l.heard = math.MaxInt64, l.limit.N < maxHead }()
	for {
		resp, err := http.ReadResponse(l.from, r)
		switch {
		case l.limit.N <= 0:
			return nil, fmt.Errorf("its head has more than %d bytes", maxHead)
		case errors.Is(err, io.ErrUnexpectedEOF):
			return nil, fmt.Errorf("its head ends too early: %w", err)
		case err != nil:
			return nil, err
		case resp.StatusCode == http.StatusSwitchingProtocols:
			return nil, errors.New("another protocol, unasked")
		case resp.StatusCode >= 200 || resp.StatusCode < 100:
			return resp, nil
		}
	}
}

// take returns a connection that is fit for a request.
func (t *transport) take(ctx context.Context) (*line, error) {
	for {
		t.mu.Lock()
		n := len(t.idle)
		if n == 0 {
			t.mu.Unlock()
			break
		}
		l := t.idle[n-1]
		t.idle = t.idle[:n-1]
		t.mu.Unlock()
		if l.rest.Stop() && l.quiet() {
			return l, nil
		}
		l.Close()
	}
	conn, err := t.dial(ctx)
	if err != nil {
		return nil, err
	}
	conn = netraw.Conn(conn)
	limit := &io.LimitedReader{R: conn, N: math.MaxInt64}
	return &line{Conn: conn, from: bufio.NewReader(limit), limit: limit}, nil
}

// keep keeps a connection for the next request.
func (t *transport) keep(l *line) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.idle) == maxIdle {
		l.Close()
		return
	}
	l.rest = time.AfterFunc(idleTime, func() { t.drop(l) })
	t.idle = append(t.idle, l)
}

// drop closes a connection that nobody has used.
func (t *transport) drop(l *line) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.idle {
		if t.idle[i] == l {
			t.idle = append(t.idle[:i], t.idle[i+1:]...)
			break
		}
	}
	l.Close()
}

// quiet reports whether the agent has said nothing since its last answer, not even that it
// closes the connection. What it says unasked is nobody's answer.
func (l *line) quiet() bool { return l.from.Buffered() == 0 && netraw.Quiet(l.Conn) }

// answer is the body of an answer; its connection is free once it has been read.
type answer struct {
	io.ReadCloser
	l     *line
	done  func(whole bool)
	ended bool
}

func (a *answer) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if err != nil {
		a.end(err == io.EOF)
	}
	return n, err
}

func (a *answer) Close() error {
	a.end(false)
	return nil
}

func (a *answer) end(whole bool) {
	if !a.ended {
		a.ended = true
		a.done(whole)
	}
}

// Buffered tells how many bytes are there already, to be read without waiting.
func (a *answer) Buffered() int {
	if a.ended {
		return 1 // the end
	}
	return a.l.from.Buffered()
}
