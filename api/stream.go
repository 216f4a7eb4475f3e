package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/internal/lazy"
	"github.com/k2sandbox/k2sandbox/journal"
)

// Source says which log a line of a sandbox's stream comes from.
type Source string

// The sources of a stream.
const (
	FromStream    Source = "stream"    // the stream itself: its hello
	FromTimeline  Source = "timeline"  // a TimelineEvent
	FromExecution Source = "execution" // an event of a run
	FromProcess   Source = "process"   // an event of a process
	FromWatch     Source = "watch"     // a change of a file
	FromMetrics   Source = "metrics"   // a Metrics
)

// Hello is the type of the first line of a sandbox's stream.
const Hello StreamType = "hello"

// MetricsType is the type of a line with Metrics.
const MetricsType StreamType = "metrics"

// StreamType is the type of a line that only a sandbox's stream has.
type StreamType = journal.Type

// StreamHello is the first line of a sandbox's stream.
type StreamHello struct {
	Source Source       `json:"source"`
	Seq    int64        `json:"seq"` // 0
	Type   journal.Type `json:"type"`
	Time   journal.Time `json:"time"`
	Epoch  string       `json:"epoch"` // of the sandbox: another after a restart, when all numbers begin anew
	Cursor string       `json:"cursor"`
}

// Metrics is what the processes of a sandbox use: its kernels, the processes that
// were started in it, and their descendants in the same sessions.
type Metrics struct {
	Seq         int64        `json:"seq"`
	Type        journal.Type `json:"type"`
	Time        journal.Time `json:"time"`
	CPUSeconds  float64      `json:"cpu_seconds"`  // of those that live, and of the children that they waited for
	MemoryBytes int64        `json:"memory_bytes"` // resident; what several share is counted for each
	Processes   int          `json:"processes"`
	OpenFiles   int          `json:"open_files"`
}

// Cursor is a place in a sandbox's stream: what a client has, so that it can go on
// without a gap and without getting anything twice.
type Cursor struct {
	Epoch    string           // of the sandbox; "" is whichever answers
	Timeline int64            // number of the last line of the timeline
	Logs     map[string]int64 // of each run and process that has not ended for the client, by id: the number of its last line
}

// ParseCursor reads the form that String writes; a number alone is one of the timeline.
func ParseCursor(text string) (Cursor, error) {
	c := Cursor{Logs: map[string]int64{}}
	for i, part := range strings.Split(text, ",") {
		name, number, named := strings.Cut(part, ":")
		if !named && i == 0 {
			number = name
		}
		n, err := strconv.ParseUint(number, 10, 63) // no sign
		_, twice := c.Logs[name]
		if err != nil || named && !validID().MatchString(name) || !named && i > 0 || twice {
			return Cursor{}, fmt.Errorf("expected a number, or a cursor that a stream gave, got %.200q", text)
		}
		switch {
		case i > 0:
			c.Logs[name] = int64(n)
		case named:
			c.Epoch, c.Timeline = name, int64(n)
		default:
			c.Timeline = int64(n)
		}
	}
	return c, nil
}

var validID = lazy.Regexp(`^[A-Za-z0-9_]{1,64}$`)

// String returns the cursor as the parameter "after" takes it: EPOCH:N,ID:N,…
func (c Cursor) String() string {
	var b strings.Builder
	if c.Epoch != "" {
		b.WriteString(c.Epoch + ":")
	}
	b.WriteString(strconv.FormatInt(c.Timeline, 10))
	for _, id := range slices.Sorted(maps.Keys(c.Logs)) {
		b.WriteString("," + id + ":" + strconv.FormatInt(c.Logs[id], 10))
	}
	return b.String()
}

// Advance moves the cursor behind a line of the stream. follows says which logs the
// stream follows as they begin.
func (c *Cursor) Advance(source Source, id string, line journal.Line, follows func(Source) bool) {
	if c.Logs == nil {
		c.Logs = map[string]int64{}
	}
	switch source {
	case FromTimeline:
		c.Timeline = line.Seq
		if from, began := Began(line); began != "" && follows(from) {
			if _, known := c.Logs[began]; !known {
				c.Logs[began] = 0
			}
		}
	case FromExecution, FromProcess:
		if line.Type == executor.End {
			delete(c.Logs, id)
		} else {
			c.Logs[id] = line.Seq
		}
	}
}

// Began returns the run or process that began with a line of the timeline; "" for another line.
func Began(line journal.Line) (Source, string) {
	if line.Type != RunSubmitted && line.Type != ProcessStarted {
		return "", ""
	}
	var e TimelineEvent
	if json.Unmarshal(line.JSON, &e) != nil {
		return "", ""
	}
	if line.Type == RunSubmitted {
		return FromExecution, e.ExecutionID
	}
	return FromProcess, strconv.Itoa(e.Pid)
}
