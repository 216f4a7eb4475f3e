// Package cage takes from a thread, and from all that is started on it, what code that is
// not trusted has no business with: privileges gained by an exec, system calls that reach
// deep into the kernel, and files beyond those named. Nothing gives it back.
package cage

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Rules say what is taken. The zero value takes nothing.
type Rules struct {
	// NoNewPrivs has set-user-ID programs, such as sudo, run as who starts them.
	// Without it Seccomp and Landlock need CAP_SYS_ADMIN.
	NoNewPrivs bool `json:"no_new_privs"`
	// Seccomp refuses the system calls that Filter does not let through.
	Seccomp bool `json:"seccomp"`
	// Landlock refuses the file system, but for what lies beneath the paths of Read, which may be
	// read and executed, and of Write, which may be changed, too. Those that do not exist are passed over.
	Landlock bool     `json:"landlock"`
	Read     []string `json:"read,omitempty"`
	Write    []string `json:"write,omitempty"`
	// Scoped, a part of Landlock, refuses signals and abstract unix sockets that lead out of the cage.
	Scoped bool `json:"scoped"`
	// NoCaps gives up all capabilities, also those that a program of root would have.
	NoCaps bool `json:"no_caps"`
	// Caps, where it is not 0, are the capabilities that the thread has from then on, of those that it may have.
	Caps uint64 `json:"caps,omitempty"`
	// AnyUser has EnterProcess let threads become any user.
	AnyUser bool `json:"any_user,omitempty"`
	// Rlimits bound the process, by resource number (RLIMIT_NOFILE is 7), soft and hard. Enter
	// leaves them alone, as they are not of a thread; EnterProcess and SetRlimits set them. RLIMIT_CORE is to be 1: it is the one
	// value with which Linux starts no program of the host's kernel.core_pattern for what crashes, and Seccomp keeps it.
	Rlimits map[int]uint64 `json:"rlimits,omitempty"`
}

// Enter puts the thread that calls it, and what it starts from now on, into the cage. The
// caller has locked its goroutine to the thread, and never unlocks it. After an error
// the thread is of no use.
func (r Rules) Enter() error {
	if r.NoCaps {
		if err := dropCapabilities(); err != nil {
			return fmt.Errorf("cannot drop capabilities: %w", err)
		}
	}
	if r.Caps != 0 {
		if err := setCapabilities(r.Caps); err != nil {
			return fmt.Errorf("cannot take capabilities: %w", err)
		}
	}
	if r.NoNewPrivs {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("cannot set no_new_privs: %w", err)
		}
	}
	if r.Landlock {
		if err := r.landlock(); err != nil {
			return fmt.Errorf("cannot restrict files by Landlock: %w", err)
		}
	}
	if r.Seccomp {
		if err := seccomp(); err != nil {
			return fmt.Errorf("cannot restrict system calls: %w", err)
		}
	}
	return nil
}

// EnterProcess puts this whole process, which does more than code may and could be taken over by it, under as much of the
// rules as it can do with: Rlimits and Seccomp, by which moreover, but for AnyUser, no thread becomes another user or
// group than these. What is started from now on is under that, too, so that Enter need not say it again. All threads have no_new_privs.
func (r Rules) EnterProcess(uid, gid int) error {
	if err := r.SetRlimits(); err != nil || !r.Seccomp {
		return err
	}
	beyond := onlyUser(uint32(uid), uint32(gid))
	if r.AnyUser {
		beyond = nil
	}
	raw, err := assemble(filter(beyond))
	if err == nil {
		err = install(raw, unix.SECCOMP_FILTER_FLAG_TSYNC)
	}
	if err != nil {
		return fmt.Errorf("cannot restrict the system calls of this process: %w", err)
	}
	return nil
}

// SetRlimits sets the rules' limits for this process. One that is above the hard limit and
// cannot be raised stays at that.
func (r Rules) SetRlimits() error {
	for resource, value := range r.Rlimits {
		err := unix.Setrlimit(resource, &unix.Rlimit{Cur: value, Max: value})
		if errors.Is(err, unix.EPERM) {
			var now unix.Rlimit
			if err = unix.Getrlimit(resource, &now); err == nil && now.Max <= value {
				err = unix.Setrlimit(resource, &unix.Rlimit{Cur: now.Max, Max: now.Max})
			}
		}
		if err != nil {
			return fmt.Errorf("cannot set resource limit %d to %d: %w", resource, value, err)
		}
	}
	return nil
}

// Probe tells, for each part of a cage, why it cannot be had here; nil where it can.
func Probe() map[string]error {
	return map[string]error{"seccomp": probeSeccomp(), "landlock": probeLandlock()}
}

// dropCapabilities empties all five sets of the thread.
func dropCapabilities() error {
	for c := uintptr(0); c <= 63; c++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) { // past the last one
			break
		}
		if errors.Is(err, unix.EPERM) { // nothing that an exec could give without CAP_SETPCAP
			break
		}
		if err != nil {
			return err
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return setCapabilities(0)
}

// setCapabilities gives the thread those of the set, and has no program inherit them: one of root's has them by itself.
func setCapabilities(set uint64) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{
		{Effective: uint32(set), Permitted: uint32(set)},
		{Effective: uint32(set >> 32), Permitted: uint32(set >> 32)},
	}
	return unix.Capset(&header, &data[0])
}

// Root are the capabilities of root in a sandbox whose template has one: what it takes to install and set up programs, and none
// that changes what is mounted, the network or devices, or looks into other processes.
const Root = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID | 1<<unix.CAP_KILL |
	1<<unix.CAP_SETGID | 1<<unix.CAP_SETUID | 1<<unix.CAP_NET_BIND_SERVICE | 1<<unix.CAP_SETFCAP
