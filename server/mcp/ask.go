package mcp

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/sandboxes"
)

// maxLines bounds the lines of one answer: progress comes once a second.
const maxLines = 1000

// errNonsense is what an agent that is none of ours is told of.
var errNonsense = api.Errorf(api.SandboxUnreachable, "the sandbox does not answer as it should")

// ask has the agent of a sandbox answer a tool. What it says is hostile: it is bounded here, and is yet to be looked at.
func (a *API) ask(ctx context.Context, v *visit, at place, tool string, args json.RawMessage, progress func(api.MCPProgress)) (*api.MCPAnswer, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines := &lines{cut: cancel, progress: progress}
	err := a.forward(ctx, v, at, http.MethodPost, api.MCPPath+"/"+tool, "", args, lines)
	switch {
	case lines.failed != nil:
		return nil, lines.failed
	case err != nil:
		return nil, err
	case lines.status >= 400:
		return nil, refusal(lines.status, lines.rest.Bytes())
	case lines.last.Error != nil:
		return nil, plainError(lines.last.Error)
	case lines.last.Answer == nil || !tidy(reflect.ValueOf(lines.last.Answer), new(int)):
		return nil, errNonsense
	}
	return lines.last.Answer, nil
}

// forward sends a request to an agent as one that came for it, with all that guards those.
func (a *API) forward(ctx context.Context, v *visit, at place, method, path, query string, body []byte, w http.ResponseWriter) (err error) {
	defer func() {
		if p := recover(); p == http.ErrAbortHandler { // the answer was cut after it had begun
			err = whyCut(ctx, at.box)
		} else if p != nil {
			panic(p)
		}
	}()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+at.box.ID()+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("cannot ask sandbox: %w", err)
	}
	r.URL.RawQuery = query
	r.Host, r.RemoteAddr = v.r.Host, v.r.RemoteAddr
	r.Header.Set("Content-Type", "application/json")
	r = server.WithCaller(r, server.CallerOf(v.r))
	if err := a.o.Native.Forward(w, r, at.box, sandboxes.Target{Path: path}); err != nil {
		return err
	}
	return ctx.Err()
}

// tidy takes what terminals act on out of all texts of an answer, and reports whether these are short enough.
func tidy(v reflect.Value, bytes *int) bool {
	switch v.Kind() {
	case reflect.String:
		v.SetString(strings.Map(readable, v.String()))
		*bytes += v.Len()
	case reflect.Pointer:
		return v.IsNil() || tidy(v.Elem(), bytes)
	case reflect.Slice:
		for i := range v.Len() {
			if v.Index(i).Kind() == reflect.Uint8 {
				break // an image
			}
			if !tidy(v.Index(i), bytes) {
				return false
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if !tidy(v.Field(i), bytes) {
				return false
			}
		}
	}
	return *bytes <= 2*maxTexts // once for models, once for programs
}

// endTime is how long the end of a sandbox may take to be seen after its answer was cut.
const endTime = 500 * time.Millisecond

func whyCut(ctx context.Context, box *fleet.Sandbox) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if box.Info().State == fleet.Paused {
		return fleet.ErrPaused
	}
	brief, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	return cmp.Or(box.Gone(brief), error(errNonsense))
}

// refusal is what an agent answers in place of a first line.
func refusal(status int, body []byte) error {
	var told api.ErrorBody
	if json.Unmarshal(body, &told) != nil || server.Statuses[told.Error.Code] != status {
		return errNonsense
	}
	return plainError(&told.Error)
}

// plainError returns what an agent tells of an error as one that can be told.
func plainError(e *api.Error) error {
	if server.Statuses[e.Code] == 0 {
		return errNonsense
	}
	told := api.Errorf(e.Code, "%s", plain(e.Message, maxMessage))
	if field, ok := e.Details["field"].(string); ok {
		told.Details = map[string]any{"field": plain(field, maxName)}
	}
	return told
}

// lines is an answer of NDJSON, of which the last line counts. It is an http.ResponseWriter.
type lines struct {
	cut      func()
	progress func(api.MCPProgress)

	header http.Header
	status int
	rest   bytes.Buffer // of a line that has not ended, or of an answer that is an error
	n      int
	last   api.MCPLine
	failed error
}

func (l *lines) Header() http.Header {
	if l.header == nil {
		l.header = http.Header{}
	}
	return l.header
}

func (l *lines) WriteHeader(status int) {
	if l.status == 0 && status >= 200 {
		l.status = status
	}
}

func (l *lines) Write(p []byte) (int, error) {
	l.WriteHeader(http.StatusOK)
	if l.failed != nil {
		return 0, l.failed
	}
	for rest := p; len(rest) > 0; {
		line, after, ended := bytes.Cut(rest, []byte{'\n'})
		if l.rest.Len()+len(line) > api.MaxMCPLine {
			return 0, l.fail()
		}
		l.rest.Write(line)
		rest = after
		if ended && l.status < 400 && !l.line() {
			return 0, l.fail()
		}
	}
	return len(p), nil
}

// fail ends the answer of an agent that makes no sense.
func (l *lines) fail() error {
	l.failed = errNonsense
	l.cut()
	return l.failed
}

// line reads a whole line, and reports whether it makes sense.
func (l *lines) line() bool {
	ended := l.last.Answer != nil || l.last.Error != nil
	l.last = api.MCPLine{}
	l.n++
	d := json.NewDecoder(&l.rest)
	d.DisallowUnknownFields()
	err := d.Decode(&l.last)
	l.rest.Reset()
	if err != nil || ended || l.n > maxLines {
		return false
	}
	if p := l.last.Progress; p != nil && l.progress != nil {
		l.progress(*p)
	}
	return true
}
