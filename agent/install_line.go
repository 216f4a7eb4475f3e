package agent

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/journal"
)

// installLine is a line of an installation's journal.
type installLine struct{ v any }

func line(v any) installLine { return installLine{v} }

// Piece is for a journal.
func (l installLine) Piece() (stream string, size int) {
	if out, ok := l.v.(*api.InstallOutput); ok {
		return string(out.Type), len(out.Text) + 128
	}
	return "", 1024
}

// AppendLine is for a journal.
func (l installLine) AppendLine(dst []byte, seq int64, at time.Time) []byte {
	told := journal.Time{Time: at}
	switch v := l.v.(type) {
	case *api.InstallStart:
		v.Seq, v.Time = seq, told
	case *api.InstallOutput:
		v.Seq, v.Time = seq, told
	case *api.InstallEnd:
		v.Seq, v.Time = seq, told
	}
	var line bytes.Buffer
	e := json.NewEncoder(&line)
	e.SetEscapeHTML(false)
	_ = e.Encode(l.v) // structs of strings, numbers and lists of them
	return append(dst, bytes.TrimRight(line.Bytes(), "\n")...)
}

// lineWriter puts what is written into a journal, whole lines together.
type lineWriter struct {
	log  *journal.Log
	typ  executor.Type
	part []byte // of a line
}

// maxPart is how long a line may be before it is cut in two.
const maxPart = 64 << 10

func (w *lineWriter) Write(p []byte) (int, error) {
	w.part = append(w.part, p...)
	end := bytes.LastIndexByte(w.part, '\n') + 1
	if len(w.part)-end > maxPart {
		end = len(w.part)
	}
	w.say(end)
	return len(p), nil
}

func (w *lineWriter) flush() { w.say(len(w.part)) }

func (w *lineWriter) say(n int) {
	if n == 0 {
		return
	}
	text := strings.ToValidUTF8(string(w.part[:n]), "\ufffd")
	w.log.Append(line(&api.InstallOutput{Type: w.typ, Text: text}))
	w.part = append(w.part[:0], w.part[n:]...)
}
