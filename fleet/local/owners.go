package local

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// rootOf returns the namespace of newRootOf, which stays open.
func (r *Runtime) rootOf(base int) (*os.File, error) {
	if users, ok := r.owners.Load(base); ok {
		return users.(*os.File), nil
	}
	users, err := newRootOf(base)
	if err == nil {
		r.owners.Store(base, users)
	}
	return users, err
}

// disown closes what rootOf has kept.
func (r *Runtime) disown(base int) {
	if users, ok := r.owners.LoadAndDelete(base); ok {
		users.(*os.File).Close()
	}
}

// newRootOf returns a user namespace in which the host's root is the sandbox's, whose first id is given, and nobody
// else is anybody: by it the host's files are shown. By the sandbox's own one, files of the host's user 1000 would
// be those of the user inside, who could read what is that user's alone.
func newRootOf(base int) (*os.File, error) {
	runtime.LockOSThread() // whose process it is
	defer runtime.UnlockOSThread()
	one := []syscall.SysProcIDMap{{ContainerID: 0, HostID: base, Size: 1}}
	holder := exec.Command("/proc/self/exe")
	holder.Env, holder.Dir = []string{}, "/"
	// It is stopped before its first instruction, and ends with this program.
	holder.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER, UidMappings: one, GidMappings: one, Ptrace: true, Pdeathsig: unix.SIGKILL, Setsid: true,
	}
	if err := holder.Start(); err != nil {
		return nil, fmt.Errorf("cannot make a user namespace: %w", err)
	}
	defer func() {
		_ = holder.Process.Kill()
		_ = holder.Wait()
	}()
	return os.Open(fmt.Sprintf("/proc/%d/ns/user", holder.Process.Pid))
}
