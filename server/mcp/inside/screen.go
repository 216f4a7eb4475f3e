package inside

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxLine is how many code points of a line wait for its end, which what comes after a carriage return may
// write over.
const maxLine = 2048

// maxEscape is how many bytes an escape sequence may have: one that does not end swallows no more.
const maxEscape = 4096

// screen writes a stream of text down as a terminal would show it, line by line: without escape sequences
// (ECMA-48) and control characters, and of what was written over with \r, \b or \x1b[K only the last. Movements
// from line to line are left out.
type screen struct {
	to   *excerpt
	line []rune
	col  int
	esc  escape
	seq  []byte   // parameters of the escape sequence under way
	next position // behind what was written
	last []byte   // the newest line that is not empty, for who wants to see that it moves
}

// escape says where in an escape sequence the text is.
type escape int

const (
	ground  escape = iota
	begun          // after ESC
	charset        // after ESC and an intermediate byte
	csi            // after ESC [
	text           // in the text of an OSC, DCS, PM, APC or SOS
	textEsc        // after an ESC in that
)

// write takes a piece of text, which begins at a place of the log.
func (s *screen) write(piece string, at position) {
	for len(piece) > 0 {
		n := s.whole(piece, at)
		if n == 0 {
			var r rune
			r, n = utf8.DecodeRuneInString(piece)
			s.next = position{at.seq, at.off + n}
			s.put(r)
		}
		piece, at.off = piece[n:], at.off+n
	}
}

// whole passes on a line without anything special in it, as most are, and returns how long that is; 0 where there is none.
func (s *screen) whole(piece string, at position) int {
	if s.esc != ground || len(s.line) > 0 {
		return 0
	}
	end := strings.IndexByte(piece, '\n')
	if end < 0 || end > maxLine {
		return 0
	}
	for i := range end {
		if c := piece[i]; c < ' ' && c != '\t' || c == 0x7f || c == 0xc2 { // 0xc2 begins U+0080 to U+009F
			return 0
		}
	}
	s.next = position{at.seq, at.off + end + 1}
	s.emit([]byte(piece[:end+1]))
	return end + 1
}

// put takes a character.
func (s *screen) put(r rune) {
	if s.esc != ground {
		s.escaped(r)
		return
	}
	switch {
	case r == '\n':
		s.emit([]byte(string(s.line) + "\n"))
		s.line, s.col = s.line[:0], 0
	case r == '\r':
		s.col = 0
	case r == '\b':
		s.col = max(s.col-1, 0)
	case r == 0x1b:
		s.esc, s.seq = begun, s.seq[:0]
	case r == 0x9b: // CSI in one character
		s.esc, s.seq = csi, s.seq[:0]
	case r < ' ' && r != '\t', r >= 0x7f && r < 0xa0:
	default:
		s.glyph(r)
	}
}

func (s *screen) glyph(r rune) {
	for len(s.line) < s.col {
		s.line = append(s.line, ' ')
	}
	if s.col < len(s.line) {
		s.line[s.col] = r
	} else {
		s.line = append(s.line, r)
	}
	if s.col++; s.col == len(s.line) && s.col >= maxLine {
		s.flush()
	}
}

// escaped takes a character of an escape sequence.
func (s *screen) escaped(r rune) {
	if s.seq = append(s.seq, byte(min(r, 0xff))); len(s.seq) > maxEscape {
		s.esc = ground
		return
	}
	switch s.esc {
	case begun:
		s.begin(r)
	case charset:
		if r < ' ' || r > '/' {
			s.esc = ground
		}
	case csi:
		if r >= '@' && r <= '~' {
			s.esc = ground
			s.control(r, string(s.seq[:len(s.seq)-1]))
		} else if r < ' ' || r > '?' { // no sequence at all
			s.esc = ground
			s.put(r)
		}
	case text:
		if r == 0x07 || r == 0x9c {
			s.esc = ground
		} else if r == 0x1b {
			s.esc = textEsc
		}
	case textEsc:
		if s.esc = text; r == '\\' {
			s.esc = ground
		}
	}
}

// begin takes the character after ESC.
func (s *screen) begin(r rune) {
	switch {
	case r == '[':
		s.esc, s.seq = csi, s.seq[:0]
	case strings.ContainsRune("]PX^_", r):
		s.esc, s.seq = text, s.seq[:0]
	case r >= ' ' && r <= '/':
		s.esc = charset
	case r == 0x1b:
	case r < ' ':
		s.esc = ground
		s.put(r)
	default:
		s.esc = ground
	}
}

// control does what a control sequence says of its line.
func (s *screen) control(final rune, parameters string) {
	n, _ := strconv.Atoi(parameters)
	switch final {
	case 'K':
		s.erase(n)
	case 'C':
		s.col = min(s.col+max(n, 1), maxLine-1)
	case 'D':
		s.col = max(s.col-max(n, 1), 0)
	case 'G':
		s.col = min(max(n, 1)-1, maxLine-1)
	}
}

// erase erases to the end of the line, to its beginning, or all of it.
func (s *screen) erase(what int) {
	switch {
	case what == 0:
		s.line = s.line[:min(s.col, len(s.line))]
	case what == 2:
		s.line = s.line[:0]
	case what == 1:
		for i := range s.line[:min(s.col+1, len(s.line))] {
			s.line[i] = ' '
		}
	}
}

// flush passes on what there is of a line that has no end yet.
func (s *screen) flush() {
	if len(s.line) > 0 {
		s.emit([]byte(string(s.line)))
		s.line, s.col = s.line[:0], 0
	}
}

func (s *screen) emit(line []byte) {
	if bare := bytes.TrimSpace(line[:min(len(line), utf8.UTFMax*maxLast)]); len(bare) > 0 {
		s.last = append(s.last[:0], bare...)
	}
	s.to.add(line, s.next)
}

// reset gives up all that was written.
func (s *screen) reset() {
	s.line, s.col = s.line[:0], 0
	s.to.reset()
}

// maxLast is how many code points newest returns at most.
const maxLast = 200

// newest returns the newest line, or what there is of it.
func (s *screen) newest() string {
	line := strings.TrimSpace(string(s.line[:min(len(s.line), maxLast)]))
	if line == "" {
		line = strings.ToValidUTF8(string(s.last), "")
	}
	if points := []rune(line); len(points) > maxLast {
		return string(points[:maxLast])
	}
	return line
}
