package chaos

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"strconv"
)

// call sends a request and reads the answer into result, unless that is nil.
func (b *box) call(ctx context.Context, method, path string, body, result any) error {
	resp, err := b.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if result != nil {
		return json.NewDecoder(resp.Body).Decode(result)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func (b *box) post(ctx context.Context, path string, body, result any) error {
	return b.call(ctx, "POST", path, body, result)
}

// send sends a request. Another answer than a success is an error.
func (b *box) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var payload io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		payload = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, b.url+path, payload)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := b.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	return resp, nil
}

// event is what matters here of a line of a stream.
type event struct {
	Type, Text, Status string
	StateLost          bool `json:"state_lost"`
	Exit               struct{ Signal string }
}

// stream is a run that is followed.
type stream struct {
	body  io.ReadCloser
	lines *bufio.Scanner
	pid   int    // of the kernel
	text  string // the beginning of stdout, but for what readPid took
	end   event

	read chan error // gives the error of reading, once
}

// start runs code in the victim's context. The first thing it prints is the kernel's pid.
func (v *victim) start(ctx context.Context, code string, options map[string]any) (*stream, error) {
	payload := map[string]any{"context": v.context, "allow_stdin": true}
	payload["code"] = `import os, time; print(f'kernel {os.getpid()}\n', end='', flush=True)` + "\n" + code
	maps.Copy(payload, options)
	resp, err := v.send(ctx, "POST", "/v1/code", payload)
	if err != nil {
		return nil, err
	}
	s := &stream{body: resp.Body, lines: bufio.NewScanner(resp.Body), read: make(chan error, 1)}
	s.lines.Buffer(nil, 16<<20)
	return s, nil
}

// next returns the next event that is of one of the types.
func (s *stream) next(types ...string) (event, error) {
	for s.lines.Scan() {
		head := s.lines.Bytes()[:min(len(s.lines.Bytes()), 60)]
		for _, t := range types {
			if bytes.Contains(head, []byte(`"type":"`+t+`"`)) {
				var e event
				return e, json.Unmarshal(s.lines.Bytes(), &e)
			}
		}
	}
	return event{}, errors.Join(errors.New("the stream was cut"), s.lines.Err())
}

var pidLine = regexp.MustCompile(`kernel ([0-9]+)\n`)

// readPid reads the line that the code prints first, at once, for it comes among what
// threads of earlier runs say.
func (s *stream) readPid() error {
	for text := ""; ; {
		e, err := s.next("stdout", "end")
		if err != nil {
			return err
		}
		if e.Type == "end" {
			s.end = e
			return fmt.Errorf("no pid in %q before %+v", text, e)
		}
		text += e.Text
		if found := pidLine.FindStringSubmatch(text); found != nil {
			s.pid, err = strconv.Atoi(found[1])
			return err
		}
	}
}

// keepReading reads to the end while other things happen.
func (s *stream) keepReading() {
	go func() {
		var err error
		for err == nil && s.end.Type != "end" {
			if s.end, err = s.next("stdout", "end"); s.end.Type == "stdout" && len(s.text) < 1<<20 {
				s.text += s.end.Text
			}
		}
		s.read <- err
	}()
}

// expect waits for the end and sees that it has the status.
func (s *stream) expect(status string) error {
	err := <-s.read
	s.body.Close()
	if err != nil {
		return err
	}
	if s.end.Status != status {
		return fmt.Errorf("it ended as %+v, not %s", s.end, status)
	}
	return nil
}

func (s *stream) close() { s.body.Close() }
