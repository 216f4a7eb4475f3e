package sudo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/process"
)

const (
	maxRequest  = 4 << 20          // bytes: more than Linux takes for arguments and environment
	maxCommands = 256              // at a time
	askTime     = 10 * time.Second // for a request to come
	refuseTime  = time.Second      // for who is refused to end
	stopTime    = 2 * time.Second  // between SIGHUP and SIGKILL for a command whose sudo has gone
)

// Service runs commands as root for those who ask. It must be closed.
type Service struct {
	listener net.Listener
	on       *process.Thread
	may      []uint32
	log      *slog.Logger
	places   chan struct{}
	life     context.Context
	end      context.CancelFunc
	work     sync.WaitGroup
}

// Serve answers at a listener, which it takes over, until Close: commands of the users with these ids run as what is started
// on the thread.
func Serve(l net.Listener, on *process.Thread, log *slog.Logger, may ...uint32) *Service {
	s := &Service{listener: l, on: on, may: may, log: log, places: make(chan struct{}, maxCommands)}
	s.life, s.end = context.WithCancel(context.Background())
	s.work.Go(s.accept)
	return s
}

// Close ends the commands that run, and returns when they have ended.
func (s *Service) Close() {
	s.end()
	s.listener.Close()
	s.work.Wait()
}

func (s *Service) accept() {
	for s.life.Err() == nil {
		c, err := s.listener.Accept()
		if err != nil {
			select {
			case <-time.After(100 * time.Millisecond): // as where there are no more descriptors
			case <-s.life.Done():
			}
			continue
		}
		s.work.Go(func() {
			defer c.Close()
			defer context.AfterFunc(s.life, func() { c.Close() })()
			if err := s.serve(c.(*net.UnixConn)); err != nil {
				s.log.Debug("sudo", "error", err)
			}
		})
	}
}

// request is what sudo wants to be run. The descriptors 0 to 2 come with it.
type request struct {
	Args    [][]byte `json:"args"`
	Dir     []byte   `json:"dir"`
	Env     [][]byte `json:"env"`     // "NAME=value"
	Control bool     `json:"control"` // descriptor 0 is a terminal of the command's own
}

// answer is how it went: at most one is not zero.
type answer struct {
	Code   int    `json:"code"`
	Signal int    `json:"signal"`
	Error  string `json:"error,omitempty"`
}

// serve runs one command, of whoever may.
func (s *Service) serve(c *net.UnixConn) error {
	a := answer{}
	refused := s.admit(c)
	err := refused
	if err == nil {
		defer func() { <-s.places }()
		err = s.run(c, &a)
	}
	if err != nil {
		a.Error = err.Error()
	}
	_ = c.SetWriteDeadline(time.Now().Add(askTime))
	err = json.NewEncoder(c).Encode(a)
	if refused != nil && err == nil { // who has sent what nobody has read hears nothing
		_ = c.CloseWrite()
		_ = c.SetReadDeadline(time.Now().Add(refuseTime))
		_, _ = io.CopyN(io.Discard, c, maxRequest)
	}
	return err
}

func (s *Service) run(c *net.UnixConn, a *answer) error {
	req, files, lines, err := receive(c)
	defer closeAll(files)
	if err != nil {
		return err
	}
	p, err := process.Start(process.Command{
		Args: texts(req.Args), Dir: string(req.Dir), Env: texts(req.Env), Stdin: files[0], Stdout: files[1], Stderr: files[2], Control: req.Control, On: s.on,
	})
	if err != nil {
		return err
	}
	closeAll(files)
	gone := make(chan struct{})
	s.work.Go(func() { // ends when sudo does, or with the connection
		defer close(gone)
		forward(lines, p)
	})
	select {
	case <-p.Done():
	case <-gone:
		s.stop(p)
	}
	a.Code = p.Exit().Code // it is not closed, as it has left nothing of ours, and what it started may stay
	if number := unix.SignalNum(p.Exit().Signal); number != 0 {
		a.Code, a.Signal = 0, int(number)
	}
	return nil
}

// stop ends a command that nobody waits for.
func (s *Service) stop(p *process.Process) {
	_ = p.Signal(unix.SIGHUP)
	select {
	case <-p.Done():
	case <-time.After(stopTime):
	case <-s.life.Done():
	}
	p.Stop(s.life, 0)
}

// admit gives one of those users a place, and nobody else.
func (s *Service) admit(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var who *unix.Ucred
	if bad := raw.Control(func(fd uintptr) { who, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); bad != nil || err != nil {
		return errors.Join(bad, err)
	}
	for _, id := range s.may {
		if who.Uid != id {
			continue
		}
		select {
		case s.places <- struct{}{}:
			return nil
		default:
			return fmt.Errorf("%d commands run already", maxCommands)
		}
	}
	return fmt.Errorf("user %d may not become root", who.Uid)
}

// receive returns the request, its three descriptors, and what comes after.
func receive(c *net.UnixConn) (req request, files []*os.File, lines *bufio.Scanner, err error) {
	if err := c.SetReadDeadline(time.Now().Add(askTime)); err != nil {
		return req, nil, nil, err
	}
	rights := make([]byte, unix.CmsgSpace(3*4))
	_, n, _, _, err := c.ReadMsgUnix(make([]byte, 1), rights)
	if err != nil {
		return req, nil, nil, err
	}
	messages, _ := unix.ParseSocketControlMessage(rights[:n])
	for _, m := range messages {
		fds, _ := unix.ParseUnixRights(&m)
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "stdio"))
		}
	}
	lines = bufio.NewScanner(c)
	lines.Buffer(nil, maxRequest)
	switch {
	case !lines.Scan():
		err = errors.Join(errors.New("the request is not whole"), lines.Err())
	case len(files) != 3:
		err = fmt.Errorf("%d descriptors came in place of 3", len(files))
	default:
		err = json.Unmarshal(lines.Bytes(), &req)
	}
	return req, files, lines, errors.Join(err, c.SetReadDeadline(time.Time{}))
}

// forward sends the command the signals that sudo gets, until that is gone.
func forward(lines *bufio.Scanner, p *process.Process) {
	for lines.Scan() {
		var got struct{ Signal int }
		if json.Unmarshal(lines.Bytes(), &got) == nil && got.Signal > 0 && got.Signal < 32 {
			_ = p.Signal(syscall.Signal(got.Signal))
		}
	}
}

func texts(all [][]byte) []string {
	made := make([]string, len(all))
	for i, one := range all {
		made[i] = string(one)
	}
	return made
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
