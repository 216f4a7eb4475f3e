package sandboxes

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/trace"
)

// maxFields bounds the fields of a head; the transport bounds its bytes.
const maxFields = 128

// answer looks at the head of an answer, and takes from it what an agent has no say in.
func (p *passage) answer(resp *http.Response) error {
	if p.patience != nil && !p.patience.end() {
		return errSlow
	}
	if err := p.check(resp); err != nil {
		return err
	}
	p.guardTrailer(resp.Trailer)
	switch {
	case p.Own:
		server.GuardOwnPage(resp.Header)
	case p.Port:
		server.GuardPage(resp.Header, p.o.TrustPorts, p.browser())
	default:
		keep(resp.Header, known)
		if p.foreign && p.Prefix == "" {
			resp.Header.Del("Location")
		}
		resp.Header.Set("Content-Security-Policy", "sandbox; default-src 'none'") // whatever it says that it is
	}
	if p.span != nil {
		p.span.Set(trace.Int("http.response.status_code", resp.StatusCode))
		p.span.Event("answer", time.Now())
	}
	p.place(resp.Header)
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols:
		go p.endWithSandbox(p.box.Done())
	case resp.Body != http.NoBody:
		there, _ := resp.Body.(interface{ Buffered() int })
		resp.Body = &checked{resp.Body, resp, p, !sized(resp), p.foreign && resp.ContentLength < 0, there, http.NewResponseController(p.w)}
		resp.ContentLength = 0 // the proxy would flush each write otherwise; the header tells the client
	}
	return nil
}

// check refuses what no agent of ours says.
func (p *passage) check(resp *http.Response) error {
	fields := 0
	for name, values := range resp.Header {
		fields += len(values)
		if slices.ContainsFunc(values, func(v string) bool { return strings.ContainsFunc(v, control) }) {
			return fmt.Errorf("control characters in the header %.100q", name)
		}
	}
	status := resp.StatusCode
	switch {
	case fields > maxFields:
		return fmt.Errorf("%d header fields", fields)
	case status == http.StatusSwitchingProtocols && p.in.Header.Get("Upgrade") == "":
		return errors.New("another protocol, unasked")
	case (status < 200 || status > 599) && status != http.StatusSwitchingProtocols:
		return fmt.Errorf("the status %d", status)
	case !p.Port && status >= 300 && status < 400 && status != http.StatusNotModified:
		return errors.New("a redirect")
	case !p.Port && resp.Header.Get("Content-Encoding") != "" && !p.packed(resp):
		return errors.New("a content encoding")
	}
	return nil
}

// guardTrailer takes from what comes behind an answer what an agent has no say in.
func (p *passage) guardTrailer(h http.Header) {
	if !p.Port {
		keep(h, trailers)
		return
	}
	server.GuardPage(h, true, false)
	delete(h, "Set-Cookie")
}

// packed reports whether an answer is packed as the client of another API asked for.
func (p *passage) packed(resp *http.Response) bool {
	return p.foreign && resp.Header.Get("Content-Encoding") == "gzip" && strings.Contains(p.in.Header.Get("Accept-Encoding"), "gzip")
}

func control(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

// known are the headers of agents of ours.
var known = []string{
	"Accept-Ranges", "Allow", "Cache-Control", "Connection", "Content-Disposition", "Content-Encoding", "Content-Length", "Content-Range", "Content-Type",
	"Date", "Etag", "Last-Modified", "Location", "Retry-After", "Sec-Websocket-Accept", "Sec-Websocket-Protocol", "Upgrade", "Vary",
	"X-Accel-Buffering", "X-Epoch", "X-Execution-Id", "X-Install-Id", "X-Notebook-Id", "X-Output-Start", "X-Output-Total", "X-Output-Truncated",
}

// trailers are what comes behind an agent's answers.
var trailers = []string{"X-Archive-Skipped", api.DeathTrailer}

func keep(h http.Header, names []string) {
	for name := range h {
		if !slices.Contains(names, name) {
			delete(h, name)
		}
	}
}

// place puts where the answer points to under our path, where the agent's own paths are.
func (p *passage) place(h http.Header) {
	given := h.Get("Location")
	h.Del("Location")
	if to, ok := p.location(given); ok {
		h.Set("Location", to)
	}
}

// location returns the Location for the client. It points to no other sandbox, also by
// ways that only some clients take, and no client follows it to another host with its key.
func (p *passage) location(given string) (string, bool) {
	where, err := url.Parse(given)
	if given == "" || err != nil || strings.Contains(given, "\\") || strings.Contains(strings.ToLower(given), "%2e") {
		return "", false
	}
	if where.Scheme != "" || where.Host != "" {
		if !strings.EqualFold(where.Host, p.in.Host) || where.Opaque != "" {
			return given, p.Port && server.CallerOf(p.in) == (server.Caller{})
		}
		where.Scheme, where.Host, where.User = "", "", nil
		given = where.String()
	}
	if rest, ok := strings.CutPrefix(given, "/v1/"); ok && !p.foreign && !strings.HasPrefix(given, p.prefix+"/") {
		given = p.prefix + "/" + rest
	}
	full, err := p.in.URL.Parse(given)
	return given, err == nil && full.Host == p.in.URL.Host && p.reaches(full.EscapedPath()) // a path of two slashes would be a host
}

// reaches reports whether a path is one of this sandbox, and for a server inside one of ports.
func (p *passage) reaches(path string) bool {
	if p.foreign && p.Prefix == "" {
		return p.Port && !strings.HasPrefix(path, "//")
	}
	rest, ok := strings.CutPrefix(path, p.prefix+"/")
	if p.Port {
		return ok && strings.HasPrefix(rest, "ports/")
	}
	return ok && !strings.HasPrefix(rest, "sandboxes")
}

// endWithSandbox ends the passage with the sandbox: the client of a connection of another protocol may not notice
// by itself, and that of another API is not to take what an agent says at its end for the end of an answer.
func (p *passage) endWithSandbox(ended <-chan struct{}) {
	select {
	case <-ended:
		p.cancel(errAway)
	case <-p.ctx.Done():
	}
}

// isAway reports whether the sandbox has begun to end, or is paused.
func (p *passage) isAway() bool {
	select {
	case <-p.away:
		return true
	default:
		return false
	}
}

// sized reports whether the end of an answer is told, so that one that is cut is seen.
func sized(resp *http.Response) bool {
	return resp.ContentLength >= 0 || slices.Contains(resp.TransferEncoding, "chunked")
}

// checked is the body of an answer.
type checked struct {
	io.ReadCloser
	resp   *http.Response
	p      *passage
	openly bool // it ends where the connection does, which looks the same where that was cut
	cut    bool // its end is no end where the sandbox ends

	there   interface{ Buffered() int } // tells what can be read without waiting; nil: nobody knows
	control *http.ResponseController
}

// Read sends what has come so far, head included, before it waits for more.
func (c *checked) Read(p []byte) (int, error) {
	if c.there == nil || c.there.Buffered() == 0 {
		_ = c.control.Flush() // what fails, the next write tells
	}
	n, err := c.ReadCloser.Read(p)
	c.p.metrics.fromSandboxes.Add(int64(n))
	if err == io.EOF && (c.openly || c.cut && c.p.isAway()) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Close looks at what came behind the body.
func (c *checked) Close() error {
	err := c.ReadCloser.Close()
	c.p.hear(c.resp.Trailer)
	c.p.guardTrailer(c.resp.Trailer)
	if cause := c.resp.Trailer.Get(api.DeathTrailer); cause != "" && !c.p.Port && c.p.in.Method == http.MethodPost {
		c.p.metrics.death(api.Death(cause))
	}
	if c.p.foreign { // whose clients know no such thing
		c.resp.Trailer.Del(api.DeathTrailer)
	}
	return err
}
