package local

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/fleet/local/cage"
	"github.com/k2sandbox/k2sandbox/kernel/python"
)

// warm is a zygote of a sandbox's own, which it starts while it waits to be somebody's. The server's zygote, which has the server's
// powers, runs the server's Python alone; that of an image is never run outside of a sandbox. So each that waits has one: a
// process of the image, confined as all code is, that has imported by then what kernels need.
type warm struct {
	Interpreter string     `json:"interpreter"` // a path inside
	Environ     []string   `json:"environ"`
	Rules       cage.Rules `json:"rules"`
}

// warmth is what a sandbox starts so; nil: nothing. Where code is the user that all files belong to, nothing of it may run before the
// first process has put its surroundings right.
func (m *machine) warmth() *warm {
	t := m.template()
	if !m.waits || m.image == nil || !t.cold || t.interpreter == "" || m.runtime.options.Cold || !m.users.setUID || m.record.Root {
		return nil
	}
	return &warm{Interpreter: t.interpreter, Environ: zygoteEnviron(m.environ()), Rules: m.rules()}
}

// start starts the process, as the user inside. It returns the end of a socket at which kernels are forked once it is ready.
func (w *warm) start(uid, gid int) (*os.File, error) {
	ours, theirs, err := socketPair(unix.SOCK_SEQPACKET)
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	texts, err := memory(python.ZygoteFiles())
	if err != nil {
		ours.Close()
		return nil, err
	}
	defer texts.Close()
	read, write, err := os.Pipe() // as kernels have, whose streams it makes; nobody reads this one
	if err != nil {
		ours.Close()
		return nil, err
	}
	read.Close()
	defer write.Close()
	cmd := exec.Command(w.Interpreter, "-c", python.InsideProgram)
	cmd.Stdout, cmd.Stderr = write, write
	cmd.Dir, cmd.Env = "/", w.Environ
	cmd.ExtraFiles = []*os.File{theirs, texts}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	rules := w.Rules
	rules.NoCaps = false // becoming the user takes some, and an exec as that one leaves none
	var thread int
	err = rules.SetRlimits() // which this process is to have, too
	if err == nil {
		err = onThread(func() error {
			thread = unix.Gettid()
			if err := rules.Enter(); err != nil {
				return err
			}
			return cmd.Start()
		})
		gone(thread)
	}
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("cannot start %s before it is needed: %w", w.Interpreter, err)
	}
	_ = cmd.Process.Release() // who waits for orphans waits for it
	return ours, settled(ours)
}

// settled returns when what was started has something to say, or has ended: only then is there no more to wait for.
func settled(ours *os.File) error {
	if err := ours.SetReadDeadline(time.Now().Add(warmTime)); err != nil {
		return err
	}
	conn, err := ours.SyscallConn()
	if err == nil {
		_ = conn.Read(readable) // in time, or not
		err = ours.SetReadDeadline(time.Time{})
	}
	return err
}

// warmTime is how long a sandbox that waits does not count as one while its zygote starts.
const warmTime = 30 * time.Second

// gone waits for the end of a thread that has left its work: what confines all threads later finds none that is confined otherwise.
func gone(thread int) {
	for range 10_000 {
		if unix.Tgkill(os.Getpid(), thread, 0) != nil {
			return
		}
		time.Sleep(100 * time.Microsecond)
	}
}
