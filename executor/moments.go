package executor

import (
	"time"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// Moments are the times at which the kernel says that it sent the messages of a run,
// in UTC; zero where it sent none.
type Moments struct {
	Busy  time.Time // status busy on iopub
	Input time.Time // execute_input on iopub
	Reply time.Time // execute_reply on shell
	Idle  time.Time // status idle on iopub
}

// Moments returns the times of the run as far as it has come.
func (e *Execution) Moments() Moments {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.moments
}

// at notes the date of the message, the first time; our own clock's where it has none.
func (t *turn) at(moment *time.Time, m *wire.Message) {
	date, err := time.Parse(time.RFC3339Nano, m.Date())
	if err != nil {
		date = time.Now()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if moment.IsZero() {
		*moment = date.UTC()
	}
}
