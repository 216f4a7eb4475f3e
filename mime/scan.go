package mime

import (
	"bytes"
	"iter"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// members yields the keys (quoted, as they stand) and the values of the bundle's
// object. It looks no deeper than needed to find where a value ends, and stops
// where the bytes are no JSON.
func (b Bundle) members() iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		i := skipSpace(b.raw, 0)
		if i == len(b.raw) || b.raw[i] != '{' {
			return
		}
		for i++; i < len(b.raw); i++ { // past '{' or ','
			start := skipSpace(b.raw, i)
			end := skipValue(b.raw, start)
			if start == end || b.raw[start] != '"' {
				return
			}
			key := b.raw[start:end]
			if i = skipSpace(b.raw, end); i == len(b.raw) || b.raw[i] != ':' {
				return
			}
			start = skipSpace(b.raw, i+1)
			end = skipValue(b.raw, start)
			if start == end || !yield(key, b.raw[start:end:end]) {
				return
			}
			if i = skipSpace(b.raw, end); i == len(b.raw) || b.raw[i] != ',' {
				return
			}
		}
	}
}

func skipSpace(raw []byte, i int) int {
	for i < len(raw) && (raw[i] == ' ' || raw[i] == '\n' || raw[i] == '\t' || raw[i] == '\r') {
		i++
	}
	return i
}

// skipValue returns the end of the JSON value that starts at i: i itself where none
// does, the end of raw where the value does not close.
func skipValue(raw []byte, i int) int {
	for depth := 0; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			i = skipString(raw, i) - 1
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		default:
			if depth == 0 {
				return skipScalar(raw, i)
			}
			continue
		}
		if depth < 0 {
			return i
		}
		if depth == 0 {
			return i + 1
		}
	}
	return i
}

// skipScalar returns the end of a number, true, false or null.
func skipScalar(raw []byte, i int) int {
	if n := bytes.IndexAny(raw[i:], ",:{}[]\" \n\t\r"); n >= 0 {
		return i + n
	}
	return len(raw)
}

// skipString returns the end of the string that opens at i. It runs from quote to
// quote, which for base64 is one jump over all of it.
func skipString(raw []byte, i int) int {
	for j := i + 1; ; j++ {
		n := bytes.IndexByte(raw[j:], '"')
		if n < 0 {
			return len(raw)
		}
		j += n
		k := j
		for raw[k-1] == '\\' {
			k--
		}
		if (j-k)%2 == 0 {
			return j + 1
		}
	}
}

// unquote returns the text of a JSON string. Half a surrogate pair becomes U+FFFD,
// as in encoding/json; a wrong escape stays as it stands.
func unquote(quoted []byte) string {
	s := bytes.TrimSuffix(quoted[1:], []byte{'"'})
	i := bytes.IndexByte(s, '\\')
	if i < 0 {
		return string(s)
	}
	var text strings.Builder
	text.Grow(len(s))
	for ; i >= 0; i = bytes.IndexByte(s, '\\') {
		text.Write(s[:i])
		r, n := unescape(s[i:])
		text.WriteRune(r)
		s = s[i+n:]
	}
	text.Write(s)
	return text.String()
}

// escapes are the characters that a JSON escape names by one letter.
var escapes = [256]rune{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// unescape reads the escape that s starts with and returns its rune and length.
func unescape(s []byte) (rune, int) {
	if len(s) < 2 {
		return '\\', 1
	}
	if r := escapes[s[1]]; r != 0 {
		return r, 2
	}
	r, ok := unit(s)
	if !ok {
		return '\\', 1
	}
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if low, ok := unit(s[6:]); ok {
		if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
			return pair, 12
		}
	}
	return utf8.RuneError, 6
}

// unit reads a \uXXXX at the start of s: one unit of UTF-16 (RFC 8259 §7).
func unit(s []byte) (rune, bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(s[2:6]), 16, 16)
	return rune(n), err == nil
}
