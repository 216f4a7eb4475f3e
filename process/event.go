package process

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/k2sandbox/k2sandbox/journal"
)

// The types of a job's events, the last of which is journal.End. The first is
// Started, which has the number 1.
const (
	Started journal.Type = "start"  // pid
	Stdout  journal.Type = "stdout" // text, or data: bytes as base64
	Stderr  journal.Type = "stderr" // text, or data: bytes as base64
)

// Status says in a word how a job ended.
type Status string

// How a job can have ended.
const (
	OK            Status = "ok"             // with exit status 0
	Failed        Status = "error"          // with another, or by a signal
	TimedOut      Status = "timeout"        // its time was up
	SandboxKilled Status = "sandbox_killed" // its table was closed
)

// End is what the last event of a job tells.
type End struct {
	Status   Status  `json:"status"`
	ExitCode int     `json:"exit_code"` // -1 where a signal ended it
	Signal   *string `json:"signal"`    // such as "SIGKILL"
	OOM      bool    `json:"oom,omitempty"`
	TimedOut bool    `json:"timed_out"`
	Duration float64 `json:"duration"` // seconds
}

// Piece is for a journal.
func (e End) Piece() (stream string, size int) { return "", 128 }

// AppendLine is for a journal.
func (e End) AppendLine(dst []byte, seq int64, at time.Time) []byte {
	dst = append(journal.AppendHead(dst, seq, journal.End, at), ',')
	rest, _ := json.Marshal(e) // strings and numbers
	return append(dst, rest[1:]...)
}

// started is the first event.
type started struct{ pid int }

func (e started) Piece() (string, int) { return "", 128 }

func (e started) AppendLine(dst []byte, seq int64, at time.Time) []byte {
	dst = append(journal.AppendHead(dst, seq, Started, at), ',')
	rest, _ := json.Marshal(map[string]int{"pid": e.pid})
	return append(dst, rest[1:]...)
}

// piece is a part of a stream.
type piece struct {
	stream journal.Type
	bytes  []byte
	binary bool
}

func (e piece) Piece() (string, int) { return string(e.stream), len(e.bytes) * 4 / 3 }

func (e piece) AppendLine(dst []byte, seq int64, at time.Time) []byte {
	dst = journal.AppendHead(dst, seq, e.stream, at)
	if e.binary {
		dst = append(dst, `,"data":"`...)
		return append(base64.StdEncoding.AppendEncode(dst, e.bytes), `"}`...)
	}
	dst = append(dst, `,"text":`...)
	return append(gjson.AppendJSONString(dst, string(e.bytes)), '}')
}

// Bytes returns what a Stdout or Stderr event says, and false for another.
func Bytes(line journal.Line) ([]byte, bool) {
	if line.Type != Stdout && line.Type != Stderr {
		return nil, false
	}
	if data := gjson.GetBytes(line.JSON, "data"); data.Exists() {
		raw, err := base64.StdEncoding.DecodeString(data.String())
		return raw, err == nil
	}
	return []byte(gjson.GetBytes(line.JSON, "text").String()), true
}

// stream is a writer that makes events of what a job writes to one of its
// descriptors: text where it is UTF-8, cut between characters. The job's writing is locked.
type stream struct {
	job    *Job
	typ    journal.Type
	binary bool // all is data
	rest   []byte
}

// Write never fails. What comes after the end of the job is not kept.
func (s *stream) Write(p []byte) (int, error) {
	s.job.writing.Lock()
	defer s.job.writing.Unlock()
	if s.job.over {
		return len(p), nil
	}
	all := p
	if len(s.rest) > 0 {
		all = append(s.rest, p...)
	}
	whole := len(all)
	if !s.binary {
		whole -= incomplete(all)
	}
	s.rest = slices.Clone(all[whole:])
	s.emit(all[:whole])
	return len(p), nil
}

func (s *stream) emit(p []byte) {
	if len(p) > 0 {
		s.job.table.touch()
		s.job.log.Append(piece{s.typ, p, s.binary || !utf8.Valid(p)})
	}
}

// incomplete returns how many bytes at the end of p begin a character that goes on.
func incomplete(p []byte) int {
	for n := 1; n <= min(len(p), utf8.UTFMax-1); n++ {
		if tail := p[len(p)-n:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}
