package local

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/fleet"
)

const namespaces = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS

// users are the ids of a sandbox.
type users struct {
	uids, gids []syscall.SysProcIDMap
	uid, gid   int  // of its first process, inside
	code       int  // of the code, inside
	group      int  // its group
	setUID     bool // the two are not the same
	helped     bool // the process is given them later, by mapIDs
}

// idsPerSandbox is the size of a sandbox's range of user ids, and of group ids.
const idsPerSandbox = 1 << 16

// rangeUsers gives a sandbox a range of ids of its own, which only root can.
func rangeUsers(base, code, group int) users {
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: base, Size: idsPerSandbox}}
	return users{uids: ids, gids: ids, code: code, group: group, setUID: true}
}

// oneUser makes the user of this process the user inside. There is no other.
func oneUser(code, group int) users {
	return users{
		uids: []syscall.SysProcIDMap{{ContainerID: code, HostID: os.Geteuid(), Size: 1}},
		gids: []syscall.SysProcIDMap{{ContainerID: group, HostID: os.Getegid(), Size: 1}},
		uid:  code, gid: group, code: code, group: group,
	}
}

// thisUser has all of a sandbox run as one user of the host.
func thisUser(uid, gid int) users { return users{uid: uid, gid: gid, code: uid, group: gid} }

// goSettings keep Go from keeping files of this process's control group open, and from getting ready for more than one core.
var goSettings = []string{"GODEBUG=containermaxprocs=0", "GOMAXPROCS=1"}

// controlFD is the descriptor that a first process is started with.
const controlFD = 3

// process is a sandbox's first process, as its parent sees it.
type process struct {
	cmd     *exec.Cmd
	pidfd   *os.File
	control control
	words   *tail // the end of what it wrote to stderr
	drained chan struct{}
}

// spawn starts the program as the first process of a sandbox that waits for
// its settings.
func (r *Runtime) spawn(level string, u users) (*process, error) {
	ours, theirs, err := controlPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	stderr, write, err := os.Pipe()
	if err != nil {
		ours.close()
		return nil, err
	}
	defer write.Close()
	p := &process{control: ours, words: &tail{}, drained: make(chan struct{})}
	pidfd := -1
	p.cmd = exec.Command(cmp.Or(r.options.Program, "/proc/self/exe"), r.command[1:]...)
	p.cmd.Args[0] = r.command[0]
	p.cmd.Dir = "/"
	p.cmd.Env = goSettings
	p.cmd.Stderr = write
	p.cmd.ExtraFiles = []*os.File{theirs} // controlFD
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd}
	if level == fleet.LevelNamespace {
		a := p.cmd.SysProcAttr
		a.Cloneflags = namespaces
		if !u.helped {
			a.UidMappings, a.GidMappings = u.uids, u.gids
			a.GidMappingsEnableSetgroups = u.setUID
		}
		if u.setUID && !u.helped {
			a.Credential = &syscall.Credential{Uid: uint32(u.uid), Gid: uint32(u.gid)}
		} else {
			a.AmbientCaps = allCapabilities() // which would else be lost by the exec
		}
	}
	if level != fleet.LevelNamespace && u.uid != os.Geteuid() {
		p.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(u.uid), Gid: uint32(u.gid)}
	}
	if err := p.start(u); err != nil {
		ours.close()
		stderr.Close()
		return nil, fmt.Errorf("cannot start the sandbox's first process: %w%s", err, hint(level, err))
	}
	if pidfd < 0 {
		err = errors.New("this Linux has no pidfd")
	} else if err = unix.SetNonblock(pidfd, true); err == nil {
		p.pidfd = os.NewFile(uintptr(pidfd), "pidfd")
	}
	if err != nil {
		ours.close()
		stderr.Close()
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		return nil, fmt.Errorf("cannot watch the sandbox's first process: %w", err)
	}
	go func() {
		defer close(p.drained)
		defer stderr.Close()
		_, _ = io.Copy(p.words, stderr)
	}()
	return p, nil
}

// hint tells what most times keeps a first process of a level from its start.
func hint(level string, err error) string {
	denied := errors.Is(err, unix.EPERM)
	switch {
	case level == fleet.LevelNamespace && (denied || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EUSERS) || errors.Is(err, unix.EINVAL)):
		return " (a container, a security module or a sysctl may refuse user namespaces)"
	case errors.Is(err, unix.EACCES) && os.Geteuid() == 0:
		return " (the program itself has to be one that all users can execute: chmod a+rx)"
	case denied && os.Geteuid() == 0:
		return " (root without the capabilities to become other users: an ordinary user needs none)"
	}
	return ""
}

// start starts the process, on a thread that ends then. What Linux counts for each user, such as watches of files, it
// also counts for who has made a user namespace: where root gives a sandbox ids of its own that is the first one of
// them, so that no sandbox can use up what all others and the host have.
func (p *process) start(u users) error {
	if !u.setUID || os.Geteuid() != 0 {
		return p.cmd.Start()
	}
	return onThread(func() error {
		const noFixup, same = 1 << 2, ^uintptr(0) // SECBIT_NO_SETUID_FIXUP: capabilities stay
		if err := unix.Prctl(unix.PR_SET_SECUREBITS, noFixup, 0, 0, 0); err != nil {
			return err
		}
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(u.uids[0].HostID), same); errno != 0 { // of this thread alone
			return errno
		}
		return p.cmd.Start()
	})
}

func allCapabilities() []uintptr {
	var all []uintptr
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); err == nil { // known to this kernel
			all = append(all, c)
		}
	}
	return all
}
