package network

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ProxyPort is where the gateway is an HTTP proxy for a sandbox with [Rules]: CONNECT (RFC 9110, section 9.3.6) for any
// protocol, and absolute URLs (RFC 9112, section 3.2.2) of http, one on a connection.
const ProxyPort = 3128

const (
	headTime = 30 * time.Second // for a request's head
	headSize = 64 << 10         // bytes of it
)

// forward serves one request to the proxy.
func (s *Stack) forward(in *inner) {
	stop := context.AfterFunc(s.ctx, in.endpoint.Abort)
	defer stop()
	limited := &io.LimitedReader{R: in, N: headSize}
	buffered := bufio.NewReader(limited)
	_ = in.SetReadDeadline(time.Now().Add(headTime))
	r, err := http.ReadRequest(buffered)
	if err != nil {
		say(in, http.StatusBadRequest, errors.New("this is no request of HTTP to a proxy"))
		return
	}
	_ = in.SetReadDeadline(time.Time{})
	limited.N = 1 << 62 // bytes of a body
	t, err := s.asked(r)
	if err != nil {
		say(in, http.StatusBadRequest, err)
		return
	}
	out, err := s.dial(s.ctx, "tcp", t)
	switch {
	case errors.Is(err, ErrRefused):
		say(in, http.StatusForbidden, err)
	case err != nil:
		say(in, http.StatusBadGateway, err)
	case r.Method == http.MethodConnect:
		s.tunnel(in, out, buffered, t)
	default:
		s.exchangeHTTP(in, out, r, t)
	}
}

// asked is what a request to the proxy is for.
func (s *Stack) asked(r *http.Request) (target, error) {
	host, port := r.URL.Hostname(), r.URL.Port()
	switch {
	case r.Method == http.MethodConnect && port != "":
	case r.Method == http.MethodConnect || r.URL.Scheme != "http" || host == "":
		return target{}, errors.New("a proxy's client asks for CONNECT HOST:PORT, or for http://HOST/…")
	case port == "":
		port = "80"
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return target{}, fmt.Errorf("%.100q is no port", port)
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return s.meant(netip.AddrPortFrom(a.WithZone(""), uint16(n))), nil // a zone is no address's outside, and as long as it likes
	}
	return target{name: strings.ToLower(strings.TrimSuffix(host, ".")), to: netip.AddrPortFrom(netip.Addr{}, uint16(n))}, nil
}

// tunnel carries what follows a CONNECT.
func (s *Stack) tunnel(in *inner, out net.Conn, buffered *bufio.Reader, t target) {
	_, err := io.WriteString(in, "HTTP/1.1 200 Connection established\r\n\r\n")
	if first, _ := buffered.Peek(buffered.Buffered()); err == nil && len(first) > 0 { // which came with the request
		_, err = out.Write(first)
		s.stats.out.Add(int64(len(first)))
	}
	if err != nil {
		abandon(out)
		return
	}
	s.splice(in, out, t)
}

// exchangeHTTP sends a request on, and its answer back.
func (s *Stack) exchangeHTTP(in *inner, out net.Conn, r *http.Request, t target) {
	defer out.Close()
	stop := context.AfterFunc(s.ctx, func() { out.Close() })
	defer stop()
	defer s.opened(t, out, func() { out.Close(); in.endpoint.Abort() })()
	for _, name := range append(strings.Split(r.Header.Get("Connection"), ","), "Connection", "Proxy-Connection", "Proxy-Authorization", "Keep-Alive", "Te", "Upgrade", "Expect") {
		r.Header.Del(strings.TrimSpace(name))
	}
	r.Close = true
	var sent sync.WaitGroup
	defer sent.Wait()
	defer func() { out.Close(); in.endpoint.Abort() }() // where an answer came before the end of the request
	sent.Go(func() {
		_ = r.Write(counted{out, &s.stats.out})
		if _, err := in.Read(make([]byte, 1)); err != nil { // nobody waits for the answer any more
			out.Close()
		}
	})
	limited := &io.LimitedReader{R: out, N: headSize}
	resp, err := http.ReadResponse(bufio.NewReader(limited), r)
	if err != nil {
		say(in, http.StatusBadGateway, fmt.Errorf("%s gives no answer of HTTP", t))
	} else {
		limited.N = 1 << 62
		resp.Close = true
		resp.Header.Del("Connection")
		_ = resp.Write(counted{in, &s.stats.in})
		resp.Body.Close()
	}
	in.finish(s.ctx)
}

// counted counts the bytes that are written.
type counted struct {
	io.Writer
	n *atomic.Int64
}

func (c counted) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	c.n.Add(int64(n))
	return n, err
}

// say answers a request to the proxy itself.
func say(in io.Writer, status int, why error) {
	text := "k2sandbox: " + why.Error() + "\n"
	_, _ = fmt.Fprintf(in, "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", status, http.StatusText(status), len(text), text)
}
