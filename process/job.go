package process

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"iter"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/k2sandbox/k2sandbox/journal"
)

// Errors of a Job's methods.
var (
	ErrEnded       = errors.New("the process has ended")
	ErrStdinClosed = errors.New("the process has no stdin that is open")
	ErrNoTerminal  = errors.New("the process has no terminal")
	ErrSignal      = errors.New("unknown signal")
)

// JobMark is the environment variable by which a job knows what it started, daemons
// that left its process group too.
const JobMark = "K2_PROCESS"

// Spec says what a job is to run.
type Spec struct {
	Cmd  string   // a line for /bin/sh; or
	Args []string // a program and its arguments; without a slash it is looked up in the PATH of Env
	Dir  string   // working directory; "" is that of this program
	Env  []string // the whole environment, "NAME=value"

	On       *Thread       // whose confinement and user it has; nil: the table's
	Stdin    bool          // Write goes to its stdin; otherwise that is Input
	Input    string        // all that its stdin has; "" is /dev/null
	Terminal *Size         // give it a terminal, which takes what is written in any case
	Timeout  time.Duration // after which it is ended; 0 is none
	Abrupt   bool          // its timeout kills it at once, without SIGTERM
}

// args returns what is executed.
func (s *Spec) args() []string {
	if len(s.Args) > 0 {
		return s.Args
	}
	return []string{"/bin/sh", "-c", s.Cmd}
}

// Job is a command that a Table started: its process, and what that wrote. Its
// methods are safe for concurrent use.
type Job struct {
	process *Process
	table   *Table
	spec    Spec
	in      *input // nil where it takes none
	log     *journal.Log
	mark    string // the variable that all it starts has
	started time.Time
	readers atomic.Int64 // loops over Lines

	released atomic.Bool // it holds nothing of the system's any more

	writing sync.Mutex // of the log
	streams []*stream
	over    bool // its end is in the log

	mu       sync.Mutex
	size     *Size
	timedOut bool
	closed   bool // its table was
	end      End
	ended    time.Time // zero while it runs
}

// startJob starts what spec says.
func startJob(spec Spec, t *Table, guard *Guard, log *journal.Log) (*Job, error) {
	j := &Job{table: t, spec: spec, log: log, mark: JobMark + "=" + rand.Text(), size: spec.Terminal, started: time.Now()}
	env := append(slices.Clone(spec.Env), j.mark)
	c := Command{Args: spec.args(), Dir: spec.Dir, Env: env, Guard: guard, Terminal: spec.Terminal, On: cmp.Or(spec.On, t.o.On)}
	out := &stream{job: j, typ: Stdout, binary: spec.Terminal != nil}
	err := &stream{job: j, typ: Stderr}
	j.streams = []*stream{out, err}
	c.Stdout, c.Stderr = out, err
	j.writing.Lock() // its start comes first
	defer j.writing.Unlock()
	if e := j.launch(c); e != nil {
		return nil, e
	}
	log.Append(started{j.Pid()})
	t.touch()
	j.spec.Cmd, j.spec.Args, j.spec.Env, j.spec.Input = abridge(spec.Cmd, maxShown), abridgeAll(spec.Args), nil, ""
	return j, nil
}

func (j *Job) launch(c Command) (err error) {
	var ours *os.File
	if (j.spec.Stdin || j.spec.Input != "") && j.spec.Terminal == nil {
		theirs, w, err := os.Pipe()
		if err != nil {
			return err
		}
		defer theirs.Close()
		c.Stdin, ours = theirs, w
		j.in = newInput(w, false)
	}
	if j.process, err = Start(c); err != nil {
		if ours != nil {
			ours.Close()
		}
		return err
	}
	if f := j.process.Terminal(); f != nil {
		j.in = newInput(f, true)
	} else if j.spec.Input != "" {
		go feed(j.in, j.spec.Input, !j.spec.Stdin) // ends when all is read, or with the process
	}
	return nil
}

func feed(in *input, text string, end bool) {
	ctx := context.Background()
	if _, err := in.writeString(ctx, text); err == nil && end {
		_ = in.end(ctx) // fails only where it is closed
	}
}

// run waits for the end and tells it, and gives back what the process held once nobody
// has its output open or closing is done: who writes to a pipe that is closed dies of it.
func (j *Job) run(closing context.Context, grace time.Duration) {
	j.await(closing, grace)
	j.finish()
	if j.spec.Terminal == nil { // which ends with its leader
		j.awaitOutput(closing)
	}
	j.process.Close()
	j.released.Store(true)
}

// await waits for the end, and brings it about when the time is up or closing is done.
func (j *Job) await(closing context.Context, grace time.Duration) {
	var timeout <-chan time.Time
	if j.spec.Timeout > 0 {
		timer := time.NewTimer(j.spec.Timeout)
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-j.process.Done():
	case <-timeout:
		j.set(&j.timedOut)
		if j.spec.Abrupt {
			grace = 0
		}
		j.stop(closing, grace)
	case <-closing.Done():
		j.set(&j.closed)
		j.process.kill() // the table sweeps
		<-j.process.Done()
	}
}

// awaitOutput waits until nobody has its output open, or closing is done.
func (j *Job) awaitOutput(closing context.Context) {
	for _, o := range j.process.outputs {
		select {
		case <-o.done:
		case <-closing.Done():
		}
	}
}

func (j *Job) set(flag *bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	*flag = true
}

// finish notes how it ended, as the last event.
func (j *Job) finish() {
	end := j.note(j.process.Exit())
	if j.in != nil && !j.in.terminal {
		j.in.f.Close()
	}
	j.writing.Lock()
	for _, s := range j.streams {
		s.emit(s.rest)
	}
	j.over = true
	j.table.touch()
	j.log.End(end)
	j.writing.Unlock()
}

func (j *Job) note(exit Exit) End {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ended = time.Now()
	j.end = End{Status: OK, ExitCode: exit.Code, OOM: exit.OOM, TimedOut: j.timedOut, Duration: j.ended.Sub(j.started).Seconds()}
	if exit.Signal != "" {
		j.end.Signal = &exit.Signal
	}
	switch {
	case j.timedOut:
		j.end.Status = TimedOut
	case j.closed:
		j.end.Status = SandboxKilled
	case exit.Code != 0:
		j.end.Status = Failed
	}
	return j.end
}

// Pid returns the id of its process. Once that has ended another may get it.
func (j *Job) Pid() int { return j.process.Pid() }

// Cmd returns what it runs as one line.
func (j *Job) Cmd() string {
	if j.spec.Cmd != "" {
		return j.spec.Cmd
	}
	return quote(j.spec.Args)
}

// HasTerminal reports whether it has a terminal, or had.
func (j *Job) HasTerminal() bool { return j.spec.Terminal != nil }

// Done is closed once it has ended and its end can be read.
func (j *Job) Done() <-chan struct{} { return j.log.Done() }

// End says how it ended. It waits for Done.
func (j *Job) End() End {
	<-j.Done()
	return j.end
}

// Lines yields its events after number after, as they come, up to the end.
func (j *Job) Lines(ctx context.Context, after int64) iter.Seq2[journal.Line, error] {
	return func(yield func(journal.Line, error) bool) {
		j.readers.Add(1)
		defer j.readers.Add(-1)
		j.log.Lines(ctx, after)(yield)
	}
}

// Events returns the number of its newest event.
func (j *Job) Events() int64 {
	_, _, events := j.log.Size()
	return events
}

// Write writes to its stdin or types at its terminal. It waits until all is taken, the
// job ends or ctx is done, and returns how much was taken. Writes do not mix. Errors are
// ctx's, ErrStdinClosed and ErrEnded.
func (j *Job) Write(ctx context.Context, p []byte) (int, error) {
	if err := j.Writable(); err != nil {
		return 0, err
	}
	n, err := j.in.write(ctx, p)
	return n, j.explain(err)
}

// CloseStdin ends its input; at a terminal it types Ctrl-D.
func (j *Job) CloseStdin(ctx context.Context) error {
	if err := j.Writable(); err != nil {
		return err
	}
	return j.explain(j.in.end(ctx))
}

// Writable returns ErrStdinClosed where it never took input, and ErrEnded.
func (j *Job) Writable() error {
	if j.isDone() {
		return ErrEnded
	}
	if j.in == nil {
		return ErrStdinClosed
	}
	return nil
}

func (j *Job) explain(err error) error {
	if errors.Is(err, ErrStdinClosed) && j.isDone() {
		return ErrEnded
	}
	return err
}

func (j *Job) isDone() bool {
	select {
	case <-j.process.Done():
		return true
	default:
		return false
	}
}

// Signal sends a signal to its process group; SIGINT, SIGQUIT and SIGTSTP at a
// terminal to the job in the foreground. The error is ErrEnded where it has ended.
func (j *Job) Signal(sig syscall.Signal) error {
	err := j.process.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		return ErrEnded
	}
	return err
}

// Resize tells its terminal a new size. Errors are ErrNoTerminal and ErrEnded.
func (j *Job) Resize(size Size) error {
	if j.spec.Terminal == nil {
		return ErrNoTerminal
	}
	if j.isDone() {
		return ErrEnded
	}
	if err := j.process.Resize(size); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.size = &size
	return nil
}

// Kill ends it, and all that it started, by SIGKILL, also what it left behind when it
// ended. It returns when that is gone.
func (j *Job) Kill() error {
	j.process.kill()
	<-j.Done()
	return sweep(j.mark)
}

// Stop ends it, and all that it started, by SIGTERM, and by SIGKILL after the grace or
// when ctx is done. It returns when that is gone.
func (j *Job) Stop(ctx context.Context, grace time.Duration) error {
	err := j.stop(ctx, grace)
	<-j.Done()
	return err
}

func (j *Job) stop(ctx context.Context, grace time.Duration) error {
	j.process.Stop(ctx, grace)
	return sweep(j.mark)
}
