package envd

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/k2sandbox/k2sandbox/server"
)

// The Connect protocol (https://connectrpc.com/docs/protocol) with JSON alone, which is all that
// E2B's clients speak. Messages are structs of what we read and write of them: unknown fields are
// left alone, as proto3's JSON mapping says.
const (
	unaryType  = "application/json"
	streamType = "application/connect+json"
)

// method is one of a service's.
type method struct {
	media  string // of requests, and of answers
	answer func(h *handler, w http.ResponseWriter, r *http.Request) error
}

// serve checks what all methods have in common. A stream that fails before it begins has no
// status for that, but its end.
func (m method) serve(h *handler, w http.ResponseWriter, r *http.Request) {
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		refuse(w, r, &rpcError{unimplemented, r.Method + " is not allowed: only POST", http.StatusMethodNotAllowed})
		return
	case media != m.media:
		w.Header().Set("Accept-Post", m.media)
		refuse(w, r, &rpcError{invalidArgument, "Content-Type " + strconv.Quote(media) + " is not supported: only " + m.media, http.StatusUnsupportedMediaType})
		return
	}
	err := checkHeaders(r)
	if err == nil {
		err = caller(r)
	}
	if err == nil {
		err = m.answer(h, w, r)
	}
	if err != nil {
		h.log(r, explain(err))
		refuse(w, r, err)
	}
}

// refuse answers a call with an error.
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	told := explain(err)
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if media == streamType && told.status == 0 {
		s := &stream{w: w, rc: http.NewResponseController(w)}
		s.end(told)
		return
	}
	status := told.status
	if status == 0 {
		status = statuses[told.Code]
	}
	server.WriteJSON(w, status, told)
}

// checkHeaders refuses what a client asks of the protocol that we do not do.
func checkHeaders(r *http.Request) error {
	if version := r.Header.Get("Connect-Protocol-Version"); version != "" && version != "1" {
		return errorf(invalidArgument, "Connect-Protocol-Version: expected \"1\", got %q", version)
	}
	for _, name := range []string{"Content-Encoding", "Connect-Content-Encoding"} {
		if encoding := r.Header.Get(name); encoding != "" && !strings.EqualFold(encoding, "identity") {
			return errorf(unimplemented, "%s: %q is not supported, only identity", name, encoding)
		}
	}
	_, err := timeout(r)
	return err
}

// timeout returns how long a call may take; 0 is for ever.
func timeout(r *http.Request) (time.Duration, error) {
	given := r.Header.Get("Connect-Timeout-Ms")
	if given == "" {
		return 0, nil
	}
	ms, err := strconv.ParseUint(given, 10, 64)
	if err != nil || len(given) > 10 {
		return 0, errorf(invalidArgument, "Connect-Timeout-Ms: expected at most 10 digits, got %q", given)
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// bounded returns the call's context, which ends with its time, too.
func bounded(r *http.Request) (context.Context, context.CancelFunc) {
	if limit, _ := timeout(r); limit > 0 {
		return context.WithTimeout(r.Context(), limit)
	}
	return context.WithCancel(r.Context())
}

// empty is an answer that says nothing.
type empty struct{}

// unary is a method with one message each way.
func unary[Q, A any](do func(ctx context.Context, r *http.Request, q *Q) (A, error)) method {
	return method{unaryType, func(h *handler, w http.ResponseWriter, r *http.Request) error {
		ctx, cancel := bounded(r)
		defer cancel()
		body := server.Body(w, r, h.o)
		defer body.Close()
		raw, err := io.ReadAll(io.LimitReader(body, h.o.MaxBody+1))
		if err != nil {
			return err
		}
		if int64(len(raw)) > h.o.MaxBody {
			return errorf(resourceExhausted, "the message is longer than %d bytes", h.o.MaxBody)
		}
		var q Q
		if err := decode(raw, &q); err != nil {
			return err
		}
		a, err := do(ctx, r, &q)
		if err != nil {
			return err
		}
		server.WriteJSON(w, http.StatusOK, a)
		return nil
	}}
}

// serverStream is a method that answers one message with many. What do returns ends the stream.
func serverStream[Q any](do func(r *http.Request, q *Q, s *stream) error) method {
	return method{streamType, func(h *handler, w http.ResponseWriter, r *http.Request) error {
		body := server.Body(w, r, h.o)
		defer body.Close()
		raw, err := readFrame(body, h.o.MaxBody)
		if err == io.EOF {
			return errorf(invalidArgument, "the request has no message")
		}
		if err != nil {
			return err
		}
		if _, err := readFrame(body, 0); err != io.EOF { // the end is waited for: only then is it seen that the client leaves
			return errorf(invalidArgument, "the request has more than one message")
		}
		var q Q
		if err := decode(raw, &q); err != nil {
			return err
		}
		s := newStream(w, r)
		defer s.stop()
		err = do(r, &q, s)
		if err != nil {
			h.log(r, explain(err))
		}
		s.end(err)
		return nil
	}}
}

// clientStream is a method that answers many messages, each taken as it comes, with one that
// says nothing.
func clientStream[Q any](do func(ctx context.Context, w http.ResponseWriter, r *http.Request, next func(*Q) error) error) method {
	return method{streamType, func(h *handler, w http.ResponseWriter, r *http.Request) error {
		ctx, cancel := bounded(r)
		defer cancel()
		_ = http.NewResponseController(w).EnableFullDuplex() // an error does not wait for the client's end
		err := do(ctx, w, r, func(q *Q) error {
			raw, err := readFrame(r.Body, h.o.MaxBody)
			if err != nil {
				return err
			}
			*q = *new(Q)
			return decode(raw, q)
		})
		s := &stream{w: w, rc: http.NewResponseController(w)}
		if err == nil {
			_ = s.send([]byte("{}"), false)
		} else {
			w.Header().Set("Connection", "close") // what the client still sends is nobody's
			h.log(r, explain(err))
		}
		s.end(err)
		return nil
	}}
}

// decode reads a message.
func decode(raw []byte, into any) error {
	if !utf8.Valid(raw) {
		return errorf(invalidArgument, "the message is not UTF-8")
	}
	if at := server.LoneSurrogate(raw); at >= 0 {
		return errorf(invalidArgument, "the message has half of a surrogate pair (%s), which is no character, at byte %d", raw[at:at+6], at)
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return errorf(invalidArgument, "the message is empty: expected a JSON object")
	}
	err := json.Unmarshal(raw, into)
	var told *rpcError
	if err == nil || errors.As(err, &told) {
		return err
	}
	return errorf(invalidArgument, "cannot read the message: %v", err)
}

// Flags of an envelope.
const (
	compressed  = 1
	endOfStream = 2
)

// readFrame reads a message of a stream in its envelope: a byte of flags and four of length. It
// returns io.EOF at the end of the stream.
func readFrame(body io.Reader, most int64) ([]byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(body, head[:]); err != nil {
		return nil, incomplete(err, "the envelope of a message is not whole")
	}
	size := int64(binary.BigEndian.Uint32(head[1:]))
	switch {
	case head[0]&compressed != 0:
		return nil, errorf(unimplemented, "a message is compressed, which is not supported")
	case head[0]&endOfStream != 0:
		return nil, errorf(invalidArgument, "a request has no end-of-stream message")
	case head[0] != 0:
		return nil, errorf(invalidArgument, "the envelope of a message has unknown flags %#02x", head[0])
	case size > most:
		return nil, errorf(resourceExhausted, "a message has %d bytes, more than %d", size, most)
	}
	raw, err := io.ReadAll(io.LimitReader(body, size)) // what is not there takes no memory
	if err == nil && int64(len(raw)) < size {
		err = io.ErrUnexpectedEOF
	}
	return raw, incomplete(err, "a message is not whole")
}

func incomplete(err error, what string) error {
	if err == io.ErrUnexpectedEOF {
		return errorf(invalidArgument, "%s", what)
	}
	return err
}
