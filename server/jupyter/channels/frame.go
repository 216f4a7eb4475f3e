package channels

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/tidwall/gjson"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// protocolV1 is the WebSocket subprotocol of frames that hold the kernel's own. Without it
// messages are JSON, or, with buffers, JSON and the buffers behind a table of offsets.
// https://jupyter-server.readthedocs.io/en/latest/developers/websocket-protocols.html
const protocolV1 = "v1.kernel.websocket.jupyter.org"

// maxParts is how many parts a frame may have: as many as a message to a kernel.
const maxParts = 1 << 16

// encodeV1 returns the frame of a message in the subprotocol v1: the number of offsets and the
// offsets, as 64-bit little-endian numbers; channel, header, parent header, metadata, content, buffers.
func encodeV1(m *wire.Message) []byte {
	parts := slices.Concat([][]byte{[]byte(m.Channel), m.Header, m.Parent, m.Metadata, m.Content}, m.Buffers)
	count := len(parts) + 1
	at := 8 * (count + 1)
	frame := make([]byte, 0, at+len(m.Channel)+m.Size())
	frame = binary.LittleEndian.AppendUint64(frame, uint64(count))
	for _, p := range parts {
		frame = binary.LittleEndian.AppendUint64(frame, uint64(at))
		at += len(p)
	}
	frame = binary.LittleEndian.AppendUint64(frame, uint64(at))
	for _, p := range parts {
		frame = append(frame, p...)
	}
	return frame
}

func splitV1(frame []byte) ([][]byte, error) {
	return split(frame, 8, binary.LittleEndian.Uint64, true)
}

// decodeV1 reads a frame of the subprotocol v1. The message shares its memory.
func decodeV1(frame []byte) (wire.Message, error) {
	parts, err := splitV1(frame)
	if err != nil {
		return wire.Message{}, err
	}
	if len(parts) < 5 {
		return wire.Message{}, fmt.Errorf("frame: %d parts, expected at least 5", len(parts))
	}
	m := wire.Message{Channel: wire.Channel(parts[0])}
	place(&m, parts)
	return m, check(&m)
}

// place gives a message the parts of a frame.
func place(m *wire.Message, parts [][]byte) {
	m.Header, m.Parent, m.Metadata, m.Content, m.Buffers = parts[1], parts[2], parts[3], parts[4], parts[5:]
}

// encodeText returns the message as JSON, without its buffers.
func encodeText(m *wire.Message) []byte {
	b := make([]byte, 0, m.Size()+256)
	b = append(append(b, `{"header":`...), m.Header...)
	b = gjson.AppendJSONString(append(b, `,"msg_id":`...), m.ID())
	b = gjson.AppendJSONString(append(b, `,"msg_type":`...), m.Type())
	b = append(append(b, `,"parent_header":`...), m.Parent...)
	b = append(append(b, `,"metadata":`...), m.Metadata...)
	b = append(append(b, `,"content":`...), m.Content...)
	b = append(b, `,"buffers":[],"channel":"`...)
	return append(append(b, m.Channel...), `"}`...)
}

// encodeBinary returns the message as JSON with its buffers: the number of parts and their offsets, as 32-bit
// big-endian numbers; the JSON; the buffers. An error says that it is too long for such offsets.
func encodeBinary(m *wire.Message) ([]byte, error) {
	parts := append([][]byte{encodeText(m)}, m.Buffers...)
	at := 4 * (len(parts) + 1)
	size := at
	for _, p := range parts {
		size += len(p)
	}
	if size > 1<<32-1 {
		return nil, errors.New("frame: too long for offsets of 32 bits")
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, size), uint32(len(parts)))
	for _, p := range parts {
		frame = binary.BigEndian.AppendUint32(frame, uint32(at))
		at += len(p)
	}
	for _, p := range parts {
		frame = append(frame, p...)
	}
	return frame, nil
}

// decodeBinary reads what encodeBinary writes. The message shares its memory.
func decodeBinary(frame []byte) (wire.Message, error) {
	number := func(b []byte) uint64 { return uint64(binary.BigEndian.Uint32(b)) }
	parts, err := split(frame, 4, number, false)
	if err != nil {
		return wire.Message{}, err
	}
	m, err := decodeText(parts[0])
	m.Buffers = parts[1:]
	return m, err
}

// split returns the parts of a frame that begins with their number and their offsets, each of width bytes. Where the
// end of the last part has an offset too, it is counted.
func split(frame []byte, width int, number func([]byte) uint64, end bool) ([][]byte, error) {
	if len(frame) < width {
		return nil, fmt.Errorf("frame: %d bytes, expected the number of offsets first", len(frame))
	}
	count := number(frame)
	if count < 1 || count > maxParts || count > uint64(len(frame)/width-1) {
		return nil, fmt.Errorf("frame: %d offsets in %d bytes", count, len(frame))
	}
	offsets := make([]uint64, count, count+1)
	for i := range offsets {
		offsets[i] = number(frame[width*(i+1):])
	}
	if !end {
		offsets = append(offsets, uint64(len(frame)))
	}
	parts := make([][]byte, len(offsets)-1)
	for i, at := range offsets {
		least := uint64(width * (int(count) + 1))
		if i > 0 {
			least = offsets[i-1]
		}
		last := i == len(offsets)-1
		if at < least || at > uint64(len(frame)) || i == 0 && at != least || last && at != uint64(len(frame)) {
			return nil, fmt.Errorf("frame: offset %d is %d of %d bytes, where %d was reached", i, at, len(frame), least)
		}
		if i > 0 {
			parts[i-1] = frame[offsets[i-1]:at:at]
		}
	}
	return parts, nil
}

// decodeText reads a message that is one JSON object. Buffers it has none; a message that names no channel is for shell.
func decodeText(text []byte) (wire.Message, error) {
	if err := wire.CheckObject(text); err != nil {
		return wire.Message{}, fmt.Errorf("message: %w", err)
	}
	m := wire.Message{Channel: wire.Shell}
	parts := map[string]*[]byte{"header": &m.Header, "parent_header": &m.Parent, "metadata": &m.Metadata, "content": &m.Content}
	gjson.ParseBytes(text).ForEach(func(key, value gjson.Result) bool {
		part := parts[key.Str]
		switch {
		case key.Str == "channel" && value.Type != gjson.Null:
			m.Channel = wire.Channel(value.String())
		case part != nil && value.Type != gjson.Null:
			*part = text[value.Index : value.Index+len(value.Raw)]
		}
		return true
	})
	for name, part := range parts {
		if *part == nil && name != "header" {
			*part = []byte("{}")
		}
	}
	return m, check(&m)
}

// check sees that a message of a client is one that a kernel can understand, where kernels would drop it without a word.
func check(m *wire.Message) error {
	if m.Channel != wire.Shell && m.Channel != wire.Control && m.Channel != wire.Stdin {
		return fmt.Errorf("channel: expected shell, control or stdin, got %.20q", m.Channel)
	}
	if err := m.Check(); err != nil {
		return err
	}
	head := gjson.GetManyBytes(m.Header, "msg_id", "msg_type", "version")
	if id := head[0]; id.Type != gjson.String || id.Str == "" || len(id.Str) > maxID {
		return fmt.Errorf("header.msg_id: expected a string of 1 to %d bytes", maxID)
	}
	if head[1].Type != gjson.String || len(head[1].Str) > maxID {
		return fmt.Errorf("header.msg_type: expected a string of at most %d bytes", maxID)
	}
	if v := head[2]; v.Type != gjson.String || len(v.Str) < 2 || v.Str[:2] != "5." {
		return fmt.Errorf("header.version: expected a version 5 of the protocol, such as \"5.3\", got %.20s", v.Raw)
	}
	return nil
}

// maxID bounds the ids and types of messages, in bytes.
const maxID = 512
