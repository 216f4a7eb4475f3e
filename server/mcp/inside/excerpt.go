package inside

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// excerpt is the head and the tail of a text of any length, and how long that is. It takes memory for
// no more than it shows.
type excerpt struct {
	most  int // code points that each end keeps
	head  []byte
	room  int    // code points that head has room for
	marks []mark // in head, where a reader can go on
	tail  []byte // what comes behind head, or the end of that
	total int64  // code points
}

// mark is a place in an excerpt, and where that is in the log.
type mark struct {
	bytes  int
	points int
	at     position
}

func newExcerpt(most int) excerpt { return excerpt{most: most, room: most} }

// add takes the next piece of the text, behind which the log goes on at next.
func (x *excerpt) add(text []byte, next position) {
	n := utf8.RuneCount(text)
	x.total += int64(n)
	if n <= x.room {
		x.head = append(x.head, text...)
		x.room -= n
		x.marks = append(x.marks, mark{len(x.head), x.most - x.room, next})
		return
	}
	if x.room > 0 {
		cut := len(text) - lenLast(text, n-x.room)
		x.head = append(x.head, text[:cut]...)
		x.room, text = 0, text[cut:]
	}
	x.tail = append(x.tail, text...)
	if len(x.tail) > 2*utf8.UTFMax*x.most {
		x.tail = append([]byte(nil), x.tail[len(x.tail)-lenLast(x.tail, x.most):]...)
	}
}

// lenLast returns how many bytes the last n code points of a text have.
func lenLast(text []byte, n int) int {
	at := len(text)
	for ; n > 0 && at > 0; n-- {
		_, size := utf8.DecodeLastRune(text[:at])
		at -= size
	}
	return len(text) - at
}

// reset gives up all that was taken.
func (x *excerpt) reset() { *x = newExcerpt(x.most) }

// shown is a text that was cut, and what of.
type shown struct {
	text  string
	chars int64 // that were left out
	after position
}

// show returns the text with at most n code points of it; n is no more than the excerpt keeps. Where it is
// longer, a line in it tells how many were left out, and then what readOn says of where these begin.
func (x *excerpt) show(n int, readOn func(position) string) shown {
	if x.total <= int64(n) {
		return shown{text: string(x.head) + string(x.tail)}
	}
	head, points, at := x.headOf(n * 3 / 5)
	rest := x.tail
	if utf8.RuneCount(rest) < n-points {
		rest = append(bytes.Clone(x.head[len(head):]), rest...)
	}
	tail := rest[len(rest)-lenLast(rest, n-points):]
	if i := bytes.IndexByte(tail[:len(tail)/2], '\n'); i >= 0 {
		tail = tail[i+1:] // from the beginning of a line
	}
	left := x.total - int64(points) - int64(utf8.RuneCount(tail))
	line := fmt.Sprintf("[… %d characters were left out here%s …]\n", left, readOn(at))
	if len(head) > 0 && head[len(head)-1] != '\n' {
		line = "\n" + line
	}
	return shown{string(head) + line + string(tail), left, at}
}

// headOf returns the head with at most n code points, up to the last mark where there is one not far from its end.
func (x *excerpt) headOf(n int) (head []byte, points int, next position) {
	best := mark{at: position{seq: 1}}
	for _, m := range x.marks {
		if m.points > n {
			break
		}
		best = m
	}
	if best.points >= n/2 {
		return x.head[:best.bytes], best.points, best.at
	}
	rest := x.head[best.bytes:]
	all := utf8.RuneCount(rest)
	points = min(n, best.points+all)
	return x.head[:len(x.head)-lenLast(rest, all-(points-best.points))], points, best.at
}
