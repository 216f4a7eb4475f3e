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
)

const namespaces = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS

// users are the ids of a sandbox.
type users struct {
	uids, gids []syscall.SysProcIDMap
	uid, gid   int  // of its first process, inside
	code       int  // of the code, inside
	setUID     bool // the two are not the same
}

// idsPerSandbox is the size of a sandbox's range of user ids, and of group ids.
const idsPerSandbox = 1 << 16

// rangeUsers gives a sandbox a range of ids of its own, which only root can.
func rangeUsers(base int) users {
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: base, Size: idsPerSandbox}}
	return users{uids: ids, gids: ids, code: userID, setUID: true}
}

// oneUser makes the user of this process the user inside. There is no other.
func oneUser() users {
	return users{
		uids: []syscall.SysProcIDMap{{ContainerID: userID, HostID: os.Geteuid(), Size: 1}},
		gids: []syscall.SysProcIDMap{{ContainerID: userID, HostID: os.Getegid(), Size: 1}},
		uid:  userID, gid: userID, code: userID,
	}
}

// thisUser has all of a sandbox run as one user of the host.
func thisUser(uid, gid int) users { return users{uid: uid, gid: gid, code: uid} }

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
	p.cmd.Env = []string{"GODEBUG=containermaxprocs=0"} // else Go keeps files of this process's control group open
	p.cmd.Stderr = write
	p.cmd.ExtraFiles = []*os.File{theirs} // descriptor 3
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd}
	if level == "namespace" {
		a := p.cmd.SysProcAttr
		a.Cloneflags = namespaces
		a.UidMappings, a.GidMappings = u.uids, u.gids
		a.GidMappingsEnableSetgroups = u.setUID
		if u.setUID {
			a.Credential = &syscall.Credential{Uid: uint32(u.uid), Gid: uint32(u.gid)}
		} else {
			a.AmbientCaps = allCapabilities() // which would else be lost by the exec
		}
	}
	if level != "namespace" && u.uid != os.Geteuid() {
		p.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(u.uid), Gid: uint32(u.gid)}
	}
	if err := p.cmd.Start(); err != nil {
		ours.close()
		stderr.Close()
		return nil, fmt.Errorf("cannot start the sandbox's first process: %w", err)
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

func allCapabilities() []uintptr {
	var all []uintptr
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); err == nil { // known to this kernel
			all = append(all, c)
		}
	}
	return all
}
