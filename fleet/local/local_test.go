package local_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/fleet/local"
)

// open returns a runtime, and checks at the end that nothing is left of it.
func open(t *testing.T, change ...func(*local.Options)) *local.Runtime {
	t.Helper()
	o := local.Options{Dir: t.TempDir(), Program: program, Environ: []string{"PATH=/usr/bin:/bin:/root/secret/bin", "LANG=C.UTF-8"}, Level: "namespace"}
	for _, c := range change {
		c(&o)
	}
	before := traces(t, o.Dir)
	r, err := local.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if after := traces(t, o.Dir); after != before {
			t.Errorf("left behind:\nbefore %s\nafter  %s", before, after)
		}
	})
	return r
}

func start(t *testing.T, r *local.Runtime, s fleet.Spec) fleet.Machine {
	t.Helper()
	m, err := r.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Kill(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// traces tells what there is on the host of sandboxes in the directory.
func traces(t *testing.T, dir string) string {
	t.Helper()
	var s strings.Builder
	for _, name := range []string{"sandboxes", "ids"} {
		entries, _ := os.ReadDir(filepath.Join(dir, name))
		fmt.Fprintf(&s, "%s %v; ", name, entries)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&s, "mounts %d; ", strings.Count(string(mounts), dir))
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	open := 0
	for _, f := range files { // but those of Go's own
		if target, _ := os.Readlink("/proc/self/fd/" + f.Name()); !strings.HasPrefix(target, "anon_inode:[event") && !strings.HasPrefix(target, "/proc/") {
			open++
		}
	}
	fmt.Fprintf(&s, "open files %d; children %v", open, children(t))
	return s.String()
}

// children lists the processes that this one has started and not waited for.
func children(t *testing.T) []string {
	t.Helper()
	var pids []string
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		text, _ := os.ReadFile(task)
		pids = append(pids, strings.Fields(string(text))...)
	}
	return pids
}

// ask has the agent of a sandbox answer.
func ask(t *testing.T, m fleet.Machine, path string, body, answer any) {
	t.Helper()
	if err := request(m, path, body, answer); err != nil {
		t.Fatal(err)
	}
}

func request(m fleet.Machine, path string, body, answer any) error {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return m.Dial(ctx) },
	}}
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	resp, err := client.Post("http://agent"+path, "application/json", bytes.NewReader(text))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(answer)
}

// run runs a shell command in a sandbox, and returns its output.
func run(t *testing.T, m fleet.Machine, script string) string {
	t.Helper()
	var o outcome
	ask(t, m, "/run", task{Args: []string{"/bin/sh", "-c", script}}, &o)
	return strings.TrimSpace(o.Out)
}

func wants(t *testing.T, m fleet.Machine, script, want string) {
	t.Helper()
	if got := run(t, m, script); got != want {
		t.Errorf("%s: %q, want %q", script, got, want)
	}
}

func TestUserInside(t *testing.T) {
	m := start(t, open(t), fleet.Spec{ID: "sb_a", Envs: map[string]string{"A": "b"}})
	wants(t, m, "id -u; id -g; id -un; pwd; echo $HOME $USER", "1000\n1000\nuser\n/home/user\n/home/user user")
	wants(t, m, "hostname; cat /etc/hostname", "sandbox\nsandbox")
	wants(t, m, "stat -c '%U %a' /home/user; stat -c %a /tmp /var/tmp", "user 755\n1777\n1777")
	wants(t, m, "echo hi > a && cat a && rm a", "hi")
	wants(t, m, "echo hi > /tmp/a && cat /tmp/a && echo hi > /dev/shm/a && cat /dev/shm/a", "hi\nhi")
	wants(t, m, "ps -e -o pid= | head -1 | tr -d ' '", "1")
	wants(t, m, "test -w /usr || test -w / || test -w /etc || test -w /dev || test -w /proc/sys/kernel/hostname || echo none", "none")
	wants(t, m, "echo $PATH", "/usr/bin:/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin")
	wants(t, m, "for d in null zero full random urandom tty ptmx; do test -c /dev/$d || echo no $d; done; ls /dev | wc -l", "13")
	wants(t, m, "script -qec tty /dev/null < /dev/null | tr -d '\\r'", "/dev/pts/0")
	wants(t, m, "getent hosts localhost | cut -d' ' -f1; getent services ssh | tr -s ' '", "::1\nssh 22/tcp")
	wants(t, m, "python3 -c 'import socket; s=socket.create_server((\"127.0.0.1\",0)); socket.create_connection(s.getsockname()); print(1)'", "1")
	var c local.Config
	ask(t, m, "/config", nil, &c)
	if c.Envs["A"] != "b" || c.Cwd != "/home/user" || c.UID != 1000 {
		t.Errorf("config %+v", c)
	}
}

func TestFilesShowTheirOwners(t *testing.T) {
	m := start(t, open(t), fleet.Spec{ID: "sb_a"})
	owner := "root"
	if os.Getuid() != 0 { // who has no ids to map to
		owner = "nobody"
	}
	wants(t, m, "stat -c %U /usr /usr/bin/env", owner+"\n"+owner)
	if os.Getuid() == 0 {
		wants(t, m, "stat -c %U / /etc /etc/passwd /home", "root\nroot\nroot\nroot")
	}
}

// loginShell tells the PATH of a login shell, which is the one that it was started with.
const loginShell = "PATH=/its/own:/usr/bin:/bin; K2_PATH=$PATH bash -l -c 'echo $PATH'"

func TestLoginShell(t *testing.T) {
	wants(t, start(t, open(t), fleet.Spec{ID: "sb_a"}), loginShell, "/its/own:/usr/bin:/bin")
}

func TestAgentHasNothingOfTheHost(t *testing.T) {
	dir := t.TempDir()
	m := start(t, open(t, func(o *local.Options) { o.Dir = dir }), fleet.Spec{ID: "sb_a"})
	var s self
	ask(t, m, "/self", nil, &s)
	if s.Dir != "/home/user" || len(s.Environ) != 0 {
		t.Errorf("in %s with %v", s.Dir, s.Environ)
	}
	for fd, target := range s.Files {
		ok := target == "" || strings.HasPrefix(target, "anon_inode:") || strings.HasPrefix(target, "socket:") || strings.HasPrefix(target, "pipe:") ||
			target == "/dev/null" || target == "/dev/net/tun" || strings.HasPrefix(target, "/proc/")
		if !ok {
			t.Errorf("descriptor %s is %s", fd, target)
		}
	}
	for _, file := range []string{"/proc/1/environ", "/proc/1/mem", "/proc/1/maps", "/proc/1/root", "/proc/1/cwd", "/proc/1/fd", "/proc/1/exe"} {
		wants(t, m, "cat "+file+" > /dev/null 2>&1 || ls "+file+"/ 2>/dev/null || echo no", "no")
	}
	for _, file := range []string{"/proc/self/mountinfo", "/proc/mounts", "/proc/net/unix"} {
		if text := run(t, m, "cat "+file); strings.Contains(text, dir) || text == "" {
			t.Errorf("%s: %s", file, text)
		}
	}
}

func TestAgentsPrivileges(t *testing.T) {
	m := start(t, open(t), fleet.Spec{ID: "sb_a"})
	want := "Uid:\t999\t999\t999\t1000\nGid:\t999\t999\t999\t1000\nCapInh:\t0000000000000000\nCapPrm:\t00000000000800e0\nCapEff:\t00000000000800e0\nCapAmb:\t0000000000000000"
	if m.Isolation().Missing["ids"] != "" {
		want = "Uid:\t1000\t1000\t1000\t1000\nGid:\t1000\t1000\t1000\t1000\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapAmb:\t0000000000000000"
	}
	wants(t, m, "for t in /proc/1/task/*; do grep -E '^(Uid|Gid|Cap(Inh|Prm|Eff|Amb))' $t/status; done | sort -u -s -k1,1 > all; for k in Uid Gid CapInh CapPrm CapEff CapAmb; do cat /proc/1/task/*/status | grep ^$k: | sort -u; done", want)
}

func TestHostIsOutOfSight(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	m := start(t, open(t), fleet.Spec{ID: "sb_a"})
	for _, path := range []string{secret, "/etc/shadow", "/var/lib/dpkg", "/boot", "/lost+found", "/home/user/../../old", "/sys/kernel", "/dev/vda", "/dev/kmsg", "/dev/mem"} {
		wants(t, m, "test -e "+path+" || echo no", "no")
	}
	wants(t, m, "grep -v ':/$' /proc/self/cgroup", "")
	wants(t, m, "cat /proc/kcore /proc/keys /proc/timer_list /proc/kallsyms 2>/dev/null | wc -c", "0")
	wants(t, m, "(echo h > /proc/sysrq-trigger) 2>/dev/null && echo yes; ls -A /sys /run /root /mnt /media /srv | grep -v : | grep .", "")
	if n := run(t, m, "ls /proc | grep -c '^[0-9]'"); len(n) > 1 {
		t.Errorf("%s processes are in sight", n)
	}
}

func TestInterpreterOutsideOfUsr(t *testing.T) {
	python := os.Getenv("K2_TEST_PYTHON")
	m := start(t, open(t, func(o *local.Options) { o.Interpreter = python }), fleet.Spec{ID: "sb_a"})
	wants(t, m, python+" -c 'import sys, ipykernel; print(sys.executable)'", python)
	wants(t, m, "touch $(dirname "+python+")/x 2>/dev/null || echo no; ls -A $(dirname $(dirname $(dirname "+python+")))", "no\n"+filepath.Base(filepath.Dir(filepath.Dir(python))))
}

func TestSettingsOfTheServerWorkInside(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca, wheels := write("ca.pem", "ca"), filepath.Dir(write("wheels/a.whl", "wheel"))
	r := open(t, func(o *local.Options) {
		o.Environ = append(o.Environ, "SSL_CERT_FILE="+ca, "PIP_FIND_LINKS="+wheels, "HTTPS_PROXY=http://proxy:1", "HOME=/root", "LD_LIBRARY_PATH=/usr/lib:"+dir, "OTHER="+dir)
	})
	m := start(t, r, fleet.Spec{ID: "sb_a"})
	wants(t, m, "cat $SSL_CERT_FILE; echo; cat $PIP_FIND_LINKS/a.whl; echo; echo $HTTPS_PROXY $HOME $LD_LIBRARY_PATH $OTHER.", "ca\nwheel\nhttp://proxy:1 /home/user /usr/lib .")
	wants(t, m, "test -e "+ca+" || echo no; test -s /etc/ssl/certs/ca-certificates.crt && echo yes", "no\nyes")
}

func TestFullDisk(t *testing.T) {
	m := start(t, open(t), fleet.Spec{ID: "sb_a", Limits: fleet.Limits{Disk: 64 << 20}})
	if got := run(t, m, "head -c 200M /dev/zero > big"); !strings.Contains(got, "No space left") {
		t.Errorf("a full disk says %q", got)
	}
	u, err := m.Usage()
	if err != nil || u.Disk < 48<<20 || u.Disk > 64<<20 {
		t.Errorf("usage %+v, %v", u, err)
	}
	wants(t, m, "rm big && head -c 1M /dev/zero > small && wc -c < small", "1048576")
	if got := run(t, m, "python3 -c 'for i in range(1000000): open(str(i),\"w\").close()' 2>&1 | tail -1"); !strings.Contains(got, "No space left") {
		t.Errorf("a million files: %q", got)
	}
}

func TestKillEndsEverything(t *testing.T) {
	r := open(t)
	m := start(t, r, fleet.Spec{ID: "sb_a"})
	run(t, m, "setsid sleep 1000 >/dev/null 2>&1 & head -c 50M /dev/zero > big")
	var kills sync.WaitGroup
	for range 3 {
		kills.Go(func() {
			if err := m.Kill(); err != nil {
				t.Error(err)
			}
		})
	}
	kills.Wait()
	<-m.Done()
	if e := m.Exit(); e.Signal != "SIGKILL" || e.OOM {
		t.Errorf("exit %+v", e)
	}
	if _, err := m.Dial(t.Context()); err == nil {
		t.Error("a killed sandbox can be reached")
	}
}

func TestExitOfTheAgent(t *testing.T) {
	m := start(t, open(t), fleet.Spec{ID: "sb_a"})
	_ = request(m, "/exit", nil, nil)
	<-m.Done()
	if e := m.Exit(); e.Code != 7 || e.Signal != "" || e.OOM {
		t.Errorf("exit %+v", e)
	}
}

func TestFailedStart(t *testing.T) {
	r := open(t, func(o *local.Options) { o.Command = []string{"k2sandbox", "broken"} })
	if _, err := r.Start(t.Context(), fleet.Spec{ID: "sb_a"}); err == nil || !strings.Contains(err.Error(), "no kernel today") {
		t.Errorf("a broken agent: %v", err)
	}
	if _, err := r.Start(t.Context(), fleet.Spec{ID: "sb_a", Template: "other"}); !errors.Is(err, fleet.ErrUnknownTemplate) {
		t.Errorf("an unknown template: %v", err)
	}
}

func TestStartWhereCodeCannotBe(t *testing.T) {
	r := open(t, func(o *local.Options) { o.Command = []string{"k2sandbox", "astray"} })
	if _, err := r.Start(t.Context(), fleet.Spec{ID: "sb_a"}); !errors.Is(err, fleet.ErrCwd) || !strings.Contains(err.Error(), "it has moved") {
		t.Errorf("a directory that is none: %v", err)
	}
}

func TestStartWhoseCallerHasGone(t *testing.T) {
	mute := open(t, func(o *local.Options) { o.Command = []string{"k2sandbox", "mute"} })
	ctx, cancel := context.WithCancel(t.Context())
	go cancel()
	if _, err := mute.Start(ctx, fleet.Spec{ID: "sb_a"}); !errors.Is(err, context.Canceled) {
		t.Errorf("a start whose caller has gone: %v", err)
	}
}

func TestLevelThatDoesNotWork(t *testing.T) {
	for _, level := range []string{"namespace", "auto"} {
		_, err := local.New(t.Context(), local.Options{Dir: t.TempDir(), Program: "/bin/true", Level: level})
		if !errors.Is(err, local.ErrNoLevel) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v", level, err)
		}
	}
	if os.Geteuid() != 0 {
		return // whose sandboxes are of the same user
	}
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	closed := filepath.Join(t.TempDir(), "agent")
	if err := os.WriteFile(closed, text, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := local.New(t.Context(), local.Options{Dir: t.TempDir(), Program: closed}); !errors.Is(err, local.ErrNoLevel) || !strings.Contains(err.Error(), "chmod a+rx") {
		t.Errorf("got %v", err)
	}
}

func TestManyAtOnce(t *testing.T) {
	r := open(t)
	var all sync.WaitGroup
	ranges := make(chan string, 20)
	for i := range 20 {
		all.Go(func() {
			m, err := r.Start(t.Context(), fleet.Spec{ID: fmt.Sprintf("sb_%d", i)})
			if err != nil {
				t.Error(err)
				return
			}
			var o outcome
			if err := request(m, "/run", task{Args: []string{"/bin/sh", "-c", "ls -A; cat /proc/self/uid_map; touch mine"}}, &o); err != nil {
				t.Error(err)
			}
			ranges <- o.Out
			if err := m.Kill(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	close(ranges)
	seen := map[string]bool{}
	for ids := range ranges {
		if seen[ids] && os.Getuid() == 0 || ids == "" || strings.Contains(ids, "mine") {
			t.Errorf("two sandboxes see %q", ids)
		}
		seen[ids] = true
	}
}

func TestLandlock(t *testing.T) {
	for _, level := range []string{"landlock", "none"} {
		t.Run(level, func(t *testing.T) { testProcesses(t, level) })
	}
}

// testProcesses tests sandboxes that are processes of the host.
func testProcesses(t *testing.T, level string) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := open(t, func(o *local.Options) {
		o.Level = level
		if err := os.Chmod(filepath.Dir(o.Dir), 0o711); err != nil { // which others have to enter
			t.Fatal(err)
		}
	})
	if _, err := r.Start(t.Context(), fleet.Spec{ID: "sb_b", Network: fleet.Network{Mode: "none"}}); !errors.Is(err, fleet.ErrUnsupported) {
		t.Errorf("without network: %v", err)
	}
	m := start(t, r, fleet.Spec{ID: "sb_a", Network: fleet.Network{Mode: "full"}})
	wants(t, m, `test "$PWD" = "$HOME" && echo a > b && cat b && echo c > $TMPDIR/d && cat $TMPDIR/d`, "a\nc")
	wants(t, m, "python3 -c 'import ssl, sqlite3, multiprocessing; print(1)'; getent services ssh | tr -s ' '", "1\nssh 22/tcp")
	wants(t, m, loginShell, "/its/own:/usr/bin:/bin")
	u := m.Isolation()
	if u.Level != level || u.Missing["network"] == "" || u.Missing["disk"] == "" {
		t.Errorf("isolation %+v", u)
	}
	if level == "landlock" {
		wants(t, m, "cat "+secret+" 2>/dev/null || cat /etc/shadow 2>/dev/null || echo x 2>/dev/null > /tmp/x || echo no", "no")
		wants(t, m, fmt.Sprintf("kill -9 %d 2>/dev/null || cat /proc/%d/environ 2>/dev/null || echo no", os.Getpid(), os.Getpid()), "no")
	}
	run(t, m, "(setsid sleep 1000 >/dev/null 2>&1 &) & setsid sleep 1000 >/dev/null 2>&1 &")
	if err := m.Kill(); err != nil {
		t.Error(err)
	}
}

// The same tests once more, as an ordinary user.
func TestAsOrdinaryUser(t *testing.T) {
	if os.Getuid() != 0 {
		return
	}
	dir, err := os.MkdirTemp("", "k2-user-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	const uid = 61_234
	test, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "test")
	if err := errors.Join(os.WriteFile(file, test, 0o755), os.Chmod(file, 0o755), os.Chown(dir, uid, uid)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), file, "-test.v", "-test.skip=TestInterpreterOutsideOfUsr|TestAsOrdinaryUser|TestAttacks|TestZygote") // the interpreter may be root's
	cmd.Dir = dir
	cmd.Env = []string{"TMPDIR=" + dir, "PATH=/usr/bin:/bin", "HOME=" + dir, "K2_TEST_AGENT=" + program}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestSandboxOutlivesItsServer(t *testing.T) {
	dir := t.TempDir()
	records := map[string]json.RawMessage{}
	for _, id := range []string{"sb_keep", "sb_sweep"} {
		cmd := exec.Command(program, "server", dir, "namespace", id)
		cmd.Stderr = os.Stderr
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		defer stdin.Close()
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(stdout).ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		records[id] = line
		_ = cmd.Process.Kill()
		_, _ = io.Copy(io.Discard, stdout)
		_ = cmd.Wait()
	}
	r, err := local.New(t.Context(), local.Options{Dir: dir, Program: program, Level: "namespace"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.Adopt(t.Context(), "sb_keep", records["sb_keep"])
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Sweep(func(id string) bool { return id == "sb_keep" }); err != nil {
		t.Error(err)
	}
	wants(t, m, "pwd", "/home/user")
	if _, err := r.Adopt(t.Context(), "sb_sweep", records["sb_sweep"]); !errors.Is(err, fleet.ErrGone) {
		t.Errorf("a sandbox that was swept: %v", err)
	}
	if err := m.Kill(); err != nil {
		t.Error(err)
	}
	<-m.Done()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if left := traces(t, dir); !strings.HasPrefix(left, "sandboxes []; ids []; mounts 0") {
		t.Error(left)
	}
}

func TestMemoryAndProcesses(t *testing.T) {
	m := start(t, open(t), fleet.Spec{ID: "sb_a", Limits: fleet.Limits{Memory: 256 << 20, Pids: 50}})
	if got := run(t, m, "python3 -c 'x = bytearray(1<<30); print(len(x))' 2>&1"); strings.Contains(got, "1073741824") {
		t.Errorf("a bomb of memory: %q", got)
	}
	got := run(t, m, `python3 -c '
import os, signal, time
made = []
try:
    while len(made) < 500:
        pid = os.fork()
        if pid == 0:
            os.close(1), os.close(2), time.sleep(1000)
        made.append(pid)
except OSError as e:
    print(len(made) < 60, e.errno)
for pid in made:
    os.kill(pid, signal.SIGKILL), os.waitpid(pid, 0)
'`)
	if got != "True 11" {
		t.Errorf("a bomb of processes: %q", got)
	}
	wants(t, m, "ulimit -n; ulimit -c", "4096\n0")
	u, err := m.Usage()
	if err != nil {
		t.Fatal(err)
	}
	told := m.Isolation()
	if told.Missing["memory"] == "" && (u.OOMKill < 1 || u.Memory <= 0 || u.Pids < 1 || u.CPU <= 0) {
		t.Errorf("usage %+v", u)
	}
	if told.Enforced["memory"] == "" || told.Enforced["pids"] == "" || told.Enforced["disk"] == "" {
		t.Errorf("isolation %+v", told)
	}
}

func TestPause(t *testing.T) {
	m := start(t, open(t), fleet.Spec{ID: "sb_a"})
	err := m.Pause(t.Context())
	if m.Isolation().Missing["pause"] != "" {
		if !errors.Is(err, fleet.ErrUnsupported) {
			t.Error(err)
		}
		return
	}
	if err = errors.Join(err, m.Pause(t.Context()), m.Resume(t.Context()), m.Resume(t.Context())); err != nil {
		t.Fatal(err)
	}
	wants(t, m, "echo on", "on")
	if err := m.Pause(t.Context()); err != nil { // and it can be killed
		t.Error(err)
	}
}

func TestNetwork(t *testing.T) {
	var l net.Listener
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello ", r.Host) })}
	go server.Serve(l) // until it is closed
	t.Cleanup(func() { server.Close() })
	r := open(t, func(o *local.Options) {
		o.Network.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		}
	})
	spec, err := r.Complete(fleet.Spec{ID: "sb_a"})
	if err != nil {
		t.Fatal(err)
	}
	if why := r.Isolation().Missing["network"]; (why == "") != (spec.Network.Mode == "full") {
		t.Errorf("the network is %q, and what is missing of it %q", spec.Network.Mode, why)
	} else if _, err := r.Complete(fleet.Spec{Network: fleet.Network{Mode: "full"}}); (why != "") != errors.Is(err, fleet.ErrUnsupported) {
		t.Errorf("a network that is missing for %q: %v", why, err)
	}
	m := start(t, r, spec)
	fetch := func(address string) string {
		return "python3 -c 'import urllib.request as u; print(u.urlopen(\"http://" + address + "/\", timeout=20).read().decode())' 2>&1 | tail -1"
	}
	if m.Isolation().Missing["network"] == "" {
		wants(t, m, fetch("192.88.98.1"), "hello 192.88.98.1")
		if u, err := m.Usage(); err != nil || u.Received == 0 || u.Sent == 0 {
			t.Errorf("usage %+v, %v", u, err)
		}
	}
	alone := start(t, r, fleet.Spec{ID: "sb_b", Network: fleet.Network{Mode: "none"}})
	for name, each := range map[string]fleet.Machine{"full": m, "none": alone} {
		if got := run(t, each, fetch(l.Addr().String())); !strings.Contains(got, "refused") {
			t.Errorf("%s reaches the host's loopback: %s", name, got)
		}
	}
	if got := run(t, alone, fetch("192.88.98.1")); !strings.Contains(got, "unreachable") {
		t.Errorf("no network reaches the outside: %s", got)
	}
}
