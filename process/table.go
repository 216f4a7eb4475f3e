package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/k2sandbox/k2sandbox/journal"
)

// Errors of a Table.
var (
	ErrNotFound = errors.New("no such process")
	ErrTooMany  = errors.New("too many processes")
	ErrClosed   = errors.New("no more processes are started")
)

// Options bound a Table. The zero value of a field stands for its default.
type Options struct {
	Max   int           // jobs at a time: 256
	Grace time.Duration // between SIGTERM and SIGKILL: 5 s
	On    *Thread       // whose confinement and user jobs have: this program's own

	Memory int64                         // bytes of a job's events in memory: 256 KiB
	Limit  int64                         // bytes of them in all, past which the oldest are dropped: 64 MiB
	Spill  func() (journal.Store, error) // where they go past Memory: journal.TempStore

	// Of jobs that have ended the newest are kept, within these bounds.
	Keep       int   // 256
	KeepMemory int64 // bytes of their events in memory: 32 MiB
	KeepDisk   int64 // bytes of their events on disk: 2 GiB
}

func (o *Options) setDefaults() {
	o.Max = cmp.Or(o.Max, 256)
	o.Grace = cmp.Or(o.Grace, 5*time.Second)
	o.Memory = cmp.Or(o.Memory, 256<<10)
	o.Limit = cmp.Or(o.Limit, 64<<20)
	if o.Spill == nil {
		o.Spill = journal.TempStore
	}
	o.Keep = cmp.Or(o.Keep, 256)
	o.KeepMemory = cmp.Or(o.KeepMemory, 32<<20)
	o.KeepDisk = cmp.Or(o.KeepDisk, 2<<30)
}

// Table has the jobs that it started, those that run and the newest of those that have
// ended. Its methods are safe for concurrent use. It must be closed.
type Table struct {
	o       Options
	closing context.Context // done from Close on
	shut    context.CancelFunc
	closed  sync.Once
	left    error          // what Close could not end
	work    sync.WaitGroup // Start and the goroutines of jobs

	active atomic.Int64 // when a job last wrote, began or ended, in nanoseconds since 1970

	mu     sync.Mutex
	guard  *Guard       // from the first job on
	ending bool         // by Shutdown
	busy   int          // jobs that hold something of the system's, and those about to
	jobs   map[int]*Job // by pid, of which the newest job has it
	order  []*Job       // the oldest first
}

// NewTable returns a table without jobs. It holds nothing before the first.
func NewTable(o Options) *Table {
	o.setDefaults()
	closing, shut := context.WithCancel(context.Background())
	return &Table{o: o, closing: closing, shut: shut, jobs: map[int]*Job{}}
}

// Start starts a job. Errors are ErrTooMany, ErrClosed, ErrDirectory, ErrProgram and
// the system's. A job that ended but left behind what has its output open counts as one.
func (t *Table) Start(spec Spec) (*Job, error) {
	guard, err := t.enter()
	if err != nil {
		return nil, err
	}
	log := journal.New(journal.Options{Memory: t.o.Memory, Limit: t.o.Limit, Spill: t.o.Spill, Ring: "output"})
	j, err := startJob(spec, t, guard, log)
	if err != nil {
		t.leave()
		return nil, err
	}
	t.add(j)
	go func() {
		defer t.leave()
		j.run(t.closing, t.o.Grace)
		t.prune()
	}()
	return j, nil
}

// enter takes a place for a job.
func (t *Table) enter() (*Guard, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ending || t.closing.Err() != nil {
		return nil, ErrClosed
	}
	if t.busy >= t.o.Max {
		return nil, fmt.Errorf("%w: %d at most", ErrTooMany, t.o.Max)
	}
	if t.guard == nil {
		guard, err := NewGuard("")
		if err != nil {
			return nil, err
		}
		t.guard = guard
	}
	t.busy++
	t.work.Add(1)
	return t.guard, nil
}

func (t *Table) leave() {
	t.mu.Lock()
	t.busy--
	t.mu.Unlock()
	t.work.Done()
}

// add makes the job known under its pid, which nobody can ask an older one by any more.
func (t *Table) add(j *Job) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.jobs[j.Pid()]; old != nil {
		t.forget(old)
	}
	t.jobs[j.Pid()] = j
	t.order = append(t.order, j)
}

// forget gives up a job; who reads its events reads on to the end. t.mu is held.
func (t *Table) forget(j *Job) {
	if t.jobs[j.Pid()] == j {
		delete(t.jobs, j.Pid())
	}
	t.order = slices.DeleteFunc(t.order, func(other *Job) bool { return other == j })
	if j.readers.Load() == 0 {
		j.log.Evict()
	}
}

// Get returns the newest job of a pid; ErrNotFound where there is none, or no longer.
func (t *Table) Get(pid int) (*Job, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if j := t.jobs[pid]; j != nil {
		return j, nil
	}
	return nil, fmt.Errorf("process %d: %w", pid, ErrNotFound)
}

// List tells about all jobs, the newest first.
func (t *Table) List() []Summary {
	t.mu.Lock()
	jobs := slices.Clone(t.order)
	t.mu.Unlock()
	used := usages()
	all := make([]Summary, 0, len(jobs))
	for _, j := range slices.Backward(jobs) {
		all = append(all, j.summary(used))
	}
	return all
}

// Activity tells whether a job with a terminal runs, and when one wrote, began or ended
// last; that is zero where there was none.
func (t *Table) Activity() (open bool, last time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, j := range t.order {
		open = open || j.spec.Terminal != nil && !j.isDone()
	}
	if at := t.active.Load(); at != 0 {
		last = time.Unix(0, at)
	}
	return open, last
}

func (t *Table) touch() { t.active.Store(time.Now().UnixNano()) }

// Stop ends the job, and all that it started, by SIGTERM, and by SIGKILL after the
// grace or when ctx is done. It returns when that is gone.
func (t *Table) Stop(ctx context.Context, j *Job) error { return j.Stop(ctx, t.o.Grace) }

// Delete kills the job and all that it started. One that had ended already is
// forgotten then; another is kept, so that its end can be read.
func (t *Table) Delete(j *Job) error {
	had := j.isDone()
	if err := j.Kill(); err != nil || !had {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget(j)
	return nil
}

// prune forgets jobs that hold nothing any more and are over the bounds, the oldest first.
func (t *Table) prune() {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, memory, disk := t.o.Keep, t.o.KeepMemory, t.o.KeepDisk
	for _, j := range slices.Backward(slices.Clone(t.order)) {
		if !j.released.Load() {
			continue // it runs, or what it left behind, which only Delete ends
		}
		size, inMemory, _ := j.log.Size()
		n, memory, disk = n-1, memory-inMemory, disk-(size-inMemory)
		if n < 0 || memory < 0 || disk < 0 {
			t.forget(j)
		}
	}
}

// Shutdown is Close with time for the jobs: they get SIGTERM first, and SIGKILL after the
// grace or when ctx is done.
func (t *Table) Shutdown(ctx context.Context) error {
	t.mu.Lock()
	t.ending = true
	jobs := slices.Clone(t.order)
	t.mu.Unlock()
	var stops sync.WaitGroup
	for _, j := range jobs {
		if ctx.Err() == nil && !j.isDone() {
			j.set(&j.closed)
			stops.Go(func() { _ = j.Stop(ctx, t.o.Grace) }) // what is left Close ends
		}
	}
	stops.Wait()
	return t.Close()
}

// Close kills all jobs, which end as SandboxKilled, and what they left behind. What
// they wrote can still be read.
func (t *Table) Close() error {
	t.closed.Do(t.close)
	return t.left
}

func (t *Table) close() {
	t.mu.Lock()
	t.shut()
	guard := t.guard
	t.mu.Unlock()
	t.work.Wait()
	if guard != nil {
		t.left = guard.Close()
	}
}

// quote writes arguments as a line for a shell.
func quote(args []string) string {
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = a
		if a == "" || strings.ContainsAny(a, " \t\n'\"\\$`!*?[](){}<>|&;#~") {
			words[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}
