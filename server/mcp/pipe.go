package mcp

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
)

// maxFrame is how many bytes a message from a pipe may have.
const maxFrame = 32 << 20

// pipe is what the SDK reads and writes in place of a client's pipes. A line that is no message is answered with an
// error, where the SDK would end. The end of what the client sends is read once all that came before is answered.
type pipe struct {
	in *bufio.Reader

	writing sync.Mutex
	out     io.Writer

	reader *io.PipeReader
	writer *io.PipeWriter

	mu       sync.Mutex
	open     map[any]bool  // ids of requests that are not answered
	ended    bool          // no more requests will come
	answered chan struct{} // closed when that is so, and none is open
}

func newPipe(in io.Reader, out io.Writer) *pipe {
	p := &pipe{in: bufio.NewReaderSize(in, 64<<10), out: out, open: map[any]bool{}, answered: make(chan struct{})}
	p.reader, p.writer = io.Pipe()
	go p.pump()
	return p
}

// Read is for io.Reader.
func (p *pipe) Read(b []byte) (int, error) { return p.reader.Read(b) }

// Write is for io.Writer. It gets whole lines.
func (p *pipe) Write(b []byte) (int, error) {
	n, err := p.write(b)
	_, _ = p.note(b, nil) // the SDK writes messages
	return n, err
}

func (p *pipe) write(b []byte) (int, error) {
	p.writing.Lock()
	defer p.writing.Unlock()
	return p.out.Write(b)
}

// Close has nothing more be read. It leaves the client's pipes open, and the goroutine that may just wait for one.
func (p *pipe) Close() error { return p.reader.Close() }

// pump passes on what is a message, until there is no more, or nobody reads.
func (p *pipe) pump() {
	for {
		line, err := p.line()
		if len(bytes.TrimSpace(line)) > 0 && !p.pass(line) {
			return
		}
		if err != nil {
			p.end()
			<-p.answered
			p.writer.CloseWithError(err)
			return
		}
	}
}

// line reads a line, of which it keeps not much more than there may be.
func (p *pipe) line() ([]byte, error) {
	var line []byte
	for {
		part, err := p.in.ReadSlice('\n')
		if len(line) <= maxFrame {
			line = append(line, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// pass reports whether there is still somebody to pass a line to.
func (p *pipe) pass(line []byte) bool {
	messages, why := p.check(line)
	if why != nil {
		_, err := p.write(refuse(why))
		return err == nil
	}
	for _, message := range messages { // to the SDK, a batch is an error in most versions, and a blank at the end of a line in all
		if _, err := p.writer.Write(append(bytes.TrimSpace(message), '\n')); err != nil {
			return false
		}
	}
	return true
}

// refuse returns the answer to what is no message (JSON-RPC 2.0 section 5.1).
func refuse(why error) []byte {
	raw, _ := json.Marshal(map[string]any{ // strings and numbers always can be
		"jsonrpc": "2.0", "id": nil, "error": map[string]any{"code": jsonrpc.CodeParseError, "message": "no message of JSON-RPC: " + why.Error()},
	})
	return append(raw, '\n')
}

func (p *pipe) check(line []byte) ([]json.RawMessage, error) {
	if len(line) > maxFrame {
		return nil, fmt.Errorf("it has more than %d bytes", maxFrame)
	}
	return p.note(line, func(r *jsonrpc.Request) {
		var cancelled struct {
			ID any `json:"requestId"`
		}
		switch {
		case r.IsCall():
			p.open[r.ID.Raw()] = true
		case r.Method == methodCancelled && json.Unmarshal(r.Params, &cancelled) == nil:
			if id, err := jsonrpc.MakeID(cancelled.ID); err == nil {
				delete(p.open, id.Raw())
			}
		}
	})
}

// note keeps track of what is open, by a line from the client or, without a function for requests, to it. It returns
// the messages in the line, or an error, and then it has noted nothing.
func (p *pipe) note(line []byte, requested func(*jsonrpc.Request)) (parts []json.RawMessage, err error) {
	if !bytes.HasPrefix(bytes.TrimSpace(line), []byte("[")) {
		parts = []json.RawMessage{line}
	} else if err := json.Unmarshal(line, &parts); err != nil {
		return nil, err
	} else if len(parts) == 0 {
		return nil, errors.New("a batch of none")
	}
	messages := make([]jsonrpc.Message, len(parts))
	for i, part := range parts {
		if messages[i], err = jsonrpc.DecodeMessage(part); err != nil {
			return nil, err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, message := range messages {
		switch m := message.(type) {
		case *jsonrpc.Request:
			if requested != nil {
				requested(m)
			}
		case *jsonrpc.Response:
			delete(p.open, m.ID.Raw())
		}
	}
	p.settle()
	return parts, nil
}

func (p *pipe) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.settle()
}

func (p *pipe) settle() {
	if !p.ended || len(p.open) > 0 {
		return
	}
	select {
	case <-p.answered:
	default:
		close(p.answered)
	}
}
