package network_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/fleet/local/network"
	"golang.org/x/sys/unix"
)

// The tests' own program is started again as the server of a sandbox, and as the first
// process of one.
const role, device = "K2_TEST_ROLE", "K2_TEST_DEVICE"

func init() { runtime.LockOSThread() } // the first thread, whose network namespace /proc shows, stays where it is

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "server":
		exit(runServer())
	case "init":
		exit(runInit())
	}
	os.Exit(m.Run())
}

func exit(err error) {
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// again starts this program in a role.
func again(as string, attributes *syscall.SysProcAttr) *exec.Cmd {
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), role+"="+as)
	c.SysProcAttr = attributes
	c.Stderr = os.Stderr
	return c
}

// runInit makes a network, tells the device's descriptor, and says what it gets from each
// address that it is told, until it is told no more.
func runInit() error {
	tun, err := network.Inside(os.Getenv(device), true)
	if err != nil {
		return err
	}
	defer tun.Close()
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil { // as agents are
		return err
	}
	fmt.Println(tun.Fd())
	for s := bufio.NewScanner(os.Stdin); s.Scan(); {
		c, err := net.DialTimeout("tcp", s.Text(), 20*time.Second)
		if err != nil {
			fmt.Println(s.Text(), err)
			continue
		}
		b, _ := io.ReadAll(c)
		c.Close()
		fmt.Printf("%s %s\n", s.Text(), b)
	}
	return nil
}

// runServer serves a sandbox in namespaces of its own, with all defaults, gives up and takes it again, and
// copies what it says.
func runServer() error {
	pidfd := -1
	c := again("init", &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		PidFD:       &pidfd,
	})
	in, err := c.StdinPipe()
	if err != nil {
		return err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	defer c.Wait()
	defer in.Close()
	lines := bufio.NewScanner(out)
	lines.Scan()
	var number int
	if _, err := fmt.Sscan(lines.Text(), &number); err != nil {
		return fmt.Errorf("%s: %w", lines.Text(), err)
	}
	for range 2 {
		tun, err := network.Take(pidfd, number)
		if err != nil {
			return err
		}
		s, err := network.New(tun, network.Options{})
		if err != nil {
			return err
		}
		for _, at := range strings.Fields("93.184.216.34:80 169.254.169.254:80 10.1.2.3:80 203.0.113.5:80 192.0.0.1:80") {
			fmt.Fprintln(in, at)
			lines.Scan()
			fmt.Println(lines.Text())
		}
		s.Close()
	}
	for _, other := range []int{0, 1, 999} { // pipes, and nothing
		if _, err := network.Take(pidfd, other); err == nil {
			return fmt.Errorf("descriptor %d was taken", other)
		}
	}
	return nil
}
