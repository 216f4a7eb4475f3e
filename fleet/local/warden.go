package local

import (
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"

	"github.com/k2sandbox/k2sandbox/fleet/local/cgroup"
)

//go:embed warden.sh
var wardenScript string

// warden is a small shell process that ends sandboxes which are paused where their server is gone and no other follows. It
// starts with the first pause.
type warden struct {
	mu    sync.Mutex
	mark  string    // of this server, in a file that the next one replaces; "" before
	shell *exec.Cmd // nil before the first pause, as the rest
	pipe  *os.File  // its end of file tells the shell that this program is gone

	freezer cgroup.Freezer
}

// sign tells wardens of earlier servers that there is this one.
func (w *warden) sign(file string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mark != "" {
		return nil
	}
	mark := rand.Text()
	if err := os.WriteFile(file, []byte(mark), 0o600); err != nil {
		return fmt.Errorf("cannot tell of this server: %w", err)
	}
	w.mark = mark
	return nil
}

// guard has a warden look after what is paused.
func (r *Runtime) guard() error {
	if err := r.warden.sign(r.signature()); err != nil || r.options.Abandon == 0 {
		return err
	}
	w := &r.warden
	w.mu.Lock()
	defer w.mu.Unlock()
	freezer, ok := r.parent.Freezer(r.mark + "-")
	if w.shell != nil || !ok {
		return nil
	}
	in, out, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("cannot start the warden: %w", err)
	}
	defer in.Close()
	seconds := strconv.Itoa(int(math.Ceil(r.options.Abandon.Seconds())))
	shell := &exec.Cmd{
		Path: "/bin/sh", Args: []string{"sh", "-c", wardenScript, "k2-warden", freezer.Groups, freezer.File, freezer.Frozen, freezer.Thaw, r.signature(), w.mark, seconds},
		Dir: "/", Env: []string{}, Stdin: in,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := shell.Start(); err != nil {
		return errors.Join(fmt.Errorf("cannot start the warden: %w", err), out.Close())
	}
	w.shell, w.pipe, w.freezer = shell, out, freezer
	return nil
}

// close lets the warden go, which ends where nothing is paused, and else goes on without this server.
func (w *warden) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.shell == nil {
		return nil
	}
	err := w.pipe.Close()
	if w.freezer.Any() {
		return errors.Join(err, w.shell.Process.Release())
	}
	return errors.Join(err, w.shell.Wait())
}
