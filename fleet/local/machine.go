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
	"time"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/fleet/local/cgroup"
	"github.com/k2sandbox/k2sandbox/fleet/local/network"
)

// machine is a sandbox that runs.
type machine struct {
	runtime *Runtime
	dir     string // its directory on the host; "" while it waits
	users   users
	record  record
	image   *template // of an image; nil where there is none, or an earlier server made it
	waits   bool      // it was made to wait to be somebody's
	process *process  // nil where an earlier server started it
	pidfd   *os.File
	group   *cgroup.Group  // nil where there are none
	forked  *os.File       // the zygote's end of the socket to the agent, until it has it
	theirs  *os.File       // the agent's end, until it has it
	disk    *disk          // nil where there is none, or an earlier server made it
	stack   *network.Stack // nil for a sandbox without network

	refusals <-chan fleet.Refusal // of the stack

	life context.Context // ends when Kill begins
	stop context.CancelFunc
	work sync.WaitGroup // what goes on meanwhile

	done chan struct{}
	exit fleet.Exit // written before done is closed

	kill sync.Mutex
	gone bool // all of it
}

func (r *Runtime) machine() *machine {
	m := &machine{runtime: r, done: make(chan struct{})}
	m.life, m.stop = context.WithCancel(context.Background())
	return m
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

// watch waits for the first process to end, in a goroutine of its own. Until placed is closed its number stays its own.
func (m *machine) watch(placed <-chan struct{}) {
	defer close(m.done)
	waitFor(m.pidfd)
	m.exit = fleet.Exit{Code: -1} // only its parent is told more
	if m.process != nil {
		<-placed
		_ = m.process.cmd.Wait()
		m.exit = exitOf(m.process.cmd.ProcessState)
		<-m.process.drained
	}
	m.exit.OOM = m.outOfMemory()
	if m.life.Err() == nil && m.process != nil && m.exit.Code != 0 && !m.runtime.closed.Load() { // not by Kill, of this process or the next
		m.runtime.options.Log.Warn("the agent of a sandbox has ended", "name", m.record.Name, "exit", m.exit, "stderr", m.process.words.String())
	}
}

// outOfMemory reports whether the kernel has killed processes of the sandbox for its memory, which
// then also ended the first one.
func (m *machine) outOfMemory() bool {
	if m.group == nil || m.exit.Signal != "SIGKILL" && m.process != nil {
		return false
	}
	kills, _ := m.group.OOMKills()
	return kills > 0
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
	_ = conn.Read(readable)
}

func readable(fd uintptr) bool {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(poll, 0)
	return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
}

// ended reports whether the process of a pidfd has ended, even if its parent has not been told.
func ended(pidfd *os.File) (is bool) {
	conn, err := pidfd.SyscallConn()
	if err == nil {
		err = conn.Control(func(fd uintptr) { is = readable(fd) })
	}
	return is || err != nil
}

// Kill implements fleet.Machine.
func (m *machine) Kill() error {
	m.kill.Lock()
	defer m.kill.Unlock()
	if m.gone {
		return nil
	}
	err := m.endProcesses()
	if !errors.Is(err, errAlive) {
		err = errors.Join(err, m.release())
	}
	m.gone = err == nil
	return err
}

// endProcesses ends all processes of the sandbox.
func (m *machine) endProcesses() error {
	m.stop()
	var failed error
	if m.record.Level != fleet.LevelNamespace && m.group == nil {
		failed = m.killTree()
	}
	if m.pidfd == nil { // it has not come so far
		return failed
	}
	select {
	case <-m.done:
	default:
		// The end of a pid namespace's first process ends all of them, and comes after theirs.
		if err := signalProcess(m.pidfd, unix.SIGKILL); err != nil {
			return fmt.Errorf("cannot kill the sandbox's first process: %w", err)
		}
	}
	if m.group != nil { // where frozen processes die, too, and what was on its way in
		failed = m.group.Kill()
	}
	select {
	case <-m.done:
		return failed
	case <-time.After(endTimeout): // as where nobody reaps orphans, or a disk does not answer
		return errors.Join(failed, errAlive)
	}
}

// endTimeout is how long processes may take to end once they are killed.
const endTimeout = 10 * time.Second

var errAlive = errors.New("the sandbox's processes do not end")

// release lets go of all that this process has for the sandbox, and removes the rest.
func (m *machine) release() error {
	m.work.Wait()
	m.runtime.machines.Delete(m)
	for _, f := range []*os.File{m.forked, m.theirs, m.pidfd} {
		if f != nil {
			f.Close()
		}
	}
	if m.process != nil {
		m.process.control.close()
	}
	var all sync.WaitGroup
	var network, rest error
	all.Go(func() {
		if m.stack != nil {
			network = m.stack.Close()
		}
	})
	if m.disk != nil {
		all.Go(func() {
			m.disk.discard()
			m.disk.close()
		})
	}
	rest = m.runtime.remove(&m.record, m.group, m.dir)
	all.Wait()
	if m.image != nil && rest == nil {
		m.image.users.Add(-1)
		m.image = nil
	}
	return errors.Join(network, rest)
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
func (m *machine) Pause(context.Context) error {
	if err := m.runtime.guard(); err != nil {
		return err
	}
	return m.freeze((*cgroup.Group).Freeze)
}

// Resume implements fleet.Machine.
func (m *machine) Resume(context.Context) error { return m.freeze((*cgroup.Group).Thaw) }

func (m *machine) freeze(how func(*cgroup.Group) error) error {
	if m.group == nil {
		return fleet.ErrUnsupported
	}
	err := how(m.group)
	if errors.Is(err, cgroup.ErrUnsupported) {
		return fleet.ErrUnsupported
	}
	return err
}

// Usage implements fleet.Machine.
func (m *machine) Usage() (fleet.Usage, error) {
	u := fleet.Usage{Memory: -1, Peak: -1, CPU: -1, Pids: -1, Disk: m.diskUsage(), OOMKill: -1, Received: -1, Sent: -1}
	if m.stack != nil {
		u.Received, u.Sent = m.stack.Traffic()
	}
	if m.group == nil {
		return u, nil
	}
	known := func(n int64, ok bool) int64 {
		if !ok {
			return -1
		}
		return n
	}
	u.Memory, u.Peak = known(m.group.Memory()), known(m.group.MemoryPeak())
	u.Pids, u.OOMKill = known(m.group.Pids()), known(m.group.OOMKills())
	if cpu, ok := m.group.CPU(); ok {
		u.CPU = cpu
	}
	return u, nil
}

// diskUsage tells how much of the sandbox's file system is in use, or -1.
func (m *machine) diskUsage() int64 {
	if m.record.Level != fleet.LevelNamespace {
		return -1
	}
	var fs unix.Statfs_t
	err := unix.Statfs(fmt.Sprintf("/proc/%d/root", m.record.PID), &fs)
	if err != nil || ended(m.pidfd) { // and the number may be another process's
		return -1
	}
	return int64(fs.Blocks-fs.Bfree) * fs.Bsize
}
