package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// maxDepth is how deep JSON may nest: as deep as encoding/json reads.
const maxDepth = 10000

var (
	errNotObject = errors.New("not a JSON object")
	errNotValid  = errors.New("not valid JSON")
	errTooDeep   = fmt.Errorf("JSON nested deeper than %d", maxDepth)
)

// What may come next in JSON, white space apart.
const (
	wantValue    = iota
	wantFirst    // a value or the end of the array
	wantKey      // a key
	wantFirstKey // a key or the end of the object
	wantColon
	wantNext // a comma or the end of the array or object
	wantEnd
)

// CheckObject sees that b is one JSON object (RFC 8259), whose UTF-8 it takes as
// given. It needs no recursion, unlike gjson.Valid, and looks at strings eight
// bytes at a time, unlike encoding/json: kernels say hundreds of megabytes in one.
func CheckObject(b []byte) error {
	var ends []byte // that close the arrays and objects under way
	want := wantValue
	for i := 0; i < len(b); {
		c := b[i]
		if c == ' ' || c == '\n' || c == '\r' || c == '\t' {
			i++
			continue
		}
		if len(ends) == 0 && want == wantValue && c != '{' {
			return errNotObject
		}
		switch want {
		case wantColon:
			if c != ':' {
				return errNotValid
			}
			i, want = i+1, wantValue
			continue
		case wantFirst, wantFirstKey, wantNext:
			end := ends[len(ends)-1]
			if c == end {
				ends = ends[:len(ends)-1]
				if i, want = i+1, wantNext; len(ends) == 0 {
					want = wantEnd
				}
				continue
			}
			if want == wantNext {
				if c != ',' {
					return errNotValid
				}
				if i, want = i+1, wantValue; end == '}' {
					want = wantKey
				}
				continue
			}
		case wantEnd:
			return errNotValid
		}
		if want == wantKey || want == wantFirstKey {
			if c != '"' {
				return errNotValid
			}
			want = wantColon
		} else {
			want = wantNext
		}
		switch c {
		case '{', '[':
			if len(ends) == maxDepth {
				return errTooDeep
			}
			ends = append(ends, c+2)
			if i, want = i+1, wantFirst; c == '{' {
				want = wantFirstKey
			}
		default:
			if i = pastScalar(b, i); i < 0 {
				return errNotValid
			}
		}
	}
	if want != wantEnd {
		return errNotValid
	}
	return nil
}

// pastScalar returns the index behind the string, number or literal at i, or -1.
func pastScalar(b []byte, i int) int {
	switch b[i] {
	case '"':
		return pastString(b, i+1)
	case 't':
		return past(b, i, "true")
	case 'f':
		return past(b, i, "false")
	case 'n':
		return past(b, i, "null")
	}
	return pastNumber(b, i)
}

// past returns the index behind the literal at i, or -1 where b has another.
func past(b []byte, i int, literal string) int {
	if end := i + len(literal); end <= len(b) && string(b[i:end]) == literal {
		return end
	}
	return -1
}

// pastString returns the index behind the string whose inside starts at i, or -1.
func pastString(b []byte, i int) int {
	const each, high = 0x0101010101010101, 0x8080808080808080
	for i < len(b) {
		for i+8 <= len(b) {
			w := binary.LittleEndian.Uint64(b[i:])
			quote, slash := w^(each*'"'), w^(each*'\\')
			// The high bit of each byte that is a quote, a backslash or less than a
			// space; above the first of them also that of others.
			found := ((quote-each)&^quote | (slash-each)&^slash | (w-each*' ')&^w) & high
			if found != 0 {
				i += bits.TrailingZeros64(found) / 8
				break
			}
			i += 8
		}
		if i == len(b) {
			break
		}
		switch c := b[i]; {
		case c == '"':
			return i + 1
		case c == '\\':
			if i = pastEscape(b, i+1); i < 0 {
				return -1
			}
		case c < ' ':
			return -1
		default:
			i++
		}
	}
	return -1
}

// pastEscape returns the index behind what a backslash before i escapes, or -1.
func pastEscape(b []byte, i int) int {
	if i == len(b) {
		return -1
	}
	switch b[i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 1
	case 'u':
		end := i + 5
		if end > len(b) {
			return -1
		}
		for i++; i < end; i++ {
			if c := b[i] | 0x20; (c < '0' || c > '9' || b[i] < '0') && (c < 'a' || c > 'f') {
				return -1
			}
		}
		return end
	}
	return -1
}

// pastNumber returns the index behind the number at i, or -1.
func pastNumber(b []byte, i int) int {
	if b[i] == '-' {
		i++
	}
	digits := func() bool {
		from := i
		for i < len(b) && '0' <= b[i] && b[i] <= '9' {
			i++
		}
		return i > from
	}
	if i < len(b) && b[i] == '0' {
		i++
	} else if !digits() {
		return -1
	}
	if i < len(b) && b[i] == '.' {
		if i++; !digits() {
			return -1
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if !digits() {
			return -1
		}
	}
	return i
}
