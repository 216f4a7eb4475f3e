package process

import (
	"fmt"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// children are those of this program that a Process waits for, and nobody else may. It
// is locked for reading by who makes or ends one, and for writing by who takes another's.
var children struct {
	sync.RWMutex
	owned sync.Map // from pid to *Process
}

// born runs what makes a child of p's and returns its pid.
func (p *Process) born(fork func() (int, error)) error {
	children.RLock()
	defer children.RUnlock()
	pid, err := fork()
	if err == nil {
		p.pid = pid
		children.owned.Store(pid, p)
	}
	return err
}

// claim makes a child p's own that another process made: one that lives, leads its
// session and its group, and is nobody's yet.
func (p *Process) claim(pid int) error {
	children.Lock()
	defer children.Unlock()
	s, ok := readStat(pid)
	switch _, taken := children.owned.Load(pid); {
	case pid <= 1 || !ok || s.parent != os.Getpid():
		return fmt.Errorf("process %d is no child of this one", pid)
	case s.state == 'Z' || s.state == 'X':
		return fmt.Errorf("process %d has ended", pid)
	case taken:
		return fmt.Errorf("process %d is known already", pid)
	case s.group != pid || s.session != pid:
		return fmt.Errorf("process %d leads no session of its own", pid)
	}
	p.pid = pid
	children.owned.Store(pid, p)
	return nil
}

// collect waits for p's child, which has ended, and lets go of its pid.
func (p *Process) collect() (status unix.WaitStatus, used unix.Rusage, err error) {
	children.RLock()
	defer children.RUnlock()
	err = unix.EINTR
	for err == unix.EINTR {
		_, err = unix.Wait4(p.pid, &status, 0, &used)
	}
	children.owned.CompareAndDelete(p.pid, p)
	return status, used, err
}

// EndOrphans kills all children that no Process waits for, and what they leave in turn: where
// somebody reaps, nothing that this program started escapes it. It gives up after pauses of 5 seconds.
func EndOrphans() error {
	left := untilQuiet(func() (n int) {
		for _, pid := range pids() {
			if signalIf(pid, unix.SIGKILL, false, func() bool { return isOrphan(pid) }) {
				n++
			}
		}
		return n
	})
	if left > 0 {
		return fmt.Errorf("cannot end %d orphans", left)
	}
	return nil
}

func isOrphan(pid int) bool {
	children.Lock() // nobody is on the way to be a Process
	defer children.Unlock()
	_, owned := children.owned.Load(pid)
	s, ok := readStat(pid)
	return ok && !owned && s.parent == os.Getpid() && s.state != 'Z' && s.state != 'X'
}

// reapers counts those who have called Reap.
var reapers atomic.Int32

// Reap waits for the children that this program did not start until stop is called: the
// orphans of a PID namespace are those of its first process, and another process is made
// the parent of all that its own descendants leave (PR_SET_CHILD_SUBREAPER of prctl(2)).
// Children that were started past this package, as by os/exec, it takes too: nobody else can
// wait for them.
func Reap() (stop func()) {
	if p, err := os.FindProcess(os.Getpid()); err == nil { // for which package os tries, once, what a child of its own can do
		p.Release()
		setSubreaper(reapers.Add(1))
	}
	signals, done, ended := make(chan os.Signal, 1), make(chan struct{}), make(chan struct{})
	signal.Notify(signals, unix.SIGCHLD)
	go func() {
		defer close(ended)
		for {
			reap()
			select {
			case <-signals: // there is one for what ends while reap runs
			case <-done:
				return
			}
		}
	}()
	return sync.OnceFunc(func() {
		signal.Stop(signals)
		close(done)
		<-ended
		setSubreaper(reapers.Add(-1))
	})
}

func setSubreaper(n int32) {
	if os.Getpid() != 1 {
		_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, uintptr(min(n, 1)), 0, 0, 0) // fails before Linux 3.4
	}
}

// reap waits for all children that have ended and are nobody's.
func reap() {
	children.Lock()
	defer children.Unlock()
	for _, pid := range pids() {
		if _, owned := children.owned.Load(pid); !owned {
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG|unix.WALL, nil) // ECHILD where it is another's
		}
	}
}
