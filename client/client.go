// Package client talks to a sandbox over HTTP, or to a server of many: every operation of
// api/openapi.yaml and api/server.yaml is a method. What it takes and returns are the types of package api and of the
// packages that the API is made of. Streams are iterators; one that is cut goes on
// by itself where it stopped, so that nothing is missing and nothing comes twice.
//
// An error that the server answered with is an *Error, in which errors.As finds an
// *api.Error, too. A context bounds each call, and a stream for as long as it is read.
package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
)

// Options of a Client. The zero value is ready to use.
type Options struct {
	Key string // sent as X-API-Key where it is not ""

	// Retries is how often in a row a stream that was cut is asked for again without
	// getting anything new; 0 is 8, -1 never. The pauses grow from 50 ms to 5 s.
	Retries int
	// Silence is how long a stream may say nothing before it counts as cut; servers
	// send a ping each 15 s. 0 is 60 s.
	Silence time.Duration
	// Transport carries the requests; nil is one of this client's own.
	Transport http.RoundTripper
}

// Client talks to one sandbox, or to a server of many, of which In has the clients. Its methods are safe for concurrent use.
type Client struct {
	base string // without a slash at its end
	o    Options
	http *http.Client
}

// New returns a client of the server at an address: http://HOST:PORT, or unix:PATH
// for a unix socket. A path in it goes before that of every operation.
func New(address string, o Options) (*Client, error) {
	o.Retries = cmp.Or(o.Retries, 8)
	o.Silence = cmp.Or(o.Silence, time.Minute)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 16
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		if path == "" {
			return nil, fmt.Errorf("cannot use address %q: it has no path", address)
		}
		transport.Proxy = nil
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		address = "http://localhost"
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("cannot use address %q: expected http://HOST:PORT or unix:PATH", address)
	}
	if o.Transport == nil {
		o.Transport = transport
	}
	return &Client{base: strings.TrimRight(address, "/"), o: o, http: &http.Client{Transport: o.Transport}}, nil
}

// Close closes connections that are not in use.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Error is an answer whose status is 400 or more.
type Error struct {
	API       *api.Error
	Status    int    // of HTTP; 200 where a stream ended with the error
	RequestID string // under which the server's log may have more
}

func (e *Error) Error() string { return e.API.Message }

// Unwrap is for errors.As.
func (e *Error) Unwrap() error { return e.API }

// request is a request to be sent.
type request struct {
	method, path string
	query        url.Values
	body         any // sent as JSON, or an io.Reader, sent as it is; nil: none
	accept       string
	header       http.Header
}

// send sends the request and returns the answer, whose body the caller closes. An
// answer that is an error is returned as an *Error.
func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	req, err := c.prepare(ctx, r)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 400 {
		defer resp.Body.Close()
		return nil, failure(resp)
	}
	return resp, nil
}

func (c *Client) prepare(ctx context.Context, r request) (*http.Request, error) {
	var body io.Reader
	typ := "application/octet-stream"
	switch b := r.body.(type) {
	case nil:
	case io.Reader:
		body = b
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			return nil, fmt.Errorf("cannot encode request: %w", err)
		}
		body, typ = bytes.NewReader(raw), "application/json"
	}
	target := c.base + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return nil, err
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	if body != nil {
		req.Header.Set("Content-Type", typ)
	}
	if r.accept != "" {
		req.Header.Set("Accept", r.accept)
	}
	for name, values := range c.auth() {
		req.Header[name] = values
	}
	return req, nil
}

// auth returns what tells the server who is calling.
func (c *Client) auth() http.Header {
	if c.o.Key == "" {
		return nil
	}
	return http.Header{"X-Api-Key": {c.o.Key}}
}

// maxFailure bounds what is read of an answer that is an error, in bytes.
const maxFailure = 1 << 20

// failure reads an answer that is an error.
func failure(resp *http.Response) error {
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, maxFailure))
	e := &Error{Status: resp.StatusCode, RequestID: resp.Header.Get("X-Request-Id")}
	var body api.ErrorBody
	if json.Unmarshal(raw, &body) == nil && body.Error.Code != "" {
		e.API = &body.Error
		return e
	}
	e.API = api.Errorf(api.Internal, "the server answered %s: %.200s", resp.Status, raw) // a proxy, perhaps
	return e
}

// call sends a request and reads the answer, which is JSON, into out; nil discards it.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, body, out any) error {
	return c.exchange(ctx, request{method: method, path: path, query: query, body: body}, out)
}

func (c *Client) exchange(ctx context.Context, r request, out any) error {
	resp, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	} else {
		err = json.NewDecoder(resp.Body).Decode(out)
	}
	if err != nil {
		return fmt.Errorf("cannot read the answer to %s %s: %w", r.method, r.path, err)
	}
	return nil
}

// ask is call for an answer of type T.
func ask[T any](ctx context.Context, c *Client, method, path string, query url.Values, body any) (T, error) {
	var v T
	err := c.call(ctx, method, path, query, body, &v)
	return v, err
}

// exchange is ask for a request that has more to say.
func exchange[T any](ctx context.Context, c *Client, r request) (T, error) {
	var v T
	err := c.exchange(ctx, r, &v)
	return v, err
}

// download returns the body of an answer, which the caller closes.
func (c *Client) download(ctx context.Context, path string, query url.Values) (io.ReadCloser, error) {
	resp, err := c.send(ctx, request{method: "GET", path: path, query: query})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// nothing is a body that has nothing to say.
type nothing struct{}
