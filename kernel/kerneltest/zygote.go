// Package kerneltest has what tests of kernels, and of what is built on them, share.
package kerneltest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/kernel/python"
	"github.com/k2sandbox/k2sandbox/process"
)

// AsZygote is the environment variable that has tests start their kernels by a zygote.
const AsZygote = "K2_TEST_ZYGOTE"

// Zygote is a zygote that forks kernels for this process, outside of any sandbox.
type Zygote struct {
	*kernel.Zygote
	host   *exec.Cmd
	socket *os.File
	unreap func()
}

// NewZygote starts one, for kernels of the interpreter. This process waits for all orphans
// from now on. It must be closed.
func NewZygote(interpreter string) (*Zygote, error) {
	z := &Zygote{unreap: process.Reap()}
	inside, err := z.start(interpreter)
	if err == nil {
		defer inside.Close()
		z.Zygote, err = kernel.NewZygote(inside, interpreter)
	}
	if err != nil {
		z.Close()
		return nil, fmt.Errorf("cannot start a zygote: %w", err)
	}
	return z, nil
}

// NewInside starts one that is a sandbox's own from the start, and that may not be ready yet. It must be closed.
func NewInside(interpreter string) (*Zygote, error) {
	z := &Zygote{unreap: process.Reap()}
	ours, theirs, err := Pair()
	if err == nil {
		defer ours.Close()
		err = z.boot(interpreter, python.InsideProgram, theirs)
	}
	if err == nil {
		z.Zygote, err = kernel.NewZygote(ours, interpreter)
	}
	if err != nil {
		z.Close()
		return nil, fmt.Errorf("cannot start a zygote: %w", err)
	}
	z.Starting()
	return z, nil
}

// boot starts a process with an end of a socket, which it takes over.
func (z *Zygote) boot(interpreter, program string, theirs *os.File) error {
	defer theirs.Close()
	texts, err := texts()
	if err != nil {
		return err
	}
	defer texts.Close()
	words := struct{ io.Writer }{os.Stderr} // by a pipe, as kernels have
	z.host = exec.Command(interpreter, "-c", program)
	z.host.ExtraFiles, z.host.Stdout, z.host.Stderr, z.host.Env = []*os.File{theirs, texts}, words, words, kernel.DefaultEnviron(os.Environ())
	return z.host.Start()
}

// Close ends it. Kernels that it forked go on.
func (z *Zygote) Close() {
	if z.Zygote != nil {
		z.Zygote.Close()
	}
	if z.socket != nil {
		z.socket.Close()
	}
	if z.host != nil && z.host.Process != nil {
		z.host.Process.Kill()
		z.host.Wait()
	}
	z.unreap()
}

// start returns the socket of the zygote that has been forked by the host's.
func (z *Zygote) start(interpreter string) (inside *os.File, err error) {
	var theirs *os.File
	if z.socket, theirs, err = Pair(); err != nil {
		return nil, err
	}
	if err := z.boot(interpreter, python.ZygoteProgram, theirs); err != nil {
		return nil, err
	}
	if err := z.hear("ready"); err != nil {
		return nil, err
	}
	ours, inner, err := Pair()
	if err != nil {
		return nil, err
	}
	defer inner.Close()
	request := []byte(`{"namespaces":false,"cgroups":0,"rules":{},"filter":""}`)
	err = unix.Sendmsg(int(z.socket.Fd()), request, unix.UnixRights(int(inner.Fd())), nil, 0)
	return ours, errors.Join(err, z.hear("ok"), settled())
}

// settled waits until what was forked is this process's child, which it becomes once
// those between have ended: whoever counts children counts it from the start.
func settled() error {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		n := 0
		files, _ := filepath.Glob("/proc/self/task/*/children")
		for _, file := range files {
			text, _ := os.ReadFile(file)
			n += len(bytes.Fields(text))
		}
		if n == 2 { // the host's, and the one inside
			return nil
		}
	}
	return errors.New("what was forked does not become a child")
}

func (z *Zygote) hear(word string) error {
	buf := make([]byte, 4096)
	n, err := z.socket.Read(buf)
	if err == nil && !bytes.Contains(buf[:n], []byte(`"`+word+`"`)) {
		err = fmt.Errorf("it says %s", buf[:n])
	}
	return err
}

// texts returns a file with the files of a zygote.
func texts() (*os.File, error) {
	raw, err := json.Marshal(python.ZygoteFiles())
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp("", "k2-zygote-")
	if err != nil {
		return nil, err
	}
	_, err = f.Write(raw)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	return f, errors.Join(err, os.Remove(f.Name()))
}

// Pair returns two ends of a socket of the type SOCK_SEQPACKET.
func Pair() (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "socket"), os.NewFile(uintptr(fds[1]), "socket"), nil
}
