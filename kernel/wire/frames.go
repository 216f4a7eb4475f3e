package wire

import (
	"bytes"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

// ErrSignature is the error of a message whose signature is not that of the key.
var ErrSignature = errors.New("bad signature")

// protocol is the version in our headers: kernels refuse or drop other majors.
const protocol = "5.4"

var delimiter = []byte("<IDS|MSG>")

// Encode returns the frames of the request, signed, behind the identities.
func (s Signer) Encode(session string, req Request, identities ...[]byte) [][]byte {
	h := make([]byte, 0, 256)
	h = append(h, `{"msg_id":`...)
	h = gjson.AppendJSONString(h, req.ID)
	h = append(h, `,"msg_type":`...)
	h = gjson.AppendJSONString(h, req.Type)
	h = append(h, `,"session":`...)
	h = gjson.AppendJSONString(h, session)
	h = append(h, `,"username":"k2sandbox","date":"`...)
	h = time.Now().UTC().AppendFormat(h, "2006-01-02T15:04:05.000000Z")
	h = append(h, `","version":"`+protocol+`"}`...)
	parent, metadata, content := []byte("{}"), object(req.Metadata), object(req.Content)
	return append(identities[:len(identities):len(identities)], delimiter,
		s.sign(h, parent, metadata, content), h, parent, metadata, content)
}

// Seal returns the frames of a message that somebody else made, as it is, signed. Check has passed it.
func (s Signer) Seal(m *Message) [][]byte {
	return append([][]byte{delimiter, s.sign(m.Header, m.Parent, m.Metadata, m.Content),
		m.Header, m.Parent, m.Metadata, m.Content}, m.Buffers...)
}

func object(b []byte) []byte {
	if len(b) == 0 {
		return []byte("{}")
	}
	return b
}

// Decode turns the frames of a channel into a message: identities or a topic,
// the delimiter, the signature, four JSON parts and any number of buffers. It
// checks the signature over the bytes as they came, then makes the JSON parts
// valid UTF-8 (kernels send lone surrogates of strings as single bytes) and sees
// that each is an object. Its error is ErrSignature or names the part at fault.
// The message shares the frames' memory.
func Decode(ch Channel, frames [][]byte, s Signer) (Message, error) {
	i := 0
	for i < len(frames) && !bytes.Equal(frames[i], delimiter) {
		i++
	}
	if i == len(frames) {
		return Message{}, errors.New("no delimiter " + string(delimiter))
	}
	frames = frames[i+1:]
	if len(frames) < 5 {
		return Message{}, fmt.Errorf("%d frames after the delimiter, at least 5 are needed", len(frames))
	}
	signature, ok := s.verify(frames[0], frames[1:5]...)
	if !ok {
		return Message{}, ErrSignature
	}
	m := Message{
		Channel: ch, Header: frames[1], Parent: frames[2], Metadata: frames[3], Content: frames[4],
		Buffers: frames[5:], signature: signature,
	}
	if len(m.Buffers) == 0 {
		m.Buffers = nil
	}
	if err := m.Check(); err != nil {
		return Message{}, err
	}
	return m, nil
}

// Check makes the JSON parts valid UTF-8 and sees that each is an object, and that
// the header has a msg_type. Its error names the part at fault.
func (m *Message) Check() error {
	parts := [4]*[]byte{&m.Header, &m.Parent, &m.Metadata, &m.Content}
	for i, name := range [4]string{"header", "parent_header", "metadata", "content"} {
		b, err := clean(*parts[i])
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		*parts[i] = b
	}
	m.kind = gjson.GetBytes(m.Header, "msg_type").String()
	m.parent = gjson.GetBytes(m.Parent, "msg_id").String()
	if m.kind == "" {
		return errors.New("header: no msg_type")
	}
	return nil
}

// clean returns the JSON object as valid UTF-8.
func clean(b []byte) ([]byte, error) {
	if !utf8.Valid(b) {
		b = bytes.ToValidUTF8(b, []byte("\uFFFD"))
	}
	return b, CheckObject(b)
}
