package process

import (
	"context"
	"errors"
	"fmt"
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
	pid      int
	command  Command
	oom      oomCounter
	pipes    []*os.File // our ends of its output and input
	outputs  []*output
	terminal *os.File // our end; nil where it has none
	theirs   *os.File // its other end: open while the process lives, it may close and open it as it likes
	done     chan struct{}
	exit     Exit          // written before done is closed
	cpu      time.Duration // likewise
	peak     int64         // likewise: resident bytes, of it or of a child that it waited for

	mu       sync.Mutex
	stopping bool // by Stop or Close: all of its session is to end
	reaped   bool // its pid may belong to another process from here on
	killed   bool // we sent it SIGKILL
	meter    *meter
}

// Start starts the command in a session and process group of its own.
func Start(c Command) (*Process, error) {
	if len(c.Args) == 0 || c.Args[0] == "" {
		return nil, errors.New("cannot start process: no command")
	}
	if err := c.On.look(func() error { return enterable(c.Dir) }); err != nil {
		return nil, fmt.Errorf("cannot start process: %w: %w", ErrDirectory, err)
	}
	if c.Guard != nil {
		c.Env = c.Guard.mark(c.Env)
	}
	p := &Process{command: c, done: make(chan struct{})}
	if err := p.start(); err != nil {
		p.closePipes()
		return nil, fmt.Errorf("cannot start process: %w", err)
	}
	go p.wait()
	return p, nil
}

// start connects the three descriptors and starts the command.
func (p *Process) start() error {
	var s stdio
	defer s.close()
	var feed func()
	var err error
	if p.command.Terminal != nil {
		err = p.connectTerminal(&s)
	} else {
		feed, err = p.connectPipes(&s)
	}
	if err != nil {
		return err
	}
	p.oom = newOOMCounter(p.command.On)
	if p.command.Fork != nil {
		err = p.fork(&s)
	} else {
		err = p.exec(&s)
	}
	if err != nil {
		return err
	}
	p.command.Args, p.command.Env, p.command.Fork = nil, nil, nil // which may be large
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

// exec executes the program in a new process, on the command's thread.
func (p *Process) exec(s *stdio) error {
	c := &p.command
	var path string
	err := c.On.look(func() (err error) {
		path, err = lookPath(c.Args[0], c.Env, c.Dir)
		return err
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProgram, err)
	}
	if c.On != nil {
		err = c.On.start(p, path, s)
	} else {
		err = p.spawn(path, s)
	}
	if err != nil && isOfProgram(err) {
		return fmt.Errorf("%w: %w", ErrProgram, err)
	}
	return err
}

// spawn executes the program in a new process, which package os starts.
func (p *Process) spawn(path string, s *stdio) error {
	c := &p.command
	cmd := exec.Cmd{
		Path: path, Args: c.Args, Dir: c.Dir, Env: append([]string{}, c.Env...),
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Setctty: c.Terminal != nil || c.Control}, // of descriptor 0
	}
	if s.in != nil { // exec opens /dev/null where there is none
		cmd.Stdin = s.in
	}
	if s.out != nil {
		cmd.Stdout = s.out
	}
	if s.err != nil {
		cmd.Stderr = s.err
	}
	return p.born(func() (int, error) {
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		pid := cmd.Process.Pid
		return pid, cmd.Process.Release() // to wait for it is ours
	})
}

// fork has another process make the new one.
func (p *Process) fork(s *stdio) error {
	if err := s.fill(); err != nil {
		return err
	}
	pid, err := p.command.Fork(p.command.Env, s.in, s.out, s.err)
	if err == nil {
		if err = p.claim(pid); err != nil {
			signalIf(pid, unix.SIGKILL, false, func() bool { return isOrphan(pid) }) // it would go on as what somebody else is to be now
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFork, err)
	}
	return nil
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
	status, used, err := p.collect()
	p.reaped = true
	p.meter.close()
	killed := p.killed
	p.mu.Unlock()
	if p.theirs != nil {
		p.theirs.Close()
	}
	if p.command.Guard != nil {
		p.command.Guard.unwatch(p.Pid())
	}

	p.exit = Exit{Code: status.ExitStatus()}
	p.cpu = time.Duration(used.Utime.Nano() + used.Stime.Nano())
	p.peak = used.Maxrss << 10
	if err != nil { // somebody else has waited for it
		p.exit.Code = -1
	} else if status.Signaled() {
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
		if p.command.Terminal != nil {
			o.drainTerminal()
		} else {
			<-o.upToNow()
		}
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
func (p *Process) Pid() int { return p.pid }

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
