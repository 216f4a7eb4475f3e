package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/fleet"
)

// machine is a sandbox that runs.
type machine struct {
	runtime *Runtime
	dir     string // its directory on the host
	record  record
	process *process // nil where an earlier server started it
	pidfd   *os.File

	done chan struct{}
	exit fleet.Exit // written before done is closed

	kill    sync.Once
	killErr error
}

// Record implements fleet.Machine.
func (m *machine) Record() json.RawMessage {
	text, _ := json.Marshal(m.record) // cannot fail
	return text
}

// Dial implements fleet.Machine.
func (m *machine) Dial(ctx context.Context) (net.Conn, error) {
	path, release, err := shortPath(m.dir, socketFile)
	if err != nil {
		return nil, err
	}
	defer release()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("cannot reach the agent: %w", err)
	}
	return conn, nil
}

// Limits implements fleet.Machine.
func (m *machine) Limits() fleet.Limits { return m.record.Limits }

// Isolation implements fleet.Machine.
func (m *machine) Isolation() fleet.Isolation { return m.record.Isolation }

// Done implements fleet.Machine.
func (m *machine) Done() <-chan struct{} { return m.done }

// Exit implements fleet.Machine.
func (m *machine) Exit() fleet.Exit {
	<-m.done
	return m.exit
}

// watch waits for the first process to end, in a goroutine of its own.
func (m *machine) watch() {
	defer close(m.done)
	waitFor(m.pidfd)
	m.exit = fleet.Exit{Code: -1} // only its parent is told
	if m.process != nil {
		_ = m.process.cmd.Wait()
		m.exit = exitOf(m.process.cmd.ProcessState)
		<-m.process.drained
	}
}

func exitOf(s *os.ProcessState) fleet.Exit {
	status, ok := s.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		return fleet.Exit{Code: -1, Signal: unix.SignalName(status.Signal())}
	}
	return fleet.Exit{Code: s.ExitCode()}
}

// waitFor waits until the process of a pidfd has ended. It blocks no thread.
func waitFor(pidfd *os.File) {
	conn, err := pidfd.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
}

// Kill implements fleet.Machine.
func (m *machine) Kill() error {
	m.kill.Do(func() { m.killErr = m.end() })
	return m.killErr
}

func (m *machine) end() error {
	if m.pidfd != nil {
		// The end of a pid namespace's first process ends all of them, and comes after theirs.
		if err := signalProcess(m.pidfd, unix.SIGKILL); err != nil {
			return fmt.Errorf("cannot kill the sandbox's first process: %w", err)
		}
		<-m.done
		m.pidfd.Close()
	}
	if m.process != nil {
		m.process.control.close()
	}
	return m.runtime.remove(&m.record, m.dir)
}

func signalProcess(pidfd *os.File, sig syscall.Signal) error {
	conn, err := pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := conn.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), sig, nil, 0) }); err != nil {
		return err
	}
	if errors.Is(sent, unix.ESRCH) {
		return nil
	}
	return sent
}

const socketFile = "agent.sock"

// shortPath returns a path to a file in the directory that is short enough for the address of a
// unix socket, and tells nothing of where the directory is; release ends it.
func shortPath(dir, name string) (path string, release func(), err error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return filepath.Join("/proc/self/fd", fmt.Sprint(fd), name), func() { unix.Close(fd) }, nil
}

// Pause implements fleet.Machine.
func (m *machine) Pause(context.Context) error { return fleet.ErrUnsupported }

// Resume implements fleet.Machine.
func (m *machine) Resume(context.Context) error { return fleet.ErrUnsupported }

// Usage implements fleet.Machine.
func (m *machine) Usage() (fleet.Usage, error) {
	return fleet.Usage{Memory: -1, CPU: -1, Pids: -1, Disk: -1, OOMKill: -1}, nil
}
