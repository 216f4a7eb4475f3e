package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/fleet/local/cage"
)

// pidOne is an argument with which the test binary is the first process of namespaces.
const pidOne = "pid 1"

func init() {
	if len(os.Args) > 1 && os.Args[1] == pidOne {
		err := beFirst(os.Args[2:])
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// beFirst mounts the trees from descriptor 3 on, says that it has, and waits for children for ever.
func beFirst(visible []string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := mountNew("/root", "tmpfs", noSuid, "mode", "755"); err != nil {
		return err
	}
	for i, path := range visible {
		if err := errors.Join(os.MkdirAll(path, 0o755), attach(os.NewFile(uintptr(3+i), path), path)); err != nil {
			return err
		}
	}
	if err := mountNew("/proc", "proc", noExec); err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		if _, err := syscall.Wait4(-1, nil, 0, nil); errors.Is(err, syscall.ECHILD) {
			time.Sleep(time.Millisecond) // nobody is there to wait for
		}
	}
}

// space is a set of namespaces with a first process that does nothing.
type space struct {
	base  int // the first of its users
	pid   int
	pidfd *os.File
}

func newSpace(t *testing.T, visible ...string) *space {
	s := &space{base: 0x70000000 + 65536*(os.Getpid()%1000)}
	users := []syscall.SysProcIDMap{{ContainerID: 0, HostID: s.base, Size: 65536}}
	fd := -1
	cmd := exec.Command("/proc/self/exe", append([]string{pidOne}, visible...)...)
	cmd.Stderr = os.Stderr
	for _, path := range visible {
		f, err := tree(path, nil, readOnly)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: namespaces, UidMappings: users, GidMappings: users, GidMappingsEnableSetgroups: true,
		Credential: &syscall.Credential{}, PidFD: &fd,
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if said := make([]byte, 6); true {
		if _, err := out.Read(said); err != nil || string(said) != "ready\n" {
			t.Fatalf("%q %v", said, err)
		}
	}
	s.pid, s.pidfd = cmd.Process.Pid, os.NewFile(uintptr(fd), "pidfd")
	t.Cleanup(func() { s.pidfd.Close() })
	return s
}

func testPython(t *testing.T) string {
	t.Helper()
	python := os.Getenv("K2_TEST_PYTHON")
	if python == "" {
		t.Fatal("K2_TEST_PYTHON names no interpreter: make test sets it")
	}
	return python
}

// told is a log that goes to the test's output.
func told(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

// insider is the agent's end of the socket of an inside zygote.
type insider struct {
	t    *testing.T
	conn *net.UnixConn
}

// forkInto has the zygote fork into the sandbox.
func forkInto(t *testing.T, z *zygote, e entry) *insider {
	t.Helper()
	in, err := tryForkInto(t, z, e)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func tryForkInto(t *testing.T, z *zygote, e entry) (*insider, error) {
	ours, theirs, err := socketPair(unix.SOCK_SEQPACKET)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	e.Inside = theirs
	return &insider{t, conn.(*net.UnixConn)}, z.fork(t.Context(), e)
}

type birth struct {
	Argv   []string          `json:"argv"`
	Cwd    string            `json:"cwd"`
	Env    map[string]string `json:"env"`
	Prefix string            `json:"prefix"`
}

// ask asks for a kernel, with the file as its stdout and stderr.
func (in *insider) ask(request any, files ...*os.File) (pid int, refusal string) {
	in.t.Helper()
	text, err := json.Marshal(request)
	if err != nil {
		in.t.Fatal(err)
	}
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	if _, _, err := in.conn.WriteMsgUnix(text, unix.UnixRights(fds...), nil); err != nil {
		in.t.Fatal(err)
	}
	said := make([]byte, 64<<10)
	n, err := in.conn.Read(said)
	if err != nil {
		in.t.Fatal(err)
	}
	var answer struct {
		Pid   int
		Error string
	}
	if err := json.Unmarshal(said[:n], &answer); err != nil {
		in.t.Fatalf("%s: %v", said[:n], err)
	}
	return answer.Pid, answer.Error
}

// inspection is what a kernel runs to tell of itself. It writes a file, and ends.
const inspection = `
import ctypes, json, os, resource
libc = ctypes.CDLL(None, use_errno=True)
def attempt(f):
    ctypes.set_errno(0)
    try:
        return f() if f() != -1 else os.strerror(ctypes.get_errno())
    except OSError as e:
        return e.strerror
found = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines())
found.update(
    pid=os.getpid(), ppid=os.getppid(), session=os.getsid(0), group=os.getpgrp(),
    namespaces={n: os.readlink("/proc/self/ns/" + n) for n in sorted(os.listdir("/proc/self/ns"))},
    umask=os.umask(0), cwd=os.getcwd(), nofile=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
    parents=[open(f"/proc/{p}/stat").read().rpartition(")")[2].split()[1] for p in os.listdir("/proc") if p.isdigit()],
    processes=len([p for p in os.listdir("/proc") if p.isdigit()]),
    zombies=[p for p in os.listdir("/proc") if p.isdigit() and open(f"/proc/{p}/stat").read().split()[2] == "Z"],
    unshare=attempt(lambda: libc.unshare(0x10000000)),
    setuid=attempt(lambda: os.setuid(0)),
    beyond=attempt(lambda: open("../beyond", "w").name),
    within=attempt(lambda: open("within", "w").name),
    others=[attempt(lambda: open(f"/proc/{p}/mem").name) for p in os.listdir("/proc") if p.isdigit() and p != str(os.getpid())],
    environ=open("/proc/self/environ").read(), secret=os.environ["SECRET"],
)
json.dump(found, open("found", "w"))
os._exit(0)
`

// inspect has the zygote fork a kernel that tells of itself.
func (in *insider) inspect(home, prefix string) map[string]any {
	t := in.t
	t.Helper()
	out, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	b := birth{
		Argv: []string{"-f", home + "/connection.json", "-c", "exec(open('inspection').read())"}, Cwd: home, Prefix: prefix,
		Env: map[string]string{"HOME": home, "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "SECRET": "of the kernel"},
	}
	pid, refusal := in.ask(b, null, write, write)
	write.Close()
	if refusal != "" {
		t.Fatal(refusal)
	}
	said, err := io.ReadAll(out) // to the kernel's end
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(home, "found"))
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	found := map[string]any{}
	if err := json.Unmarshal(text, &found); err != nil {
		t.Fatal(err)
	}
	if found["pid"] != float64(pid) {
		t.Errorf("kernel %v was said to be %d", found["pid"], pid)
	}
	return found
}

// newHome returns a directory of the user inside.
func (s *space) newHome(t *testing.T) string {
	home := filepath.Join(t.TempDir(), "home")
	connection := fmt.Sprintf(`{"transport":"ipc","ip":"%s/s","shell_port":1,"iopub_port":2,"stdin_port":3,"control_port":4,"hb_port":5,"key":"k","signature_scheme":"hmac-sha256"}`, home)
	err := errors.Join(os.Chmod(filepath.Dir(filepath.Dir(home)), 0o755), os.Mkdir(home, 0o700), os.Chown(home, s.base+userID, s.base+userID),
		os.WriteFile(home+"/connection.json", []byte(connection), 0o644), os.WriteFile(home+"/inspection", []byte(inspection), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	return home
}

// beneathRoot returns what a user inside cannot get at by its path, of all that an interpreter runs from.
func beneathRoot(t *testing.T, dirs []string) (visible []string) {
	for _, dir := range dirs {
		real, _, err := route(dir)
		if err != nil {
			t.Fatal(err)
		}
		if within(real, "/root") && !slices.Contains(visible, real) {
			visible = append(visible, real)
		}
	}
	return visible
}

func TestZygoteForksIntoNamespaces(t *testing.T) {
	python := testPython(t)
	dirs, err := prefixes(t.Context(), python)
	if err != nil {
		t.Fatal(err)
	}
	filter, err := cage.Filter()
	if err != nil {
		t.Fatal(err)
	}
	z := newZygote(python, []string{"LANG=C.UTF-8"}, told(t))
	t.Cleanup(z.Close)
	for range 2 {
		s := newSpace(t, beneathRoot(t, dirs)...)
		home := s.newHome(t)
		in := forkInto(t, z, entry{
			Pidfd: s.pidfd, UID: userID, GID: userID, Filter: filter,
			Rules: cage.Rules{
				NoNewPrivs: true, NoCaps: true, Seccomp: true, Landlock: true, Read: []string{"/"}, Write: []string{home, "/dev/null"},
				Rlimits: map[int]uint64{unix.RLIMIT_NOFILE: 1000, unix.RLIMIT_CORE: 0},
			},
		})
		for range 2 {
			found := in.inspect(home, dirs[0])
			s.expect(t, found, home)
			s.awaitWaited(t, found["pid"])
		}
	}
}

const noCapabilities = "0000000000000000"

// expect compares what a kernel has found with what it is to find.
func (s *space) expect(t *testing.T, found map[string]any, home string) {
	t.Helper()
	refused := "Permission denied"
	inherited := ignoredSignals(t)
	if ignored, err := strconv.ParseUint(found["SigIgn"].(string), 16, 64); err == nil {
		found["SigIgn"] = ignored &^ inherited
	}
	for name, want := range map[string]any{
		"Uid": "1000\t1000\t1000\t1000", "Gid": "1000\t1000\t1000\t1000", "Groups": " ",
		"CapInh": noCapabilities, "CapPrm": noCapabilities, "CapEff": noCapabilities, "CapBnd": noCapabilities, "CapAmb": noCapabilities,
		"NoNewPrivs": "1", "Seccomp": "2", "SigIgn": uint64(0x1001002) &^ inherited, "SigBlk": "0000000000000000", "Name": "python",
		"ppid": 1.0, "session": found["pid"], "group": found["pid"],
		"processes": 3.0, "parents": []any{"0", "1", "1"}, "zombies": []any{}, "others": []any{refused, refused}, // the first process, and the zygote
		"umask": 18.0, "cwd": home, "nofile": 1000.0, "beyond": refused, "within": "within",
		"unshare": "Operation not permitted", "setuid": "Operation not permitted", "secret": "of the kernel",
		"environ": "HOME=" + home + "\x00LANG=C.UTF-8\x00PATH=/usr/bin:/bin\x00SECRET=of the kernel\x00",
	} {
		if !reflect.DeepEqual(found[name], want) {
			t.Errorf("%s: %q, want %q", name, found[name], want)
		}
	}
	for name, ns := range found["namespaces"].(map[string]any) {
		want, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", s.pid, name))
		if err != nil || want != ns {
			t.Errorf("namespace %s: %v, want %s %v", name, ns, want, err)
		}
	}
}

// awaitWaited waits until the first process has waited for one that has ended, which the next one looks for.
func (s *space) awaitWaited(t *testing.T, pid any) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := os.Lstat(fmt.Sprintf("/proc/%d/root/proc/%v", s.pid, pid)); errors.Is(err, os.ErrNotExist) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %v is left", pid)
		}
	}
}

// ignoredSignals returns those that this program was started to ignore, as make and nohup have what they start do.
func ignoredSignals(t *testing.T) uint64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "SigIgn:\t")
	line, _, _ := strings.Cut(rest, "\n")
	ignored, err := strconv.ParseUint(line, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return ignored
}

func TestZygoteRefusesWhatItCannotEnter(t *testing.T) {
	z := newZygote(testPython(t), nil, told(t))
	t.Cleanup(z.Close)
	gone := exec.Command("/bin/true")
	fd := -1
	gone.SysProcAttr = &syscall.SysProcAttr{PidFD: &fd}
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	pidfd := os.NewFile(uintptr(fd), "pidfd")
	defer pidfd.Close()
	readOnly, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer readOnly.Close()
	mine := entry{UID: -1}
	for want, e := range map[string]entry{
		"cannot enter the sandbox's namespaces: [Errno 3] No such process":             {Pidfd: pidfd, UID: userID, GID: userID},
		"cannot join the sandbox's cgroups: [Errno 9] Bad file descriptor":             {UID: -1, Cgroups: []*os.File{readOnly}},
		"cannot restrict system calls: [Errno 22] the program is missing":              {UID: -1, Rules: cage.Rules{NoNewPrivs: true, Seccomp: true}},
		"cannot restrict system calls: [Errno 22] Invalid argument":                    {UID: -1, Rules: cage.Rules{NoNewPrivs: true, Seccomp: true}, Filter: make([]byte, 16)},
		"cannot restrict files by Landlock: [Errno 20] Not a directory: '/dev/null/x'": {UID: -1, Rules: cage.Rules{NoNewPrivs: true, Landlock: true, Read: []string{"/dev/null/x"}}},
		"cannot set resource limit 99 to 1: ":                                          {UID: -1, Rules: cage.Rules{Rlimits: map[int]uint64{99: 1}}},
	} {
		if _, err := tryForkInto(t, z, e); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
		forkInto(t, z, mine)
	}
}

// A zygote that is killed is there again, and what it forked goes on.
func TestZygoteIsStartedAgain(t *testing.T) {
	z := newZygote(testPython(t), nil, told(t))
	t.Cleanup(z.Close)
	first := forkInto(t, z, entry{UID: -1})
	for _, child := range children(t, os.Getpid()) {
		if err := unix.Kill(child, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	for {
		in, err := tryForkInto(t, z, entry{UID: -1})
		if err == nil {
			in.refuses(t)
			break
		}
	}
	first.refuses(t)
	z.Close()
	if err := z.fork(t.Context(), entry{UID: -1}); err == nil {
		t.Error("forked by a zygote that is closed")
	}
	if left := children(t, os.Getpid()); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// refuses asks for what there is none of, so that an answer comes.
func (in *insider) refuses(t *testing.T) {
	t.Helper()
	if _, refusal := in.ask(map[string]int{}); !strings.Contains(refusal, "the request is not understood") {
		t.Error(refusal)
	}
}

func TestZygoteThatCannotStart(t *testing.T) {
	z := newZygote("/bin/false", nil, told(t))
	t.Cleanup(z.Close)
	if err := z.fork(t.Context(), entry{UID: -1}); err == nil || !strings.Contains(err.Error(), "exit status 1") {
		t.Error(err)
	}
}

// children returns the child processes.
func children(t *testing.T, pid int) (pids []int) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range tasks {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		for word := range strings.FieldsSeq(string(text)) {
			child, _ := strconv.Atoi(word)
			pids = append(pids, child)
		}
	}
	return pids
}
