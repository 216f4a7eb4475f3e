package client

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/files"
	"github.com/k2sandbox/k2sandbox/journal"
)

// Download is the content of a file as it comes. It must be closed.
type Download struct {
	io.ReadCloser
	Size int64  // bytes that come; -1 where that is not known
	ETag string // of this version of the file
}

// ReadFile returns the content of a file, from byte offset on; of length bytes, -1
// being all.
func (c *Client) ReadFile(ctx context.Context, path string, offset, length int64) (*Download, error) {
	header := http.Header{}
	switch {
	case length >= 0:
		header.Set("Range", "bytes="+strconv.FormatInt(offset, 10)+"-"+strconv.FormatInt(offset+length-1, 10))
	case offset > 0:
		header.Set("Range", "bytes="+strconv.FormatInt(offset, 10)+"-")
	}
	resp, err := c.send(ctx, request{method: "GET", path: "/v1/files", query: url.Values{"path": {path}}, header: header})
	if err != nil {
		return nil, err
	}
	return &Download{resp.Body, resp.ContentLength, resp.Header.Get("ETag")}, nil
}

// WriteOptions say how a file is to be written.
type WriteOptions struct {
	Mode        string // in octal, such as "0644"; "" keeps that of the file that is there
	IfMatch     string // only over this version, an ETag
	IfNoneMatch string // "*": only where there is no file
}

// WriteFile writes all of r into a file, in one step: until then the old one is there.
// Directories are made as needed.
func (c *Client) WriteFile(ctx context.Context, path string, r io.Reader, o WriteOptions) (files.Entry, error) {
	query, header := url.Values{"path": {path}}, http.Header{}
	if o.Mode != "" {
		query.Set("mode", o.Mode)
	}
	if o.IfMatch != "" {
		header.Set("If-Match", o.IfMatch)
	}
	if o.IfNoneMatch != "" {
		header.Set("If-None-Match", o.IfNoneMatch)
	}
	return exchange[files.Entry](ctx, c, request{method: "PUT", path: "/v1/files", query: query, body: r, header: header})
}

// RemoveFile removes a file, or a directory with all that is in it where recursive is
// set, else an empty one.
func (c *Client) RemoveFile(ctx context.Context, path string, recursive bool) error {
	query := url.Values{"path": {path}, "recursive": {strconv.FormatBool(recursive)}}
	return c.call(ctx, "DELETE", "/v1/files", query, nil, nil)
}

// ListFiles yields what is in a directory, depth levels deep; it asks for one page
// after the other.
func (c *Client) ListFiles(ctx context.Context, path string, depth int) iter.Seq2[files.Entry, error] {
	return func(yield func(files.Entry, error) bool) {
		query := url.Values{"path": {path}, "depth": {strconv.Itoa(depth)}}
		for {
			page, err := ask[api.FileList](ctx, c, "GET", "/v1/files/list", query, nil)
			if err != nil {
				yield(files.Entry{}, err)
				return
			}
			for _, e := range page.Entries {
				if !yield(e, nil) {
					return
				}
			}
			if page.NextCursor == "" {
				return
			}
			query.Set("cursor", page.NextCursor)
		}
	}
}

// StatFile tells about a file; of a link about the link itself.
func (c *Client) StatFile(ctx context.Context, path string) (files.Entry, error) {
	return ask[files.Entry](ctx, c, "GET", "/v1/files/stat", url.Values{"path": {path}}, nil)
}

// MoveFile gives a file or directory another path.
func (c *Client) MoveFile(ctx context.Context, from, to string, overwrite bool) (files.Entry, error) {
	req := api.MoveRequest{FromBase64: exact(from), ToBase64: exact(to), Overwrite: overwrite}
	return ask[files.Entry](ctx, c, "POST", "/v1/files/move", nil, req)
}

// MakeDir makes a directory, and those on the way to it; mode is in octal, "" the default.
func (c *Client) MakeDir(ctx context.Context, path, mode string) (files.Entry, error) {
	return ask[files.Entry](ctx, c, "POST", "/v1/files/mkdir", nil, api.MkdirRequest{PathBase64: exact(path), Mode: mode})
}

// exact returns a path as JSON can have it, whatever its bytes.
func exact(path string) string { return base64.StdEncoding.EncodeToString([]byte(path)) }

// PackFiles returns a file or directory as a tar archive. It must be closed. A
// directory that cannot be read to its end breaks the archive off, which is an error of Read.
func (c *Client) PackFiles(ctx context.Context, path string) (io.ReadCloser, error) {
	return c.download(ctx, "/v1/files/archive", url.Values{"path": {path}})
}

// ExtractFiles extracts a tar archive, which may be compressed, below a directory.
func (c *Client) ExtractFiles(ctx context.Context, path string, archive io.Reader) (files.Extracted, error) {
	return exchange[files.Extracted](ctx, c, request{method: "PUT", path: "/v1/files/archive", query: url.Values{"path": {path}}, body: archive})
}

// FileEvent is a change that a watch saw. The last is a journal.End, with a Reason.
type FileEvent struct {
	Seq  int64        `json:"seq"`
	Type journal.Type `json:"type"`
	Time time.Time    `json:"time"`
	files.Event
}

// WatchFiles yields what happens in a directory, and with recursive in all that are
// below it. The watch is in force once ready, if it is not nil, was called. A watch that is cut begins
// anew: what happened in between is told of by a files.Overflow.
func (c *Client) WatchFiles(ctx context.Context, path string, recursive bool, ready func()) iter.Seq2[FileEvent, error] {
	return func(yield func(FileEvent, error) bool) {
		connections := 0
		open := func(ctx context.Context) (*http.Response, error) {
			query := url.Values{"path": {path}, "recursive": {strconv.FormatBool(recursive)}}
			resp, err := c.send(ctx, request{method: "GET", path: "/v1/files/watch", query: query})
			if err == nil {
				connections++
			}
			if err == nil && connections == 1 && ready != nil {
				ready()
			}
			return resp, err
		}
		told := 1
		for l, err := range c.follow(ctx, nil, open) {
			var e FileEvent
			if err == nil {
				err = json.Unmarshal(l.raw, &e)
			}
			if err == nil && connections > told {
				told = connections
				if !yield(FileEvent{Type: files.Overflow, Time: e.Time}, nil) {
					return
				}
			}
			e.Event.Type = e.Type
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}
