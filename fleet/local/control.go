package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// message is a packet between the server and the first process of a sandbox.
type message struct {
	Files    []string `json:"files,omitempty"`    // what the descriptors that came with it are
	Prepared bool     `json:"prepared,omitempty"` // the process has its surroundings
	Entered  bool     `json:"entered,omitempty"`  // the process is confined
	Tun      int      `json:"tun,omitempty"`      // with Entered: its descriptor of its network device
	Ready    bool     `json:"ready,omitempty"`    // the agent answers
	Forked   bool     `json:"forked,omitempty"`   // with Ready: its kernel was forked
	Error    string   `json:"error,omitempty"`    // it has failed, and ends
	Blame    string   `json:"blame,omitempty"`    // with Error: the setting to blame, of blames
}

const (
	maxMessage = 32 << 10 // bytes
	maxFiles   = 253      // descriptors in a packet: SCM_MAX_FD
)

// control is one end of the socket between the two.
type control struct{ conn *net.UnixConn }

// controlPair returns the server's end, and the other as the sandbox is to have it.
func controlPair() (control, *os.File, error) {
	ours, theirs, err := socketPair(unix.SOCK_SEQPACKET)
	if err != nil {
		return control{}, nil, err
	}
	c, err := newControl(ours)
	if err != nil {
		theirs.Close()
		return control{}, nil, err
	}
	return c, theirs, nil
}

// newControl takes over the file.
func newControl(f *os.File) (control, error) {
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return control{}, fmt.Errorf("cannot use the control socket: %w", err)
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return control{}, errors.New("the control socket is no unix socket")
	}
	return control{unixConn}, nil
}

func socketPair(kind int) (*os.File, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot make a pair of sockets: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "socket"), os.NewFile(uintptr(fds[1]), "socket"), nil
}

func (c control) send(m message, files ...*os.File) error {
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := writeWith(c.conn, line, files); err != nil {
		return fmt.Errorf("cannot write to the control socket: %w", err)
	}
	return nil
}

// writeWith writes a packet with descriptors.
func writeWith(conn *net.UnixConn, packet []byte, files []*os.File) error {
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	_, _, err := conn.WriteMsgUnix(packet, rights, nil)
	return err
}

// receive returns the next packet, and its descriptors, which the caller closes. io.EOF
// says that the other end is closed.
func (c control) receive() (message, []*os.File, error) {
	line := make([]byte, maxMessage)
	rights := make([]byte, unix.CmsgSpace(maxFiles*4))
	n, oob, flags, _, err := c.conn.ReadMsgUnix(line, rights)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return message{}, nil, err
	}
	files, err := filesOf(rights[:oob])
	var m message
	switch {
	case err != nil:
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		err = errors.New("a packet of the control socket is too long")
	default:
		err = json.Unmarshal(line[:n], &m)
	}
	if err == nil && len(files) != len(m.Files) {
		err = fmt.Errorf("the control socket gave %d descriptors for %d names", len(files), len(m.Files))
	}
	if err != nil {
		closeAll(files)
		return message{}, nil, err
	}
	return m, files, nil
}

func (c control) close() { c.conn.Close() }

func filesOf(rights []byte) ([]*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue // no descriptors
		}
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// memory returns a nameless file that holds the value as JSON, from its start.
func memory(value any) (*os.File, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("config", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot make a file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "config")
	if _, err := f.WriteAt(text, 0); err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot write a file in memory: %w", err)
	}
	return f, nil
}
