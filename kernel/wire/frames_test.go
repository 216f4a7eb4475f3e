package wire_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

func signer(t testing.TB, scheme, key string) wire.Signer {
	t.Helper()
	s, err := wire.NewSigner(scheme, key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// frames are a message whose signature is right for the key "key".
func frames(header, parent, metadata, content string, buffers ...string) [][]byte {
	mac := hmac.New(sha256.New, []byte("key"))
	mac.Write([]byte(header + parent + metadata + content))
	fs := [][]byte{[]byte("topic"), []byte("<IDS|MSG>"), []byte(hex.EncodeToString(mac.Sum(nil)))}
	for _, f := range append([]string{header, parent, metadata, content}, buffers...) {
		fs = append(fs, []byte(f))
	}
	return fs
}

func TestDecode(t *testing.T) {
	fs := frames(`{"msg_id":"1_2","msg_type":"comm_msg","session":"s","date":1764099999.25}`,
		`{"msg_id":"p","date":"2026-01-01T00:00:00Z"}`, `{}`, `{"n":1}`, "b\x00\xff", "")
	for _, identities := range []int{0, 1, 3} {
		in := append(slices.Repeat(fs[:1], identities), fs[1:]...)
		m, err := wire.Decode(wire.IOPub, in, signer(t, "", "key"))
		if err != nil {
			t.Fatal(err)
		}
		if m.Channel != wire.IOPub || m.ID() != "1_2" || m.Type() != "comm_msg" || m.Session() != "s" || m.ParentID() != "p" || m.Get("n").Int() != 1 {
			t.Errorf("got %+v", m)
		}
		if len(m.Buffers) != 2 || string(m.Buffers[0]) != "b\x00\xff" || len(m.Buffers[1]) != 0 {
			t.Errorf("buffers: %q", m.Buffers)
		}
	}
}

func TestDecodeSplitsAtTheFirstDelimiter(t *testing.T) {
	fs := frames(`{"msg_type":"x"}`, `{}`, `{}`, `{}`, "<IDS|MSG>", "b")
	m, err := wire.Decode(wire.Shell, fs, signer(t, "", "key"))
	if err != nil || len(m.Buffers) != 2 {
		t.Errorf("%q, %v", m.Buffers, err)
	}
}

func TestEncodeIsWhatDecodeReads(t *testing.T) {
	for _, scheme := range []string{"", "hmac-md5", "hmac-sha1", "hmac-sha256", "HMAC-SHA512"} {
		for _, key := range []string{"", "a key"} {
			s := signer(t, scheme, key)
			req := wire.Request{Channel: wire.Shell, ID: "a\"\n", Type: "execute_request", Content: []byte(`{"code":"é"}`)}
			fs := s.Encode("session", req, []byte("identity"))
			m, err := wire.Decode(wire.Shell, fs, s)
			if err != nil {
				t.Fatal(scheme, key, err)
			}
			if m.ID() != req.ID || m.Type() != req.Type || m.Session() != "session" || string(m.Content) != string(req.Content) ||
				string(m.Metadata) != "{}" || string(m.Parent) != "{}" || string(fs[0]) != "identity" {
				t.Errorf("%s: got %+v", scheme, m)
			}
			if (len(fs[2]) == 0) != (key == "") {
				t.Errorf("signature %q with key %q", fs[2], key)
			}
		}
	}
	if _, err := wire.NewSigner("hmac-crc32", "k"); err == nil || !strings.Contains(err.Error(), "signature_scheme") {
		t.Errorf("unknown scheme: %v", err)
	}
}

func TestDecodeMakesUTF8(t *testing.T) {
	m, err := wire.Decode(wire.IOPub, frames(`{"msg_type":"stream"}`, `{}`, `{}`, "{\"text\": \"a\x80b\\n\"}"), signer(t, "", "key"))
	if err != nil || m.Get("text").String() != "a\uFFFDb\n" {
		t.Errorf("%q, %v", m.Content, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	h := `{"msg_type":"stream"}`
	good := frames(h, `{}`, `{}`, `{}`)
	forged := frames(h, `{}`, `{}`, `{}`)
	forged[6] = []byte(`{"x":1}`)
	short := frames(h, `{}`, `{}`, `{}`)
	short[2] = short[2][:32]
	for _, c := range []struct {
		name   string
		frames [][]byte
		want   string
	}{
		{"nothing", nil, "no delimiter"},
		{"no delimiter", good[2:], "no delimiter"},
		{"too few frames", good[:6], "4 frames"},
		{"forged content", forged, "bad signature"},
		{"short signature", short, "bad signature"},
		{"header no JSON", frames(`{`, `{}`, `{}`, `{}`), "header"},
		{"header no type", frames(`{}`, `{}`, `{}`, `{}`), "msg_type"},
		{"parent an array", frames(h, `[]`, `{}`, `{}`), "parent_header"},
		{"metadata null", frames(h, `{}`, `null`, `{}`), "metadata"},
		{"content empty", frames(h, `{}`, `{}`, ``), "content"},
		{"content cut", frames(h, `{}`, `{}`, `{"a":"b`), "content"},
		{"content twice", frames(h, `{}`, `{}`, `{}{}`), "content"},
		{"content deep", frames(h, `{}`, `{}`, `{"a":`+strings.Repeat("[", 1e6)), "deeper"},
		{"content deep and whole", frames(h, `{}`, `{}`, strings.Repeat(`{"a":`, 1e6)+"1"+strings.Repeat("}", 1e6)), "deeper"},
	} {
		if _, err := wire.Decode(wire.Shell, c.frames, signer(t, "", "key")); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestHistory(t *testing.T) {
	s := signer(t, "", "key")
	message := func(n string) wire.Message {
		m, err := wire.Decode(wire.Shell, frames(`{"msg_type":"x"}`, `{}`, `{}`, `{"n":`+n+`}`), s)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	var h wire.History
	one, two := message("1"), message("2")
	if h.Repeats(&one) || h.Repeats(&two) {
		t.Error("new messages are said to repeat")
	}
	if !h.Repeats(&one) || !h.Repeats(&two) {
		t.Error("old messages are said to be new")
	}
	for range 2 {
		if h.Repeats(&wire.Message{}) {
			t.Error("unsigned messages are said to repeat")
		}
	}
}

// FuzzDecode holds Decode to encoding/json's opinion of what JSON is.
func FuzzDecode(f *testing.F) {
	f.Add(bytes.Join(frames(`{"msg_type":"x","msg_id":"1"}`, `{"msg_id":"2"}`, `{}`, `{"a":[1,-2.5e+3,"\u00ef\\",true,false,null,{},[ ]]}`, "b"), []byte("\n")))
	f.Add(bytes.Join(frames(`{"msg_type":"x"}`, ` {} `, `{"a":{"b":0}}`, "{\"a\":\"0123456789\x80\\\"0\"}"), []byte("\n")))
	f.Add([]byte("<IDS|MSG>\n\n{\"msg_type\":\"\"}\n{}\n{,}\n{\"a\":01}"))
	f.Add([]byte("<IDS|MSG>\n\n{\"msg_type\":1}\n{\"a\":[1,]}\n{\"\\u12\":1}\n{\"a\" 1}"))
	key := signer(f, "", "another")
	f.Fuzz(func(t *testing.T, data []byte) {
		fs := bytes.Split(data, []byte("\n"))
		if _, err := wire.Decode(wire.IOPub, fs, key); err == nil {
			t.Fatal("forged a signature")
		}
		m, err := wire.Decode(wire.IOPub, fs, wire.Signer{})
		i := slices.IndexFunc(fs, func(b []byte) bool { return string(b) == "<IDS|MSG>" })
		valid := i >= 0 && len(fs)-i > 5
		for n := i + 2; valid && n < i+6; n++ {
			b := bytes.ToValidUTF8(fs[n], []byte("\uFFFD"))
			valid = json.Valid(b) && bytes.TrimLeft(b, " \t\r\n")[0] == '{'
		}
		if err != nil {
			if valid && !strings.Contains(err.Error(), "msg_type") || errors.Is(err, wire.ErrSignature) {
				t.Fatalf("refused: %v", err)
			}
			return
		}
		if !valid {
			t.Fatalf("accepted %q", fs)
		}
		for _, b := range [][]byte{m.Header, m.Parent, m.Metadata, m.Content} {
			if !utf8.Valid(b) || !json.Valid(b) {
				t.Fatalf("not clean: %q", b)
			}
		}
		m.Session()
		m.Size()
	})
}

func BenchmarkDecode(b *testing.B) {
	text := strings.Repeat(`a line of text that a loop prints, number 1234567\n`, 1<<20)
	for name, content := range map[string]string{
		"small": `{"execution_state":"busy"}`, "text": `{"name":"stdout","text":"` + text + `"}`,
	} {
		fs, s := frames(`{"msg_type":"stream"}`, `{"msg_id":"1"}`, `{}`, content), signer(b, "", "key")
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			for b.Loop() {
				if _, err := wire.Decode(wire.IOPub, fs, s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
