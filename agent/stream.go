package agent

import (
	"context"
	"iter"
	"strconv"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/files"
	"github.com/k2sandbox/k2sandbox/journal"
)

// StreamOptions say what a stream has beside the timeline.
type StreamOptions struct {
	Executions bool          // the events of runs
	Processes  bool          // the events of processes
	Metrics    time.Duration // how often; 0: none
	Watch      *files.Watch  // its events; it stays the caller's to close
}

// Follows reports whether the logs of that source are followed as they begin.
func (o StreamOptions) Follows(source api.Source) bool {
	return source == api.FromExecution && o.Executions || source == api.FromProcess && o.Processes
}

// StreamLine is a line of one of the logs that a stream ties together.
type StreamLine struct {
	journal.Line
	Source api.Source
	ID     string // of the run or process
	Err    error  // why this log, not the stream, cannot go on: the line, of type End, has no JSON
}

// maxReplays is how many logs that have ended a stream replays at once, each of
// which may hold a chunk in memory.
const maxReplays = 16

// Epoch names this sandbox among those that a server had before: its numbers begin anew.
func (s *Sandbox) Epoch() string { return s.epoch }

// Now returns the cursor of the present: what has ended is behind it, open runs and
// processes are followed from their beginning.
func (s *Sandbox) Now() api.Cursor {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _, lines := s.timeline.Size()
	c := api.Cursor{Epoch: s.epoch, Timeline: lines, Logs: map[string]int64{}}
	for _, e := range s.Executions() {
		if !closed(e.Done()) {
			c.Logs[e.ID()] = 0
		}
	}
	for pid, j := range s.told {
		if !closed(j.Done()) {
			c.Logs[strconv.Itoa(pid)] = 0
		}
	}
	return c
}

// Stream yields all that happens after the cursor, in one sequence: the timeline's
// lines, and those of each run and process that the cursor names or that the
// timeline tells of. Each log is in order, and its first line comes after the line
// of the timeline that tells of its beginning. The timeline's last line comes when
// all logs have ended. A slow loop slows nobody, and holds no more than a line a log.
func (s *Sandbox) Stream(ctx context.Context, after api.Cursor, o StreamOptions) iter.Seq2[StreamLine, error] {
	return func(yield func(StreamLine, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		m := &merger{
			box: s, o: o, ctx: ctx, lines: make(chan StreamLine), timeline: make(chan StreamLine),
			replays: map[string]bool{},
		}
		defer m.work.Wait()
		defer cancel()
		for id, seq := range after.Logs {
			m.pending = append(m.pending, place{id, seq})
		}
		m.work.Go(func() { m.pump(m.timeline, StreamLine{Source: api.FromTimeline}, s.Timeline(ctx, after.Timeline)) })
		if o.Metrics > 0 {
			m.work.Go(m.measure)
		}
		if o.Watch != nil {
			m.work.Go(func() { m.relay(StreamLine{Source: api.FromWatch}, 0, o.Watch.Lines) })
		}
		if err := m.run(yield); err != nil {
			yield(StreamLine{}, err)
		}
	}
}

// merger is a stream under way. Its goroutines, one for each log, end with ctx.
type merger struct {
	box      *Sandbox
	o        StreamOptions
	ctx      context.Context
	work     sync.WaitGroup
	timeline chan StreamLine
	lines    chan StreamLine // of all other logs

	pending []place         // logs that are not yet followed
	open    int             // logs that are
	replays map[string]bool // of these such as had ended before
}

// place is a place in a log.
type place struct {
	id    string
	after int64
}

// run yields until the end; it returns ctx's error.
func (m *merger) run(yield func(StreamLine, error) bool) error {
	var last *StreamLine // the timeline's
	for {
		m.follow()
		if last != nil && m.open == 0 {
			yield(*last, nil)
			return nil
		}
		timeline := m.timeline
		if len(m.pending) > 0 || last != nil {
			timeline = nil
		}
		var line StreamLine
		select {
		case line = <-timeline:
			if line.Type == journal.End {
				last = &line
				continue
			}
			if from, id := api.Began(line.Line); m.o.Follows(from) {
				m.pending = append(m.pending, place{id: id})
			}
		case line = <-m.lines:
			if line.Type == journal.End && line.ID != "" {
				m.open--
				delete(m.replays, line.ID)
			}
		case <-m.ctx.Done():
			return m.ctx.Err()
		}
		if !yield(line, nil) {
			return nil
		}
	}
}

// follow begins to follow what is pending, as far as there is room.
func (m *merger) follow() {
	for len(m.pending) > 0 && len(m.replays) < maxReplays {
		at := m.pending[0]
		m.pending = m.pending[1:]
		l, err := m.box.log(at.id)
		if l.ended || err != nil {
			m.replays[at.id] = true
		}
		m.open++
		m.work.Go(func() {
			like := StreamLine{Source: l.source, ID: at.id}
			if err != nil {
				m.fail(like, at.after, err)
			} else {
				m.relay(like, at.after, l.lines)
			}
		})
	}
}

// relay sends the lines of a log after a number, and tells where it cannot go on.
func (m *merger) relay(like StreamLine, after int64, lines func(context.Context, int64) iter.Seq2[journal.Line, error]) {
	if err := m.pump(m.lines, like, lines(m.ctx, after)); err != nil {
		m.fail(like, after, err)
	}
}

func (m *merger) fail(like StreamLine, after int64, err error) {
	like.Seq, like.Type, like.Err = after, journal.End, err
	m.send(m.lines, like)
}

// pump sends the lines of a log, as like is, and returns the log's error.
func (m *merger) pump(to chan<- StreamLine, like StreamLine, lines iter.Seq2[journal.Line, error]) error {
	for line, err := range lines {
		if err != nil {
			return err
		}
		like.Line = line
		if !m.send(to, like) {
			return nil
		}
	}
	return nil
}

func (m *merger) send(to chan<- StreamLine, line StreamLine) bool {
	select {
	case to <- line:
		return true
	case <-m.ctx.Done():
		return false
	}
}

// kept is the log of a run or process.
type kept struct {
	source api.Source
	lines  func(ctx context.Context, after int64) iter.Seq2[journal.Line, error]
	newest int64 // number of its newest line
	ended  bool
}

// log finds the log of a process by its pid, of a run by its id.
func (s *Sandbox) log(id string) (kept, error) {
	if pid, err := strconv.Atoi(id); err == nil {
		j, err := s.Process(pid)
		if err != nil {
			return kept{source: api.FromProcess}, err
		}
		return kept{api.FromProcess, j.Lines, j.Summary().Events, closed(j.Done())}, nil
	}
	e, err := s.Execution(id)
	if err != nil {
		return kept{source: api.FromExecution}, err
	}
	return kept{api.FromExecution, e.Lines, e.Summary().Events, closed(e.Done())}, nil
}

// Newest returns the number of the newest event of a run or process, ok false where there is none of that id.
func (s *Sandbox) Newest(id string) (seq int64, ok bool) {
	l, err := s.log(id)
	return l.newest, err == nil
}

func closed(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}
