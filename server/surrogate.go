package server

import (
	"bytes"
	"strconv"
)

// LoneSurrogate returns where the JSON text has an escape for one half of a
// surrogate pair without the other (RFC 8259 §8.2), or -1. Decoders put U+FFFD
// in its place without a word, and so would run other code than was sent.
func LoneSurrogate(text []byte) int {
	for i := 0; i < len(text); {
		next := bytes.IndexByte(text[i:], '\\')
		if next < 0 {
			return -1
		}
		i += next
		switch r := escaped(text[i:]); {
		case r < 0xD800 || r > 0xDFFF:
			i += 2
		case r < 0xDC00 && escaped(text[min(i+6, len(text)):])&^0x3FF == 0xDC00:
			i += 12
		default:
			return i
		}
	}
	return -1
}

// escaped returns the code unit of the \u escape that text begins with, or 0.
func escaped(text []byte) int {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0
	}
	r, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	if err != nil {
		return 0
	}
	return int(r)
}
