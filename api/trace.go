package api

import (
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/k2sandbox/k2sandbox/executor"
)

// RunTraceHeader is how a server asks an agent to tell of the run behind an answer, for a trace: a header of the request, and
// a trailer of the answer, which has a RunTrace.
const RunTraceHeader = "X-Run-Trace"

// maxRunTrace bounds the text of a RunTrace, in bytes.
const maxRunTrace = 1 << 10

// RunTrace is what an agent tells of a run that has ended. Its times are since the run was submitted.
type RunTrace struct {
	ExecutionID string
	Context     string
	Status      executor.Status
	Started     time.Duration // until the kernel's turn; negative: it had none
	FirstOutput time.Duration // until the first output; negative: there was none
	Ended       time.Duration
	Told        time.Duration // when this was told
	CPUTime     time.Duration // 0: not known
	MemoryPeak  int64         // bytes; 0: not known
}

// statuses are how runs end.
var statuses = []executor.Status{
	executor.OK, executor.Failed, executor.TimedOut, executor.Interrupted, executor.Aborted, executor.KernelDied, executor.SandboxKilled,
}

// String returns the text of a trailer.
func (t RunTrace) String() string {
	values := url.Values{"run": {t.ExecutionID}, "context": {t.Context}, "status": {string(t.Status)}}
	for name, n := range t.numbers() {
		values.Set(name, strconv.FormatInt(*n, 10))
	}
	return values.Encode()
}

// ParseRunTrace reads the text of a trailer, which may be a hostile agent's: false where it makes no sense.
func ParseRunTrace(text string) (RunTrace, bool) {
	if len(text) > maxRunTrace {
		return RunTrace{}, false
	}
	values, err := url.ParseQuery(text)
	if err != nil {
		return RunTrace{}, false
	}
	t := RunTrace{ExecutionID: values.Get("run"), Context: values.Get("context"), Status: executor.Status(values.Get("status"))}
	for name, n := range t.numbers() {
		if *n, err = strconv.ParseInt(values.Get(name), 10, 64); err != nil {
			return RunTrace{}, false
		}
	}
	return t, slices.Contains(statuses, t.Status) && t.Ended >= 0 && t.Told >= t.Ended && t.CPUTime >= 0 && t.MemoryPeak >= 0
}

// numbers are the fields that are numbers, by their names in the text; times are nanoseconds.
func (t *RunTrace) numbers() map[string]*int64 {
	return map[string]*int64{
		"started": (*int64)(&t.Started), "first_output": (*int64)(&t.FirstOutput), "ended": (*int64)(&t.Ended),
		"told": (*int64)(&t.Told), "cpu_time": (*int64)(&t.CPUTime), "memory_peak": &t.MemoryPeak,
	}
}
