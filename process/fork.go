package process

import (
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// execTime bounds the time from fork to exec: others in the sandbox can stop a process
// that is already of their user.
const execTime = 10 * time.Second

// image is what a process is to become, as system calls take it.
type image struct {
	path, dir  *byte // dir may be nil
	argv, envv []*byte
	files      [3]uintptr
	terminal   bool
	as         *Credential // nil: as this one
	news       uintptr     // where it writes the number of the error that kept it from it
}

// start starts the program on the thread. Package os would keep this whole program from
// running until the exec: a process that others in the sandbox may signal has to be on its own
// before. It is why the memory of this program is not shared with the process (CLONE_VM), not even for that while.
func (t *Thread) start(p *Process, path string, s *stdio) error {
	m, err := newImage(path, &p.command)
	if err != nil {
		return &os.PathError{Op: "fork/exec", Path: path, Err: err}
	}
	if err := s.fill(); err != nil {
		return err
	}
	m.as = t.as
	var news *os.File
	err = t.do(func() error { // one after the other, so that no process has what another's news comes by
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		defer w.Close()
		news, m.news = r, w.Fd()
		for i, f := range []*os.File{s.in, s.out, s.err} {
			if m.files[i] = f.Fd(); m.files[i] < 3 { // where what is copied would be copied over
				fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
				if err != nil {
					return err
				}
				defer unix.Close(fd)
				m.files[i] = uintptr(fd)
			}
		}
		return p.born(m.run)
	})
	if news != nil {
		defer news.Close()
	}
	runtime.KeepAlive(s)
	if err == nil {
		err = p.hear(news)
	}
	if err != nil {
		return &os.PathError{Op: "fork/exec", Path: path, Err: err}
	}
	return nil
}

func newImage(path string, c *Command) (m *image, err error) {
	m = &image{terminal: c.Terminal != nil || c.Control}
	var errs [4]error
	m.path, errs[0] = syscall.BytePtrFromString(path)
	m.argv, errs[1] = syscall.SlicePtrFromStrings(c.Args)
	m.envv, errs[2] = syscall.SlicePtrFromStrings(distinct(c.Env))
	if c.Dir != "" {
		m.dir, errs[3] = syscall.BytePtrFromString(c.Dir)
	}
	return m, errors.Join(errs[:]...)
}

// hear returns when the process has become what it was to be, or why it has not: then it is gone.
func (p *Process) hear(news *os.File) error {
	var number [4]byte
	_ = news.SetReadDeadline(time.Now().Add(execTime))
	n, err := news.Read(number[:])
	switch {
	case n == len(number):
		err = syscall.Errno(binary.NativeEndian.Uint32(number[:]))
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = errors.New("it was stopped before it began")
	default:
		return nil // the end of the file, as its descriptors are closed by the exec
	}
	_ = unix.Kill(p.pid, unix.SIGKILL)
	_, _, _ = p.collect()
	return err
}

// run forks the process.
func (m *image) run() (int, error) {
	syscall.ForkLock.Lock()
	pid, errno := m.fork()
	syscall.ForkLock.Unlock()
	if errno != 0 {
		return 0, errno
	}
	return int(pid), nil
}

// What package syscall does before and after a fork. The runtime promises to keep them.

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

//go:linkname afterForkInChild syscall.runtime_AfterForkInChild
func afterForkInChild()

// fork returns in this process only. The other one has a copy of the memory and of this
// thread alone: it can do nothing but system calls.
//
//go:noinline
//go:norace
//go:nocheckptr
func (m *image) fork() (pid uintptr, errno syscall.Errno) {
	var (
		step uintptr
		argv = uintptr(unsafe.Pointer(&m.argv[0]))
		envv = uintptr(unsafe.Pointer(&m.envv[0]))
		path = uintptr(unsafe.Pointer(m.path))
		dir  = uintptr(unsafe.Pointer(m.dir))
		fail int32
	)
	beforeFork()
	pid, _, errno = syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if pid != 0 || errno != 0 {
		afterFork()
		return pid, errno
	}
	afterForkInChild()

	if _, _, errno = syscall.RawSyscall(syscall.SYS_SETSID, 0, 0, 0); errno != 0 {
		goto failed
	}
	if m.as != nil {
		if _, _, errno = syscall.RawSyscall(syscall.SYS_SETGROUPS, 0, 0, 0); errno != 0 {
			goto failed
		}
		if _, _, errno = syscall.RawSyscall(syscall.SYS_SETGID, uintptr(m.as.GID), 0, 0); errno != 0 {
			goto failed
		}
		if _, _, errno = syscall.RawSyscall(syscall.SYS_SETUID, uintptr(m.as.UID), 0, 0); errno != 0 {
			goto failed
		}
		// Its memory is this program's: whatever the machine makes of a change of users, nobody may look.
		_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_DUMPABLE, 0, 0)
	}
	if dir != 0 {
		if _, _, errno = syscall.RawSyscall(syscall.SYS_CHDIR, dir, 0, 0); errno != 0 {
			goto failed
		}
	}
	for step = 0; step < 3; step++ {
		if _, _, errno = syscall.RawSyscall(syscall.SYS_DUP3, m.files[step], step, 0); errno != 0 {
			goto failed
		}
	}
	if m.terminal {
		if _, _, errno = syscall.RawSyscall(syscall.SYS_IOCTL, 0, uintptr(syscall.TIOCSCTTY), 1); errno != 0 {
			goto failed
		}
	}
	_, _, errno = syscall.RawSyscall(syscall.SYS_EXECVE, path, argv, envv)

failed:
	fail = int32(errno)
	_, _, _ = syscall.RawSyscall(syscall.SYS_WRITE, m.news, uintptr(unsafe.Pointer(&fail)), unsafe.Sizeof(fail))
	for {
		_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 253, 0, 0)
	}
}
