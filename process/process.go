package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// drainTime bounds how long Done waits, after the exit, for output that is
// still in the pipes. It is only waited for when a descendant holds them open.
const drainTime = 100 * time.Millisecond

// Exit says how a process ended.
type Exit struct {
	Code   int    // exit status; -1 where a signal ended it
	Signal string // such as "SIGKILL"; "" where it exited by itself
	OOM    bool   // the kernel's out-of-memory killer most likely did it
}

// Process is a process that was started. Its methods are safe for concurrent
// use. It must be closed.
type Process struct {
	cmd      *exec.Cmd
	command  Command
	oom      oomCounter
	pipes    []*os.File // our ends of its output and input
	outputs  []*output
	terminal *os.File // our end; nil where it has none
	theirs   *os.File // its other end: open while the process lives, it may close and open it as it likes
	done     chan struct{}
	exit     Exit // written before done is closed

	mu       sync.Mutex
	stopping bool // by Stop or Close: all of its session is to end
	reaped   bool // its pid may belong to another process from here on
	killed   bool // we sent it SIGKILL
}

// Start starts the command in a session and process group of its own.
func Start(c Command) (*Process, error) {
	if len(c.Args) == 0 || c.Args[0] == "" {
		return nil, errors.New("cannot start process: no command")
	}
	if err := enterable(c.Dir); err != nil {
		return nil, fmt.Errorf("cannot start process: %w: %w", ErrDirectory, err)
	}
	path, err := lookPath(c.Args[0], c.Env, c.Dir)
	if err != nil {
		return nil, fmt.Errorf("cannot start process: %w: %w", ErrProgram, err)
	}
	if c.Guard != nil {
		c.Env = c.Guard.mark(c.Env)
	}
	p := &Process{command: c, done: make(chan struct{})}
	p.cmd = &exec.Cmd{
		Path: path, Args: c.Args, Dir: c.Dir, Env: append([]string{}, c.Env...),
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Setctty: c.Terminal != nil}, // of descriptor 0
	}
	if err := p.start(); err != nil {
		p.closePipes()
		return nil, fmt.Errorf("cannot start process: %w", err)
	}
	go p.wait()
	return p, nil
}

// start connects the three descriptors and starts the command.
func (p *Process) start() error {
	var theirs []*os.File
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
	}()
	var feed func()
	var err error
	if p.command.Terminal != nil {
		err = p.connectTerminal()
	} else {
		theirs, feed, err = p.connectPipes()
	}
	if err != nil {
		return err
	}
	p.oom = newOOMCounter()
	if err := p.cmd.Start(); err != nil {
		if isOfProgram(err) {
			return fmt.Errorf("%w: %w", ErrProgram, err)
		}
		return err
	}
	p.cmd.Args, p.cmd.Env, p.command.Args, p.command.Env = nil, nil, nil, nil // which may be large
	if p.command.Guard != nil {
		p.command.Guard.watch(p.Pid())
	}
	for _, o := range p.outputs {
		go o.copy() // ends with the output, or once its pipe is closed
	}
	if feed != nil {
		go feed() // ends with its reader, or once its pipe is closed
	}
	return nil
}

func (p *Process) connectTerminal() error {
	ours, theirs, err := openTerminal(*p.command.Terminal)
	if err != nil {
		return err
	}
	p.terminal, p.theirs, p.pipes = ours, theirs, append(p.pipes, ours, theirs)
	p.outputs = append(p.outputs, newOutput(ours, p.command.Stdout))
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = theirs, theirs, theirs
	return nil
}

// connectPipes returns their ends of the pipes, also where it fails, and what feeds stdin.
func (p *Process) connectPipes() (theirs []*os.File, feed func(), err error) {
	output := func(w io.Writer) (io.Writer, error) {
		if f, ok := w.(*os.File); ok || w == nil {
			if f == nil {
				return nil, nil // exec opens /dev/null
			}
			return f, nil
		}
		r, child, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		theirs, p.pipes = append(theirs, child), append(p.pipes, r)
		p.outputs = append(p.outputs, newOutput(r, w))
		return child, nil
	}
	if p.cmd.Stdout, err = output(p.command.Stdout); err != nil {
		return theirs, nil, err
	}
	if p.cmd.Stderr, err = output(p.command.Stderr); err != nil {
		return theirs, nil, err
	}
	in := p.command.Stdin
	if f, ok := in.(*os.File); ok || in == nil {
		if f != nil {
			p.cmd.Stdin = f
		}
		return theirs, nil, nil
	}
	child, w, err := os.Pipe()
	if err != nil {
		return theirs, nil, err
	}
	p.cmd.Stdin, p.pipes = child, append(p.pipes, w)
	return append(theirs, child), func() { io.Copy(w, in); w.Close() }, nil
}

// wait collects the exit. The pid stays ours, as a zombie, until p.mu is held:
// no signal can ever reach a process that got the same number later.
func (p *Process) wait() {
	awaitExit(p.Pid())
	p.linger()
	p.mu.Lock()
	stopping := p.stopping
	p.mu.Unlock()
	if p.command.KillGroup || stopping {
		unix.Kill(-p.Pid(), unix.SIGKILL)
	}
	if stopping {
		killSession(p.Pid()) // jobs of a shell have groups of their own
	}
	p.mu.Lock()
	p.cmd.Wait() // what it can tell is in ProcessState
	p.reaped = true
	killed := p.killed
	p.mu.Unlock()
	if p.theirs != nil {
		p.theirs.Close()
	}
	if p.command.Guard != nil {
		p.command.Guard.unwatch(p.Pid())
	}

	status := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	p.exit = Exit{Code: status.ExitStatus()}
	if status.Signaled() {
		p.exit.Signal = signalName(status.Signal())
		p.exit.OOM = status.Signal() == unix.SIGKILL && !killed && p.oom.grew()
	}
	p.drain()
	close(p.done)
}

// linger keeps the leader a zombie, and with it the group's number ours, while others
// of the group have what is left of Stop's grace to end.
func (p *Process) linger() {
	for pause := time.Millisecond; p.hasGrace() && groupLives(p.Pid()); pause = min(2*pause, 50*time.Millisecond) {
		time.Sleep(pause)
	}
}

func (p *Process) hasGrace() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stopping && !p.killed && !p.command.KillGroup
}

// drain waits for all that was written before the exit, and, where a descendant holds
// the output open, a little longer for what that adds.
func (p *Process) drain() {
	late := time.After(drainTime)
	for _, o := range p.outputs {
		<-o.upToNow()
	}
	for _, o := range p.outputs {
		select {
		case <-o.done:
		case <-late:
			return
		}
	}
}

// awaitExit blocks until the child is a zombie and leaves it one. It takes a
// descriptor for that or, before Linux 5.10, a thread.
func awaitExit(pid int) {
	if fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK); err == nil {
		f := os.NewFile(uintptr(fd), "pidfd")
		defer f.Close()
		conn, err := f.SyscallConn()
		if err == nil && conn.Read(func(uintptr) bool { return exited(pid, unix.WNOHANG) }) == nil {
			return
		}
	}
	for !exited(pid, 0) {
	}
}

// exited reports whether the child is a zombie; false may be for an interrupt.
func exited(pid, options int) bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT|options, nil)
	return err == nil && info.Signo != 0 || err != nil && err != unix.EINTR
}

// Pid returns the process's id, which is also that of its group and session.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed once the process has exited and its output was taken over,
// save what a descendant may still write.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit says how the process ended. It waits for Done.
func (p *Process) Exit() Exit {
	<-p.done
	return p.exit
}

// Signal sends the signal to the process group; SIGINT, SIGQUIT and SIGTSTP of one
// with a terminal to the job in its foreground, as the keys would. It returns
// os.ErrProcessDone when the process has ended.
func (p *Process) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return os.ErrProcessDone
	}
	if sig == unix.SIGKILL {
		p.killed = true
	}
	if p.terminal != nil && signalForeground(p.terminal, sig) {
		return nil
	}
	err := unix.Kill(-p.Pid(), sig)
	if err == unix.ESRCH { // it left its group
		err = unix.Kill(p.Pid(), sig)
	}
	if err != nil {
		return fmt.Errorf("cannot signal process %d: %w", p.Pid(), err)
	}
	return nil
}

// Stop ends the process group: SIGTERM, and SIGKILL if it has not ended, all of it,
// after the grace or when ctx is done. It returns when it has ended.
func (p *Process) Stop(ctx context.Context, grace time.Duration) {
	if grace > 0 && p.terminate() == nil {
		select {
		case <-p.done:
		case <-ctx.Done():
		case <-time.After(grace):
		}
	}
	p.kill()
	<-p.done
}

// kill kills the group, and when the leader has ended what is left of its session.
func (p *Process) kill() {
	p.mu.Lock()
	p.stopping = true
	p.mu.Unlock()
	p.Signal(unix.SIGKILL)
}

// terminate asks the group to end. A shell at a terminal does not mind SIGTERM, but
// that the line was hung up.
func (p *Process) terminate() error {
	p.mu.Lock()
	p.stopping = true
	p.mu.Unlock()
	if p.terminal != nil {
		p.Signal(unix.SIGHUP)
	}
	return p.Signal(unix.SIGTERM)
}

// Close kills the process group and the session that it leads, waits for its end and
// for the writers of its output to return, and lets go of that, whoever may still write.
// Only the Guard reaches descendants that left the session.
func (p *Process) Close() {
	p.kill()
	<-p.done
	p.closePipes()
	for _, o := range p.outputs {
		<-o.done
	}
}

func (p *Process) closePipes() {
	for _, f := range p.pipes {
		f.Close()
	}
}
