package process

import (
	"slices"
	"time"
	"unicode/utf8"
)

// State says where a job stands.
type State string

// Where a job can stand.
const (
	Running State = "running"
	Done    State = "done"
)

// Summary tells about a job.
type Summary struct {
	Pid         int        `json:"pid"`
	Cmd         string     `json:"cmd,omitempty"` // where it was given as a line; cut with "…" where it is very long
	Args        []string   `json:"args"`          // what is executed; cut likewise
	Cwd         string     `json:"cwd"`
	Stdin       bool       `json:"stdin"`         // it takes input, or did while it ran
	Pty         *Size      `json:"pty,omitempty"` // the size of its terminal
	State       State      `json:"state"`
	Status      Status     `json:"status,omitempty"` // once it is done
	ExitCode    *int       `json:"exit_code"`        // -1 where a signal ended it
	Signal      *string    `json:"signal"`           // such as "SIGKILL"
	OOM         bool       `json:"oom,omitempty"`
	TimedOut    bool       `json:"timed_out"`
	StartedAt   time.Time  `json:"started_at"`
	EndedAt     *time.Time `json:"ended_at"`
	CPUSeconds  float64    `json:"cpu_seconds"`  // of the processes of its session
	MemoryBytes int64      `json:"memory_bytes"` // resident, of the same; 0 when it is done
	Events      int64      `json:"events"`       // number of the newest event
	Bytes       int64      `json:"bytes"`        // of the events that are kept
}

// Summary tells where it stands.
func (j *Job) Summary() Summary { return j.summary(nil) }

// summary is Summary with what sessions use, where that is known already.
func (j *Job) summary(used map[int]usage) Summary {
	size, _, events := j.log.Size()
	j.mu.Lock()
	defer j.mu.Unlock()
	s := Summary{
		Pid: j.Pid(), Cmd: j.spec.Cmd, Args: j.spec.args(), Cwd: j.spec.Dir, Stdin: j.spec.Stdin || j.size != nil, Pty: j.size, State: Running,
		StartedAt: j.started.UTC(), Events: events, Bytes: size,
	}
	if j.ended.IsZero() {
		if used == nil {
			used = usages()
		}
		u := used[j.Pid()]
		s.CPUSeconds, s.MemoryBytes = u.cpu.Seconds(), u.memory
		return s
	}
	at := j.ended.UTC()
	s.State, s.Status, s.ExitCode, s.Signal, s.OOM, s.TimedOut, s.EndedAt = Done, j.end.Status, &j.end.ExitCode, j.end.Signal, j.end.OOM, j.end.TimedOut, &at
	s.CPUSeconds = j.process.cpu.Seconds()
	return s
}

// maxShown is about how many bytes of a command are kept to be shown.
const maxShown = 8 << 10

func abridgeAll(args []string) []string {
	left := maxShown
	for i, a := range args {
		if left -= len(a) + 1; left < 0 {
			return append(slices.Clone(args[:i]), abridge(a, left+len(a)+1))
		}
	}
	return args
}

// abridge cuts a text that is longer than n bytes, between characters.
func abridge(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "…"
}
