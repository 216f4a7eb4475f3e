package kernel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/k2sandbox/k2sandbox/process"
)

const (
	packetSize = 128 << 10        // bytes of a request to a zygote, at most
	readyTime  = 20 * time.Second // for one that starts to be ready
	forkTime   = 5 * time.Second  // for its answer
	bornTime   = 20 * time.Second // for the first answer of a kernel that it forked; a cold start comes then
)

// Zygote is a process that has imported all that an IPython kernel needs, and that forks
// kernels: it is at the other end of a socket, as python/zygote.py tells. Kernels get
// it by Options.Zygote. Code of kernels can have taken it over, so that nothing it
// answers is trusted; once it is gone, or late, kernels start without. Its methods are
// safe for concurrent use. It must be closed.
type Zygote struct {
	interpreter string
	conn        *net.UnixConn
	turn        chan struct{} // holds a token while nobody asks
	starting    bool          // who has the turn waits until it is ready
}

// NewZygote returns the zygote at the other end of a socket of the type SOCK_SEQPACKET, for
// kernels of the given interpreter. The file stays the caller's.
func NewZygote(socket *os.File, interpreter string) (*Zygote, error) {
	c, err := net.FileConn(socket)
	if err != nil {
		return nil, fmt.Errorf("cannot use the zygote's socket: %w", err)
	}
	conn, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errors.New("cannot use the zygote's socket: it is no unix socket")
	}
	z := &Zygote{interpreter: interpreter, conn: conn, turn: make(chan struct{}, 1)}
	z.turn <- struct{}{}
	return z, nil
}

// Starting says, before anybody asks, that the zygote has only been started: python/zygote.py tells how it says that it is ready.
func (z *Zygote) Starting() { z.starting = true }

// Close ends the zygote. Kernels that it forked go on.
func (z *Zygote) Close() error { return z.conn.Close() }

// birth is what a zygote is asked for.
type birth struct {
	Argv   []string          `json:"argv"` // without the interpreter and the launcher
	Cwd    string            `json:"cwd"`
	Env    map[string]string `json:"env"`
	Prefix string            `json:"prefix"` // of the environment that the kernel runs in
}

// birth returns what to ask the zygote for, in place of a command; nil where it cannot have it.
func (z *Zygote) birth(spec *Spec, command *process.Command) *birth {
	if z == nil || spec.launcher == nil || len(spec.Argv) < 2 || spec.Argv[0] != z.interpreter || spec.Argv[1] != "{launcher}" {
		return nil
	}
	return &birth{Argv: command.Args[2:], Cwd: command.Dir, Prefix: filepath.Dir(filepath.Dir(command.Args[0]))}
}

// fork asks the zygote for a process with the descriptors and the environment. Where it does
// not answer in time, or not as it should, it is given up.
func (z *Zygote) fork(ctx context.Context, b *birth, env []string, files ...*os.File) (pid int, err error) {
	if b.Cwd == "" {
		if b.Cwd, err = os.Getwd(); err != nil {
			return 0, err
		}
	}
	b.Env = map[string]string{}
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		b.Env[name] = value
	}
	packet, err := json.Marshal(b)
	if err != nil {
		return 0, err
	}
	if len(packet) > packetSize {
		return 0, fmt.Errorf("its environment is longer than %d bytes", packetSize)
	}
	select {
	case <-z.turn:
		defer func() { z.turn <- struct{}{} }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if err := z.await(ctx); err != nil { // it has not been asked, and so forks nothing later
		z.conn.Close()
		return 0, fmt.Errorf("the zygote is given up: %w", err)
	}
	answer, err := z.ask(packet, files) // also for who has left: else the answer would be taken for the next one's
	if err != nil {
		z.conn.Close()
		return 0, fmt.Errorf("the zygote is given up: %w", err)
	}
	if answer.Error != "" {
		return 0, fmt.Errorf("the zygote refuses: %.1000q", answer.Error)
	}
	return answer.Pid, nil
}

// await returns when the zygote is ready. It takes no more time than there is, as a cold start comes then.
func (z *Zygote) await(ctx context.Context) error {
	if !z.starting {
		return nil
	}
	until := time.Now().Add(readyTime)
	if end, ok := ctx.Deadline(); ok && end.Before(until) {
		until = end
	}
	if err := z.conn.SetDeadline(until); err != nil {
		return err
	}
	answer, err := z.hear()
	if err == nil && !answer.Ready {
		err = errors.New("it does not say that it is ready")
	}
	z.starting = err != nil
	return err
}

// offspring is what a zygote answers.
type offspring struct {
	Pid   int    `json:"pid"`
	Error string `json:"error"`
	Ready bool   `json:"ready"`
}

// ask sends a request and waits for its answer.
func (z *Zygote) ask(packet []byte, files []*os.File) (answer offspring, err error) {
	if err := z.conn.SetDeadline(time.Now().Add(forkTime)); err != nil {
		return answer, err
	}
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	if _, _, err := z.conn.WriteMsgUnix(packet, syscall.UnixRights(fds...), nil); err != nil {
		return answer, err
	}
	return z.hear()
}

// hear waits for what a zygote says, to the deadline.
func (z *Zygote) hear() (answer offspring, err error) {
	buf := make([]byte, 8<<10)
	n, _, flags, _, err := z.conn.ReadMsgUnix(buf, nil) // descriptors that come with it are closed
	if err != nil {
		return answer, err
	}
	if n == 0 {
		return answer, errors.New("it has ended")
	}
	if flags&syscall.MSG_TRUNC != 0 {
		return answer, errors.New("its answer is too long")
	}
	return answer, json.Unmarshal(buf[:n], &answer)
}
