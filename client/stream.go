package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/journal"
)

// ErrCut tells that a stream broke off before its end and did not go on.
var ErrCut = errors.New("the stream was cut")

// line is a line of a stream, as far as all streams are alike.
type line struct {
	Source api.Source      `json:"source"` // only where one stream has several logs
	Seq    int64           `json:"seq"`
	Type   journal.Type    `json:"type"`
	Status executor.Status `json:"status"`
	Error  *api.Error      `json:"error"`
	raw    []byte
}

// last reports whether it is the stream's end.
func (l line) last() bool {
	return l.Type == journal.End && (l.Source == "" || l.Source == api.FromTimeline)
}

// cut returns the error of an end that is the server's own word.
func (l line) cut(resp *http.Response) error {
	if l.last() && l.Status == api.Cut && l.Error != nil {
		return &Error{API: l.Error, Status: resp.StatusCode, RequestID: resp.Header.Get("X-Request-Id")}
	}
	return nil
}

// open asks for a stream that begins after what the client has by then.
type open func(ctx context.Context) (*http.Response, error)

// follow yields the lines of a stream up to its end, pings left out, and asks for
// the rest where it is cut. The first answer may be there already.
func (c *Client) follow(ctx context.Context, resp *http.Response, again open) iter.Seq2[line, error] {
	return func(yield func(line, error) bool) {
		for tries := 0; ; tries++ {
			var err error
			if resp == nil {
				resp, err = again(ctx)
			}
			if err == nil {
				var more bool
				more, err = c.read(resp, func(l line, err error) bool {
					if l.Seq > 0 { // what each connection begins with is nothing new
						tries = 0
					}
					return yield(l, err)
				})
				if !more {
					return
				}
			}
			resp = nil
			if err = c.pause(ctx, tries, err); err != nil {
				yield(line{}, err)
				return
			}
		}
	}
}

// pause waits before a stream is asked for again; it returns an error where that
// makes no sense.
func (c *Client) pause(ctx context.Context, tries int, err error) error {
	var refused *Error
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &refused) && refused.Status < 500:
		return err
	}
	if tries >= c.o.Retries {
		return fmt.Errorf("%w: %w", ErrCut, err)
	}
	wait := time.NewTimer(min(50*time.Millisecond<<min(tries, 10), 5*time.Second))
	defer wait.Stop()
	select {
	case <-wait.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// read reads an answer; more reports whether the stream should go on, which
// stopped because of err. A stream that is silent for too long is cut.
func (c *Client) read(resp *http.Response, yield func(line, error) bool) (more bool, err error) {
	defer resp.Body.Close()
	silence := time.AfterFunc(c.o.Silence, func() { resp.Body.Close() })
	defer silence.Stop()
	lines := bufio.NewReaderSize(resp.Body, 64<<10)
	for {
		silence.Reset(c.o.Silence)
		raw, err := lines.ReadBytes('\n')
		silence.Stop() // who reads may take long
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return true, err
		}
		l := line{raw: raw}
		if err := json.Unmarshal(raw, &l); err != nil {
			return true, fmt.Errorf("cannot decode a line: %w", err)
		}
		if l.Type == api.Ping {
			continue
		}
		if cut := l.cut(resp); !yield(l, cut) || cut != nil || l.last() {
			return false, nil
		}
	}
}

// start posts what begins something, and yields its events. The header of the answer
// tells what it is, and path from that where its events are.
func start[T any](ctx context.Context, c *Client, post string, body any, header string, path func(string) string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		resp, err := c.send(ctx, request{method: "POST", path: post, body: body})
		if err != nil {
			var none T
			yield(none, err)
			return
		}
		events[T](ctx, c, resp, path(resp.Header.Get(header)), 0)(yield)
	}
}

// events yields the events of a numbered stream after a number, each as a T. head
// is an answer with the stream's beginning, if there is one.
func events[T any](ctx context.Context, c *Client, head *http.Response, path string, after int64) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		again := func(ctx context.Context) (*http.Response, error) {
			return c.send(ctx, request{method: "GET", path: path, query: url.Values{"after": {strconv.FormatInt(after, 10)}}})
		}
		for l, err := range c.follow(ctx, head, again) {
			var v T
			if err == nil {
				err = json.Unmarshal(l.raw, &v)
			}
			if !yield(v, err) || err != nil {
				return
			}
			after = l.Seq
		}
	}
}
