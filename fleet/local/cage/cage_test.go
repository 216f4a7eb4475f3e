package cage_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/fleet/local/cage"
)

// attempts are what a process in a cage tries; the result is "ok" or the error.
var attempts = map[string]func(args []string) error{
	"read":    func(args []string) error { _, err := os.ReadFile(args[0]); return err },
	"write":   func(args []string) error { return os.WriteFile(args[0], []byte("x"), 0o600) },
	"link":    func(args []string) error { return os.Link(args[0], args[1]) },
	"rename":  func(args []string) error { return os.Rename(args[0], args[1]) },
	"exec":    func(args []string) error { return exec.Command(args[0]).Run() },
	"signal":  func(args []string) error { pid, _ := strconv.Atoi(args[0]); return unix.Kill(pid, 0) },
	"dial":    func(args []string) error { _, err := net.Dial("unix", args[0]); return err },
	"caps":    func([]string) error { return capabilities() },
	"privs":   func([]string) error { return noNewPrivs() },
	"threads": func([]string) error { return threads() },
	"socket": func(args []string) error {
		family, _ := strconv.Atoi(args[0])
		fd, err := unix.Socket(family, unix.SOCK_RAW, 0)
		if err == nil {
			unix.Close(fd)
		}
		return err
	},
	"call": func(args []string) error { // number and arguments
		var n [7]uintptr
		for i, a := range args {
			v, _ := strconv.ParseUint(a, 0, 64)
			n[i] = uintptr(v)
		}
		_, _, errno := unix.RawSyscall6(n[0], n[1], n[2], n[3], n[4], n[5], n[6])
		if errno == 0 {
			return nil
		}
		return errno
	},
}

func capabilities() error {
	status, err := os.ReadFile("/proc/thread-self/status")
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "Cap") && !strings.HasSuffix(strings.TrimSpace(line), "0000000000000000") {
			return errors.New(strings.TrimSpace(line))
		}
	}
	return err
}

func noNewPrivs() error {
	if v, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err != nil || v != 1 {
		return fmt.Errorf("no_new_privs is %d, %v", v, err)
	}
	return nil
}

// threads starts threads and processes, as any program may.
func threads() error {
	done := make(chan error)
	for range 8 {
		go func() { done <- exec.Command("/bin/true").Run() }()
	}
	var err error
	for range 8 {
		err = errors.Join(err, <-done)
	}
	return err
}

func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case "enter":
			fmt.Print(enter(os.Args[2], os.Args[3]))
			return
		case "attempt":
			fmt.Print(attempt(os.Args[2]))
			return
		}
	}
	os.Exit(m.Run())
}

// enter puts one thread into a cage and starts this program on it, which attempts things.
func enter(rules, list string) string {
	runtime.LockOSThread()
	var r cage.Rules
	if err := json.Unmarshal([]byte(rules), &r); err != nil {
		return err.Error()
	}
	if err := r.Enter(); err != nil {
		return "cannot enter: " + err.Error()
	}
	self, _ := os.Executable()
	out, err := exec.Command(self, "attempt", list).CombinedOutput()
	if err != nil {
		out = append(out, err.Error()...)
	}
	return string(out)
}

// attempt attempts one thing after the other and returns what they came to, as JSON.
func attempt(list string) string {
	var all [][]string
	if err := json.Unmarshal([]byte(list), &all); err != nil {
		return err.Error()
	}
	results := []string{}
	for _, args := range all {
		result := "ok"
		if err := attempts[args[0]](args[1:]); err != nil {
			result = err.Error()
		}
		results = append(results, result)
	}
	text, _ := json.Marshal(results)
	return string(text)
}

// try returns what attempts in a cage came to.
func try(t *testing.T, r cage.Rules, list ...[]string) []string {
	t.Helper()
	rules, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	what, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), self, "enter", string(rules), string(what)).Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var results []string
	if err := json.Unmarshal(out, &results); err != nil || len(results) != len(list) {
		t.Fatalf("%v: %s", err, out)
	}
	return results
}

func TestSystemCallsAreRefused(t *testing.T) {
	r := cage.Rules{NoNewPrivs: true, Seccomp: true}
	high := func(low uint64) string { return strconv.FormatUint(0xdeadbeef<<32|low, 10) } // the kernel ignores the upper half
	call := func(nr int, args ...string) []string { return append([]string{"call", strconv.Itoa(nr)}, args...) }
	parent := strconv.Itoa(os.Getpid())
	cases := []struct {
		name string
		args []string
		want error
	}{
		{"mount", call(unix.SYS_MOUNT), unix.EPERM},
		{"umount2", call(unix.SYS_UMOUNT2), unix.EPERM},
		{"open_tree", call(unix.SYS_OPEN_TREE), unix.EPERM},
		{"fsopen", call(unix.SYS_FSOPEN), unix.EPERM},
		{"pivot_root", call(unix.SYS_PIVOT_ROOT), unix.EPERM},
		{"chroot", call(unix.SYS_CHROOT), unix.EPERM},
		{"unshare", call(unix.SYS_UNSHARE, strconv.Itoa(unix.CLONE_NEWUSER)), unix.EPERM},
		{"setns", call(unix.SYS_SETNS), unix.EPERM},
		{"ptrace", call(unix.SYS_PTRACE), unix.EPERM},
		{"process_vm_readv", call(unix.SYS_PROCESS_VM_READV), unix.EPERM},
		{"pidfd_getfd", call(unix.SYS_PIDFD_GETFD), unix.EPERM},
		{"bpf", call(unix.SYS_BPF), unix.EPERM},
		{"perf_event_open", call(unix.SYS_PERF_EVENT_OPEN), unix.EPERM},
		{"userfaultfd", call(unix.SYS_USERFAULTFD), unix.EPERM},
		{"io_uring_setup", call(unix.SYS_IO_URING_SETUP), unix.EPERM},
		{"keyctl", call(unix.SYS_KEYCTL), unix.EPERM},
		{"add_key", call(unix.SYS_ADD_KEY), unix.EPERM},
		{"open_by_handle_at", call(unix.SYS_OPEN_BY_HANDLE_AT), unix.EPERM},
		{"kexec_load", call(unix.SYS_KEXEC_LOAD), unix.EPERM},
		{"init_module", call(unix.SYS_INIT_MODULE), unix.EPERM},
		{"reboot", call(unix.SYS_REBOOT), unix.EPERM},
		{"syslog", call(unix.SYS_SYSLOG), unix.EPERM},
		{"clock_settime", call(unix.SYS_CLOCK_SETTIME), unix.EPERM},
		{"clone of a user namespace", call(unix.SYS_CLONE, strconv.Itoa(unix.CLONE_NEWUSER)), unix.EPERM},
		{"clone with more than 32 bits", call(unix.SYS_CLONE, high(unix.CLONE_NEWUSER)), unix.EPERM},
		{"clone3", call(unix.SYS_CLONE3), unix.ENOSYS},
		{"TIOCSTI", call(unix.SYS_IOCTL, "0", "0x5412"), unix.EPERM},
		{"TIOCSTI with more than 32 bits", call(unix.SYS_IOCTL, "0", high(0x5412)), unix.EPERM},
		{"another ioctl", call(unix.SYS_IOCTL, "99", "0x5401"), unix.EBADF},
		{"personality", call(unix.SYS_PERSONALITY, "0x0040000"), unix.EPERM},
		{"asking for the personality", call(unix.SYS_PERSONALITY, "0xffffffff"), nil},
		{"limits of another process", call(unix.SYS_PRLIMIT64, parent, strconv.Itoa(unix.RLIMIT_CPU), "1"), unix.EPERM},
		{"limits of another process, far away", call(unix.SYS_PRLIMIT64, parent, strconv.Itoa(unix.RLIMIT_CPU), "0x100000000"), unix.EPERM},
		{"asking for the limits of another process", call(unix.SYS_PRLIMIT64, parent, strconv.Itoa(unix.RLIMIT_CPU)), nil},
		{"its own limits", call(unix.SYS_PRLIMIT64, "0", strconv.Itoa(unix.RLIMIT_CPU), "1"), unix.EFAULT},
		{"AF_VSOCK", []string{"socket", strconv.Itoa(unix.AF_VSOCK)}, unix.EAFNOSUPPORT},
		{"AF_ALG", []string{"socket", strconv.Itoa(unix.AF_ALG)}, unix.EAFNOSUPPORT},
		{"AF_PACKET", []string{"socket", strconv.Itoa(unix.AF_PACKET)}, unix.EAFNOSUPPORT},
		{"AF_NETLINK", []string{"socket", strconv.Itoa(unix.AF_NETLINK)}, nil},
		{"NETLINK_ROUTE", call(unix.SYS_SOCKET, strconv.Itoa(unix.AF_NETLINK), strconv.Itoa(unix.SOCK_RAW), high(unix.NETLINK_ROUTE)), nil},
		{"NETLINK_KOBJECT_UEVENT", call(unix.SYS_SOCKET, strconv.Itoa(unix.AF_NETLINK), strconv.Itoa(unix.SOCK_RAW), strconv.Itoa(unix.NETLINK_KOBJECT_UEVENT)), unix.EPROTONOSUPPORT},
		{"NETLINK_NETFILTER", call(unix.SYS_SOCKET, strconv.Itoa(unix.AF_NETLINK), strconv.Itoa(unix.SOCK_RAW), strconv.Itoa(unix.NETLINK_NETFILTER)), unix.EPROTONOSUPPORT},
		{"NETLINK_GENERIC", call(unix.SYS_SOCKET, strconv.Itoa(unix.AF_NETLINK), strconv.Itoa(unix.SOCK_RAW), strconv.Itoa(unix.NETLINK_GENERIC)), unix.EPROTONOSUPPORT},
		{"a call of tomorrow", call(1000), unix.ENOSYS},
		{"a call of x32", call(0x40000000 | unix.SYS_GETPID), unix.ENOSYS},
		{"getpid with nonsense", call(unix.SYS_SCHED_YIELD, "7"), nil},
		{"threads and processes", []string{"threads"}, nil},
		{"no_new_privs", []string{"privs"}, nil},
	}
	var list [][]string
	for _, c := range cases {
		list = append(list, c.args)
	}
	for i, got := range try(t, r, list...) {
		want := "ok"
		if cases[i].want != nil {
			want = cases[i].want.Error()
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", cases[i].name, got, want)
		}
	}
}

func TestFilesBeyondTheRulesAreRefused(t *testing.T) {
	dir := t.TempDir()
	mine, shown, hidden := filepath.Join(dir, "mine"), filepath.Join(dir, "shown"), filepath.Join(dir, "hidden")
	for _, d := range []string{mine, shown, hidden} {
		if err := errors.Join(os.Mkdir(d, 0o755), os.WriteFile(filepath.Join(d, "file"), []byte("x"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(hidden, "file"), filepath.Join(mine, "trap")); err != nil {
		t.Fatal(err)
	}
	self, _ := os.Executable()
	r := cage.Rules{
		NoNewPrivs: true, Landlock: true, Scoped: true,
		Read:  []string{"/usr", "/lib", "/lib64", "/proc", filepath.Dir(self), shown},
		Write: []string{mine, "/dev/null", filepath.Join(dir, "missing")},
	}
	refused := "permission denied"
	cases := []struct {
		name, want string
		args       []string
	}{
		{"read mine", "ok", []string{"read", mine + "/file"}},
		{"write mine", "ok", []string{"write", mine + "/new"}},
		{"rename mine", "ok", []string{"rename", mine + "/new", mine + "/newer"}},
		{"write to /dev/null", "ok", []string{"write", "/dev/null"}},
		{"read shown", "ok", []string{"read", shown + "/file"}},
		{"write shown", refused, []string{"write", shown + "/new"}},
		{"read hidden", refused, []string{"read", hidden + "/file"}},
		{"write hidden", refused, []string{"write", hidden + "/new"}},
		{"read by a symbolic link", refused, []string{"read", mine + "/trap"}},
		{"write by a symbolic link", refused, []string{"write", mine + "/trap"}},
		{"link out", "invalid cross-device link", []string{"link", hidden + "/file", mine + "/linked"}},
		{"rename out", refused, []string{"rename", mine + "/file", hidden + "/stolen"}},
		{"read the shadow file", refused, []string{"read", "/etc/shadow"}},
		{"run a program", "ok", []string{"exec", "/bin/true"}},
		{"signal the outside", "operation not permitted", []string{"signal", strconv.Itoa(os.Getpid())}},
	}
	var list [][]string
	for _, c := range cases {
		list = append(list, c.args)
	}
	for i, got := range try(t, r, list...) {
		if !strings.HasSuffix(got, cases[i].want) {
			t.Errorf("%s: got %q, want %q", cases[i].name, got, cases[i].want)
		}
	}
}

func TestAbstractSocketsOfOthersAreOutOfReach(t *testing.T) {
	if cage.ABI() < 6 {
		t.Fatalf("Landlock has ABI %d here", cage.ABI())
	}
	name := fmt.Sprintf("@k2-cage-%d", os.Getpid())
	l, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	open := cage.Rules{NoNewPrivs: true, Landlock: true, Read: []string{"/"}}
	if got := try(t, open, []string{"dial", name})[0]; got != "ok" {
		t.Errorf("without a scope: %q", got)
	}
	open.Scoped = true
	if got := try(t, open, []string{"dial", name})[0]; !strings.HasSuffix(got, "operation not permitted") {
		t.Errorf("with a scope: %q", got)
	}
}

func TestCapabilitiesAreGone(t *testing.T) {
	if got := try(t, cage.Rules{NoCaps: true}, []string{"caps"})[0]; got != "ok" {
		t.Error(got)
	}
}

func TestProbeSaysWhatIsHere(t *testing.T) {
	for part, err := range cage.Probe() {
		if err != nil {
			t.Errorf("%s: %v", part, err)
		}
	}
}

func TestFilterIsAProgram(t *testing.T) {
	raw, err := cage.Filter()
	if err != nil {
		t.Fatal(err)
	}
	if size := int(unsafe.Sizeof(unix.SockFilter{})); len(raw) == 0 || len(raw)%size != 0 || len(raw)/size > 4096 {
		t.Errorf("%d bytes are no seccomp program", len(raw))
	}
}
