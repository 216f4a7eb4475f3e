package local

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/fleet/local/cage"
)

// isolate gives the process the rest of its surroundings.
func isolate(c *setup) error {
	if err := unix.Sethostname([]byte(c.Hostname)); err != nil {
		return fmt.Errorf("cannot set the host name: %w", err)
	}
	// It has been moved into its groups only now, so that they could not be its namespace's from the start. Where it has
	// none, names of the host's are hidden still, if this Linux can.
	if err := everyThread(unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP, 0, 0, 0, 0); err != nil && c.Cgroups {
		return fmt.Errorf("cannot enter a cgroup namespace: %w", err)
	}
	return nil
}

// The capabilities that an agent goes on with: it starts and ends processes of the sandbox's user.
const agentCapabilities = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID | 1<<unix.CAP_KILL | 1<<unix.CAP_SYS_PTRACE

// agentID is the user and group of an agent that is not of the code's. It is not root inside, whom files of the host's root
// belong to.
const agentID = 999

// agentOf returns the id of the agent, user and group, of a sandbox whose code is that user and group.
func agentOf(code, group int) int {
	agent := agentID
	for agent == code || agent == group { // of an image
		agent--
	}
	return agent
}

// drop gives up what the agent does not need: it touches files as the user inside, and has of its
// capabilities those above, or none where it is that user.
func drop(c *setup) error {
	if err := everyThread(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot drop ambient capabilities: %w", err)
	}
	if err := everyThread(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil { // or root inside would have all again by an exec
		return fmt.Errorf("cannot forgo new privileges: %w", err)
	}
	if !c.SetUID {
		return capabilities(0, 0)
	}
	held := uint64(agentCapabilities)
	if c.Root { // what it starts as root has these, and no program can have more
		if err := boundCapabilities(cage.Root); err != nil {
			return err
		}
		held |= cage.Root
	}
	agent := uintptr(agentOf(c.UID, c.GID))
	for _, call := range [][4]uintptr{
		{unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0}, {unix.SYS_SETRESGID, agent, agent, agent}, {unix.SYS_SETRESUID, agent, agent, agent},
	} {
		if err := everyThread(call[0], call[1], call[2], call[3], 0, 0); err != nil {
			return fmt.Errorf("cannot become user %d: %w", agent, err)
		}
	}
	if err := capabilities(agentCapabilities, held); err != nil {
		return err
	}
	for _, call := range [][2]uintptr{{unix.SYS_SETFSGID, uintptr(c.GID)}, {unix.SYS_SETFSUID, uintptr(c.UID)}} { // which answer what was before
		if err := everyThread(call[0], call[1], 0, 0, 0, 0); err != nil {
			return fmt.Errorf("cannot become user %d for files: %w", c.UID, err)
		}
	}
	return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) // again, as fs.suid_dumpable says what it is after a change of users
}

// boundCapabilities has no program gain others than those of the set.
func boundCapabilities(keep uint64) error {
	for c := range uintptr(64) {
		if keep&(1<<c) != 0 {
			continue
		}
		err := everyThread(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) { // past the last one
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot bound capabilities: %w", err)
		}
	}
	return nil
}

// capabilities leaves the process those of the sets.
func capabilities(effective, permitted uint64) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{
		{Effective: uint32(effective), Permitted: uint32(permitted)},
		{Effective: uint32(effective >> 32), Permitted: uint32(permitted >> 32)},
	}
	if err := everyThread(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0, 0, 0); err != nil {
		return fmt.Errorf("cannot drop capabilities: %w", err)
	}
	return nil
}

// everyThread makes a system call on all threads of the process, as privileges are a thread's.
func everyThread(call, a, b, c, d, e uintptr) error {
	_, _, errno := syscall.AllThreadsSyscall6(call, a, b, c, d, e, 0)
	if errno != 0 && !errors.Is(errno, unix.ENOTSUP) {
		return errno
	}
	if errno != 0 {
		return errors.New("the program has been built with cgo: build it with CGO_ENABLED=0")
	}
	return nil
}
