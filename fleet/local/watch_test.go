package local

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The number of a first process that has ended is not another's while it is still being used.
func TestNumbersStayUntilTheyAreUsed(t *testing.T) {
	pidfd := -1
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &pidfd}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(pidfd, true); err != nil {
		t.Fatal(err)
	}
	m := (&Runtime{}).machine()
	m.pidfd = os.NewFile(uintptr(pidfd), "pidfd")
	defer m.pidfd.Close()
	m.process = &process{cmd: cmd, words: &tail{}, drained: make(chan struct{})}
	close(m.process.drained)
	placed := make(chan struct{})
	go m.watch(placed)
	waitFor(m.pidfd)
	for range 5 { // in which it would be waited for
		if err := exec.Command("/bin/true").Run(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", cmd.Process.Pid)); err != nil {
		t.Error(err)
	}
	close(placed)
	if exit := m.Exit(); exit.Code != 0 || exit.Signal != "" {
		t.Errorf("it ended by %+v", exit)
	}
}
