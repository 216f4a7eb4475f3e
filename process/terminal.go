package process

import (
	"fmt"
	"os"
	"syscall"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// Size is that of a terminal, in characters.
type Size struct {
	Rows int `json:"rows"`
	Cols int `json:"cols"`
}

// openTerminal opens a pseudoterminal: our end, which can be waited for, and theirs.
func openTerminal(size Size) (ours, theirs *os.File, err error) {
	blocking, theirs, err := pty.Open()
	if err != nil {
		return nil, nil, fmt.Errorf("cannot open terminal: %w", err)
	}
	defer blocking.Close()
	fd, err := unix.FcntlInt(blocking.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		if err = unix.SetNonblock(fd, true); err == nil {
			ours = os.NewFile(uintptr(fd), blocking.Name())
			err = prepareTerminal(ours, size)
		} else {
			unix.Close(fd)
		}
	}
	if err != nil {
		theirs.Close()
		if ours != nil {
			ours.Close()
		}
		return nil, nil, fmt.Errorf("cannot open terminal: %w", err)
	}
	return ours, theirs, nil
}

// prepareTerminal sets the size, and that a character to be erased may be several bytes.
func prepareTerminal(f *os.File, size Size) error {
	if err := resize(f, size); err != nil {
		return err
	}
	return control(f, func(fd int) error {
		t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			return err
		}
		t.Iflag |= unix.IUTF8
		return unix.IoctlSetTermios(fd, unix.TCSETS, t)
	})
}

func resize(f *os.File, size Size) error {
	return control(f, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(size.Rows), Col: uint16(size.Cols)})
	})
}

// signalForeground sends the signal of a key to the job in the terminal's foreground,
// and reports whether it could.
func signalForeground(f *os.File, sig syscall.Signal) bool {
	if sig != unix.SIGINT && sig != unix.SIGQUIT && sig != unix.SIGTSTP {
		return false
	}
	return control(f, func(fd int) error { return unix.IoctlSetInt(fd, unix.TIOCSIG, int(sig)) }) == nil
}

func control(f *os.File, do func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	failed := conn.Control(func(fd uintptr) { err = do(int(fd)) })
	if failed != nil {
		return failed
	}
	return err
}

// Terminal returns our end of the process's terminal: what is written to it is typed.
// It is nil where the process has none, and closed by Close.
func (p *Process) Terminal() *os.File { return p.terminal }

// Resize tells the terminal its new size, and with SIGWINCH the job in its foreground.
// The error is ErrNoTerminal where the process has none.
func (p *Process) Resize(size Size) error {
	if p.terminal == nil {
		return ErrNoTerminal
	}
	if err := resize(p.terminal, size); err != nil {
		return fmt.Errorf("cannot resize terminal: %w", err)
	}
	return nil
}
