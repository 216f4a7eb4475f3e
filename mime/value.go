package mime

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
)

// Encoding says how a Value stands for its content.
type Encoding string

// The encodings of values. Nothing on the wire tells text from bytes: the kernel
// sends both as strings, bytes as base64. Only the type says which.
const (
	Text    Encoding = "text"    // a string that is the content
	Base64  Encoding = "base64"  // a string that is the content's base64 (RFC 4648 §4)
	JSON    Encoding = "json"    // any JSON value that is the content
	Unknown Encoding = "unknown" // a string, text or base64, of a type that does not tell
)

// Value is one value of a Bundle. It decodes when asked, each time that it is
// asked, and keeps nothing: who needs a result twice keeps it.
type Value struct {
	Type string // MIME type as the kernel spells it
	raw  []byte // the JSON value, never empty
}

// Encoding tells how to read the value, by its type: JSON for application/json and
// +json; Text for text/*, application/javascript, application/xml and +xml (so for
// image/svg+xml); Base64 for the rest of image/*, for audio/*, video/*, font/*,
// application/pdf and application/octet-stream. A value of these types that is no
// string, against the protocol, is JSON. Of all other types a string is Unknown.
func (v Value) Encoding() Encoding {
	if !v.isString() {
		return JSON
	}
	typ := strings.ToLower(essence(v.Type))
	family, _, _ := strings.Cut(typ, "/")
	switch {
	case typ == "application/json", family != "text" && strings.HasSuffix(typ, "+json"):
		return JSON
	case family == "text", strings.HasSuffix(typ, "+xml"),
		typ == "application/javascript", typ == "application/xml":
		return Text
	case family == "image", family == "audio", family == "video", family == "font",
		typ == "application/pdf", typ == "application/octet-stream":
		return Base64
	}
	return Unknown
}

// JSON returns the value as the kernel sent it: a quoted string for text and
// base64. It is not to be changed.
func (v Value) JSON() []byte { return v.raw }

// Text returns the string that the value is, base64 still encoded; of a value that
// is no string, its JSON.
func (v Value) Text() string {
	if !v.isString() {
		return string(v.raw)
	}
	return unquote(v.raw)
}

// Bytes returns the content: base64 decoded, white space in it ignored; text and
// strings of Unknown encoding in UTF-8 as they stand; JSON as JSON, which is not to
// be changed. It returns an error where base64 does not decode.
func (v Value) Bytes() ([]byte, error) {
	switch v.Encoding() {
	case JSON:
		return v.raw, nil
	case Base64:
		return v.decode()
	}
	return []byte(v.Text()), nil
}

func (v Value) decode() ([]byte, error) {
	src := v.raw[1 : len(v.raw)-1]
	if bytes.IndexByte(src, '\\') >= 0 {
		src = []byte(unquote(v.raw))
	}
	// The decoder skips line ends by itself.
	if bytes.ContainsAny(src, " \t\f\v") {
		src = bytes.Join(bytes.Fields(src), nil)
	}
	content := make([]byte, base64.StdEncoding.DecodedLen(len(src)))
	n, err := base64.StdEncoding.Decode(content, src)
	if err != nil {
		return nil, fmt.Errorf("cannot decode %s: %w", v.Type, err)
	}
	return content[:n], nil
}

// isString reports whether the value is a JSON string, closed by its quote.
func (v Value) isString() bool {
	return len(v.raw) >= 2 && v.raw[0] == '"' && v.raw[len(v.raw)-1] == '"'
}
