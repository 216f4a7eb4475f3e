package channels

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

func sample(buffers ...[]byte) wire.Message {
	return wire.Message{
		Channel: wire.Shell, Header: []byte(`{"msg_id":"a","msg_type":"comm_msg","version":"5.3"}`),
		Parent: []byte(`{"msg_id":"p"}`), Metadata: []byte(`{"m":1}`), Content: []byte(`{"big":1e400,"text":"\u0000ü"}`), Buffers: buffers,
	}
}

// same compares what messages say.
func same(t *testing.T, got, want wire.Message) {
	t.Helper()
	for _, part := range [][2][]byte{{[]byte(got.Channel), []byte(want.Channel)}, {got.Header, want.Header}, {got.Parent, want.Parent}, {got.Metadata, want.Metadata}, {got.Content, want.Content}} {
		if !bytes.Equal(part[0], part[1]) {
			t.Errorf("got %s, expected %s", part[0], part[1])
		}
	}
	if len(got.Buffers) != len(want.Buffers) {
		t.Fatalf("got %d buffers, expected %d", len(got.Buffers), len(want.Buffers))
	}
	for i := range got.Buffers {
		if !bytes.Equal(got.Buffers[i], want.Buffers[i]) {
			t.Errorf("buffer %d is %q, expected %q", i, got.Buffers[i], want.Buffers[i])
		}
	}
}

func TestFramesRoundTrip(t *testing.T) {
	for _, m := range []wire.Message{sample(), sample([]byte("\x00\xff"), nil, []byte("z"))} {
		got, err := decodeV1(encodeV1(&m))
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, m)
		frame, err := encodeBinary(&m)
		if err != nil {
			t.Fatal(err)
		}
		if got, err = decodeBinary(frame); err != nil {
			t.Fatal(err)
		}
		same(t, got, m)
		if got, err = decodeText(append([]byte(" \n"), encodeText(&m)...)); err != nil {
			t.Fatal(err)
		}
		m.Buffers = nil
		same(t, got, m)
	}
}

// What the reference writes, byte by byte.
func TestFramesAreTheReferences(t *testing.T) {
	m := wire.Message{Channel: "iopub", Header: []byte(`{"msg_type":"h"}`), Parent: []byte(`{}`), Metadata: []byte(`{}`), Content: []byte(`{}`), Buffers: [][]byte{[]byte("b")}}
	var v1 []byte
	for _, n := range []uint64{7, 64, 69, 85, 87, 89, 91, 92} {
		v1 = binary.LittleEndian.AppendUint64(v1, n)
	}
	if got, want := string(encodeV1(&m)), string(v1)+`iopub{"msg_type":"h"}{}{}{}b`; got != want {
		t.Errorf("v1 is %q, expected %q", got, want)
	}
	const text = `{"header":{"msg_type":"h"},"msg_id":"","msg_type":"h","parent_header":{},"metadata":{},"content":{},"buffers":[],"channel":"iopub"}`
	if got := string(encodeText(&m)); got != text {
		t.Errorf("text is %s, expected %s", got, text)
	}
	var legacy []byte
	for _, n := range []uint32{2, 12, 12 + uint32(len(text))} {
		legacy = binary.BigEndian.AppendUint32(legacy, n)
	}
	if got, err := encodeBinary(&m); err != nil || string(got) != string(legacy)+text+"b" {
		t.Errorf("binary is %q: %v", got, err)
	}
}

// What clients leave out, or say otherwise, is understood.
func TestTextOfClients(t *testing.T) {
	const header = `{"msg_id":"a","msg_type":"b","version":"5.0","date":1764144000.5}`
	for text, channel := range map[string]string{
		`{"header":` + header + `}`: "shell",
		`{"header":` + header + `,"parent_header":null,"metadata":null,"content":null,"buffers":{},"channel":null}`:  "shell",
		`{"channel":"stdin","buffers":[],"msg_id":"other","msg_type":"other","future":[1],"header":` + header + ` }`: "stdin",
	} {
		m, err := decodeText([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		same(t, m, wire.Message{Channel: wire.Channel(channel), Header: []byte(header), Parent: []byte("{}"), Metadata: []byte("{}"), Content: []byte("{}")})
	}
}

func TestReasonsFit(t *testing.T) {
	m := sample()
	m.Channel = wire.Channel(strings.Repeat("\xff€", 100))
	err := check(&m)
	if err == nil || !strings.HasPrefix(reason(err), "channel: ") || len(reason(err)) > 123 {
		t.Errorf("the reason is %q", reason(err))
	}
}

func FuzzFrames(f *testing.F) {
	m := sample([]byte("buffer"))
	legacy, _ := encodeBinary(&m)
	f.Add(encodeV1(&m))
	f.Add(legacy)
	f.Add(encodeText(&m))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, decode := range []func([]byte) (wire.Message, error){decodeV1, decodeBinary, decodeText} {
			m, err := decode(bytes.Clone(data))
			if err != nil {
				if reason(err) == "" {
					t.Error("an error without words")
				}
				continue
			}
			again, err := decodeV1(encodeV1(&m))
			if err != nil {
				t.Fatalf("what was read cannot be read again: %v", err)
			}
			same(t, again, m)
			var text struct{ Content json.RawMessage }
			if err := json.Unmarshal(encodeText(&m), &text); err != nil {
				t.Fatalf("the text is no JSON: %v", err)
			}
			var a, b any
			if json.Unmarshal(text.Content, &a) == nil && json.Unmarshal(m.Content, &b) == nil && !reflect.DeepEqual(a, b) {
				t.Error("the text says something else")
			}
		}
	})
}
