package interpreter

import (
	"unicode/utf16"
	"unicode/utf8"
)

// appendASCII appends a piece of JSON with an escape for each character that is not ASCII: one client
// takes U+2028 and its like for the end of a line, another cuts characters where packets end.
func appendASCII(dst, json []byte) []byte {
	for len(json) > 0 {
		n := ascii(json)
		dst = append(dst, json[:n]...)
		if json = json[n:]; len(json) == 0 {
			break
		}
		r, size := utf8.DecodeRune(json)
		json = json[size:]
		if high, low := utf16.EncodeRune(r); high != utf8.RuneError {
			dst = appendEscape(appendEscape(dst, high), low)
		} else {
			dst = appendEscape(dst, r)
		}
	}
	return dst
}

// ascii returns how many bytes of the text are ASCII before the first that is not.
func ascii(text []byte) int {
	for i, b := range text {
		if b >= utf8.RuneSelf {
			return i
		}
	}
	return len(text)
}

func appendEscape(dst []byte, unit rune) []byte {
	const hex = "0123456789abcdef"
	return append(dst, '\\', 'u', hex[unit>>12&15], hex[unit>>8&15], hex[unit>>4&15], hex[unit&15])
}
