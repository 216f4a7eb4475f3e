package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/server"
)

// A server hands over to its successor by a socket: it says hello, with its listeners, and waits until the successor has
// prepared all that does not need the sandboxes. Then it lets go of those, and the successor takes them and tells that it
// serves. Whatever fails before that, the server goes on.

// handoverVariable tells a successor the descriptor of its end, and then which signals to ignore: it inherits that not.
const handoverVariable = "K2_HANDOVER"

// startEnviron is the environment that this program was started with: what is a secret is taken out of it later.
var startEnviron = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, handoverVariable+"=") })

// hello is what a successor has to know to prepare itself.
type hello struct {
	Sockets   []string `json:"sockets"` // names, in the order of the descriptors
	Dir       string   `json:"dir"`     // of the sandboxes
	Temporary bool     `json:"temporary"`
}

// memory is what goes from one server to the next that is not on disk.
type memory struct {
	Native []server.Begun[string] `json:"native,omitempty"`
	E2B    []server.Begun[string] `json:"e2b,omitempty"`
}

// step is what a successor says: that the step is done, or why it ends.
type step struct {
	Error string `json:"error,omitempty"`
}

const (
	prepareTime = 10 * time.Minute // that a successor may take to prepare itself: it may have to make its Python
	takeTime    = 2 * time.Minute  // that it may take to take the sandboxes
	endTime     = 10 * time.Second // that it may take to end after SIGTERM
)

// channel is an end of the socket.
type channel struct {
	conn *net.UnixConn
	out  *json.Encoder
	in   *json.Decoder
}

func newChannel(f *os.File) (*channel, error) {
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	c, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return nil, errors.New("it is no unix socket")
	}
	return &channel{c, json.NewEncoder(c), json.NewDecoder(c)}, nil
}

// receive waits for what the other side says.
func (c *channel) receive(ctx context.Context, into any) error {
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err := c.in.Decode(into)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// successor is the server that is to take over from this one.
type successor struct {
	*channel
	cmd    *exec.Cmd
	exited chan struct{}
}

// startSuccessor starts the program anew, which may be another one by now, with what this one was started with.
func startSuccessor(sockets []socket, h hello) (*successor, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	theirs := os.NewFile(uintptr(pair[1]), "handover")
	defer theirs.Close()
	c, err := newChannel(os.NewFile(uintptr(pair[0]), "handover"))
	if err != nil {
		return nil, err
	}
	program, err := exec.LookPath(os.Args[0]) // not the file that this process runs: a link may lead to another one now
	if err != nil {
		program, err = os.Executable()
	}
	s := &successor{channel: c, exited: make(chan struct{})}
	if err == nil {
		s.cmd = exec.Command(program, os.Args[1:]...)
		s.cmd.Args[0] = os.Args[0]
		s.cmd.Env = append(slices.Clone(startEnviron), handoverVariable+"="+handoverWords())
		s.cmd.Stdout, s.cmd.Stderr, s.cmd.ExtraFiles = os.Stdout, os.Stderr, []*os.File{theirs}
		err = s.cmd.Start()
	}
	if err != nil {
		c.conn.Close()
		return nil, fmt.Errorf("cannot start the program: %w", err)
	}
	go func() {
		_ = s.cmd.Wait() // what it has to say it says by the socket, or on standard error
		close(s.exited)
	}()
	if err := s.greet(sockets, h); err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

// greet says hello. Listeners go as descriptors of their sockets as they are: os.File would make these wait.
func (s *successor) greet(sockets []socket, h hello) error {
	var fds []int
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for _, one := range sockets {
		raw, err := one.ln.(syscall.Conn).SyscallConn()
		if err != nil {
			return err
		}
		var copied int
		if bad := raw.Control(func(fd uintptr) { copied, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); bad != nil || err != nil {
			return errors.Join(bad, err)
		}
		fds, h.Sockets = append(fds, copied), append(h.Sockets, one.name)
	}
	if _, _, err := s.conn.WriteMsgUnix([]byte{0}, unix.UnixRights(fds...), nil); err != nil {
		return err
	}
	return s.out.Encode(h)
}

// expect waits until the successor reports that it has done the next step.
func (s *successor) expect(ctx context.Context) error {
	var r step
	switch err := s.receive(ctx, &r); {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("the new server is not ready: %w", err)
	case err != nil: // it has closed its end
		select {
		case <-s.exited:
			return fmt.Errorf("the new server has ended: %s", s.cmd.ProcessState)
		case <-time.After(endTime):
			return fmt.Errorf("the program does not take over: %w", err)
		}
	case r.Error != "":
		return fmt.Errorf("the new server: %.1000s", r.Error)
	}
	return nil
}

// stop asks it to end.
func (s *successor) stop() { _ = s.cmd.Process.Signal(syscall.SIGTERM) }

// kill ends one that may have the sandboxes, and leaves them.
func (s *successor) kill() {
	s.conn.Close()
	_ = s.cmd.Process.Kill()
	<-s.exited
}

// end ends one that has no sandboxes yet.
func (s *successor) end() {
	s.conn.Close()
	s.stop()
	select {
	case <-s.exited:
	case <-time.After(endTime):
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
}

// predecessor is the server that this one takes over from. A nil one is none.
type predecessor struct {
	*channel
	hello
	listeners map[string]net.Listener // by name, those that nobody has taken yet
}

// findPredecessor returns nil where there is none.
func findPredecessor(ctx context.Context) (*predecessor, error) {
	text := os.Getenv(handoverVariable)
	if text == "" {
		return nil, nil
	}
	_ = os.Unsetenv(handoverVariable)
	word, _, _ := strings.Cut(text, " ")
	fd, err := strconv.Atoi(word)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("$%s %q: want a descriptor", handoverVariable, text)
	}
	c, err := newChannel(os.NewFile(uintptr(fd), "handover"))
	if err != nil {
		return nil, fmt.Errorf("$%s: %w", handoverVariable, err)
	}
	p := &predecessor{channel: c, listeners: map[string]net.Listener{}}
	if err := p.meet(ctx); err != nil {
		p.close()
		return nil, fmt.Errorf("$%s: %w", handoverVariable, err)
	}
	return p, nil
}

// meet takes in what the other server says at first.
func (p *predecessor) meet(ctx context.Context) error {
	rights := make([]byte, unix.CmsgSpace(64*4))
	_, n, _, _, err := p.conn.ReadMsgUnix(make([]byte, 1), rights)
	if err != nil {
		return err
	}
	files, err := filesOf(rights[:n])
	defer func() {
		for _, f := range files {
			f.Close() // listeners have their own
		}
	}()
	if err == nil {
		err = p.receive(ctx, &p.hello)
	}
	if err == nil && len(files) != len(p.Sockets) {
		err = fmt.Errorf("%d descriptors for %d names", len(files), len(p.Sockets))
	}
	for i := 0; i < len(files) && err == nil; i++ {
		p.listeners[p.Sockets[i]], err = net.FileListener(files[i])
	}
	return err
}

func filesOf(rights []byte) ([]*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return files, err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "listener"))
		}
	}
	return files, nil
}

// take returns the listener of a name, which is the caller's then; nil where there is none.
func (p *predecessor) take(name string) net.Listener {
	if p == nil {
		return nil
	}
	ln := p.listeners[name]
	delete(p.listeners, name)
	return ln
}

// goOn tells that this server is ready, and waits until it has the sandboxes.
func (p *predecessor) goOn(ctx context.Context) (m memory, err error) {
	if p == nil {
		return m, nil
	}
	if err = p.out.Encode(step{}); err == nil {
		err = p.receive(ctx, &m)
	}
	if err != nil {
		err = fmt.Errorf("the server to take over from does not let go: %w", err)
	}
	return m, err
}

// leave tells that this server serves, or why it does not.
func (p *predecessor) leave(failed error) {
	if p == nil {
		return
	}
	var r step
	if failed != nil {
		r.Error = failed.Error()
	}
	_ = p.out.Encode(r) // a server that has gone needs no news
	p.close()
}

func (p *predecessor) close() {
	for _, ln := range p.listeners {
		ln.Close()
	}
	p.conn.Close()
}

// handoverWords are the value of the variable.
func handoverWords() string {
	words := []string{"3"}
	for _, sig := range ignored {
		words = append(words, strconv.Itoa(int(sig.(syscall.Signal))))
	}
	return strings.Join(words, " ")
}

// toIgnore reports whether the server that this one takes over from ignores a signal.
func toIgnore(sig syscall.Signal) bool {
	words := strings.Fields(os.Getenv(handoverVariable))
	return len(words) > 0 && slices.Contains(words[1:], strconv.Itoa(int(sig)))
}
