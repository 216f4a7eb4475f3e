package notebook

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/k2sandbox/k2sandbox/internal/lazy"
)

// formatSpec is Python's format specification: fill and alignment, sign, zero,
// width, comma, precision, type.
// https://docs.python.org/3/library/string.html#format-specification-mini-language
var formatSpec = lazy.Regexp(`^(?:(.)?([<>^=]))?([-+ ])?(0)?(\d{0,3})(,)?(?:\.(\d{1,3}))?([sdfFeEgGxXob%])?$`)

var errFormat = errors.New("a format that is not known")

// pad formats text.
func pad(text, spec string) (string, error) {
	m := formatSpec().FindStringSubmatch(spec)
	if m == nil || m[2] == "=" || m[3]+m[6] != "" || m[8] != "" && m[8] != "s" {
		return "", errFormat
	}
	if n, err := strconv.Atoi(m[7]); err == nil && n < utf8.RuneCountInString(text) {
		text = string([]rune(text)[:n])
	}
	return align(text, m, "<"), nil
}

// align fills text up to the width.
func align(text string, m []string, alignment string) string {
	fill := " "
	if m[4] != "" {
		fill, alignment = "0", "="
	}
	if m[2] != "" {
		alignment = m[2]
	}
	if m[1] != "" {
		fill = m[1]
	}
	width, _ := strconv.Atoi(m[5]) // at most three digits
	missing := max(width-utf8.RuneCountInString(text), 0)
	filled := strings.Repeat(fill, missing)
	sign := len(text) - len(strings.TrimLeft(text, "+- "))
	switch alignment {
	case "<":
		return text + filled
	case "^":
		return strings.Repeat(fill, missing/2) + text + strings.Repeat(fill, missing-missing/2)
	case "=":
		return text[:sign] + filled + text[sign:]
	}
	return filled + text
}

// formatNumber formats a number that Python spells so.
func formatNumber(n json.Number, spec string) (string, error) {
	m := formatSpec().FindStringSubmatch(spec)
	if m == nil || m[8] == "s" || m[6] != "" {
		return "", errFormat
	}
	whole, isInt := new(big.Int).SetString(n.String(), 10)
	text := n.String()
	switch verb := m[8]; {
	case verb == "" && m[7] == "":
	case verb != "" && strings.Contains("dxXob", verb):
		if !isInt || m[7] != "" {
			return "", errFormat
		}
		text = fmt.Sprintf("%"+verb, whole)
	default:
		f, _ := strconv.ParseFloat(text, 64) // beyond its range: infinite, as in Python
		percent := ""
		if verb == "%" {
			f, verb, percent = f*100, "f", "%"
		}
		precision := 6
		if m[7] != "" {
			precision, _ = strconv.Atoi(m[7])
		}
		if verb == "" {
			verb = "g"
		}
		text = fmt.Sprintf("%.*"+verb, precision, f) + percent
	}
	if m[3] == "+" || m[3] == " " {
		if !strings.HasPrefix(text, "-") {
			text = m[3] + text
		}
	}
	return align(text, m, ">"), nil
}

// directives are strftime's, as layouts of package time.
var directives = map[byte]string{
	'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'H': "15", 'I': "03", 'M': "04", 'S': "05", 'f': "000000", 'j': "002",
	'p': "PM", 'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'z': "-0700", 'Z': "MST",
	'F': "2006-01-02", 'T': "15:04:05", 'D': "01/02/06",
}

// formatTime formats a time as Python's strftime does, without a format as its str.
func formatTime(t time.Time, spec string) (string, error) {
	if spec == "" {
		layout := "2006-01-02 15:04:05.000000"
		if t.Location() == time.UTC {
			layout += "-07:00"
		}
		return t.Format(layout), nil // local time is naive in papermill
	}
	var b strings.Builder
	for i := 0; i < len(spec); i++ {
		if spec[i] != '%' {
			b.WriteByte(spec[i])
			continue
		}
		if i++; i == len(spec) {
			return "", errFormat
		}
		layout, ok := directives[spec[i]]
		switch {
		case spec[i] == '%':
			b.WriteByte('%')
		case spec[i] == 'f':
			fmt.Fprintf(&b, "%06d", t.Nanosecond()/1000)
		case ok:
			b.WriteString(t.Format(layout))
		default:
			return "", errFormat
		}
	}
	return b.String(), nil
}
