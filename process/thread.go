package process

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Thread is an operating system thread that has entered a confinement for good, such as
// no_new_privs, a seccomp filter and a Landlock domain: every process that is started on
// it inherits that, and the rest of this program stays outside. Its methods are safe
// for concurrent use.
type Thread struct {
	// OOM, where set before anything is started, is the file that counts what the out-of-memory killer does to what is
	// started: memory.events of a cgroup, or memory.oom_control. Nil: that of this program's cgroup, if it is in sight.
	OOM *os.File

	as    *Credential
	work  chan func()
	ended chan struct{}
	end   sync.Once
}

// Credential is whom processes run as, with no supplementary groups.
type Credential struct{ UID, GID uint32 }

// NewThread makes a thread and has it run enter, once. What is started on it then runs
// as the given user; nil is this program's own. It must be closed.
func NewThread(enter func() error, as *Credential) (*Thread, error) {
	t := &Thread{as: as, work: make(chan func()), ended: make(chan struct{})}
	entered := make(chan error)
	go t.run(enter, entered) // ends with Close
	if err := <-entered; err != nil {
		return nil, fmt.Errorf("cannot confine a thread: %w", err)
	}
	return t, nil
}

// run has the thread for itself: it is never unlocked, so that it ends with the goroutine.
// It is not the first one, by which others see and find the whole program.
func (t *Thread) run(enter func() error, entered chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() {
		taken := make(chan error)
		go t.run(func() error { taken <- nil; return enter() }, entered)
		<-taken // that one has another thread, as this one's is locked
		runtime.UnlockOSThread()
		return
	}
	err := enter()
	entered <- err
	if err != nil {
		return
	}
	for {
		select {
		case do := <-t.work:
			do()
		case <-t.ended:
			return
		}
	}
}

// do runs f on the thread.
func (t *Thread) do(f func() error) (err error) {
	done := make(chan struct{})
	select {
	case t.work <- func() { err = f(); close(done) }:
		<-done
		return err
	case <-t.ended:
		return errors.New("its thread has ended")
	}
}

// Do runs f on the thread, and returns its error. What f starts goroutines for is done elsewhere.
func (t *Thread) Do(f func() error) error {
	var failed any
	err := t.do(func() error {
		defer func() { failed = recover() }() // it is the caller's, who may know what to do
		return f()
	})
	if failed != nil {
		panic(failed)
	}
	return err
}

// look runs f, which looks at files, as who is to use them then: root may see more than this program.
func (t *Thread) look(f func() error) error {
	if t == nil || t.as == nil || t.as.UID != 0 {
		return f()
	}
	return t.do(f)
}

// Close ends the thread: nothing can be started on it any more. What was goes on.
func (t *Thread) Close() { t.end.Do(func() { close(t.ended) }) }

// give makes a terminal the user's that commands on the thread run as.
func (t *Thread) give(terminal *os.File) error {
	if t == nil || t.as == nil || t.as.UID == 0 { // who may use any
		return nil
	}
	info, err := terminal.Stat()
	if err != nil {
		return err
	}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok && sys.Uid == t.as.UID {
		return nil
	}
	return terminal.Chown(int(t.as.UID), -1) // its group is the system's choice
}
