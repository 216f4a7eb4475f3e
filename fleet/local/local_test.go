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
	before, files := traces(t, o.Dir)
	r, err := local.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if after, open := traces(t, o.Dir); after != before || open > files { // fewer where Go has closed some only now
			t.Errorf("left behind:\nbefore %d open files, %s\nafter  %d open files, %s", files, before, open, after)
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
func traces(t *testing.T, dir string) (all string, open int) {
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
	for _, f := range files { // but those of Go's own
		if target, _ := os.Readlink("/proc/self/fd/" + f.Name()); !strings.HasPrefix(target, "anon_inode:[event") && !strings.HasPrefix(target, "/proc/") {
			open++
		}
	}
	fmt.Fprintf(&s, "children %v", children(t))
	return s.String(), open
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
			target == "/dev/null" || target == "/dev/net/tun" || strings.HasPrefix(target, "/proc/") ||
			strings.HasSuffix(target, "/memory.oom_control") || strings.HasSuffix(target, "/memory.events") // to be read, and a number alone
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

func TestManyAtOnce(t *testing.T) {
	r := open(t)
	var all, asked sync.WaitGroup
	asked.Add(20)
	ranges := make(chan string, 20)
	for i := range 20 {
		all.Go(func() {
			done := sync.OnceFunc(asked.Done)
			defer done()
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
			done()
			asked.Wait() // what one had the next one may have
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

// doomed starts a server of one sandbox, with more arguments, and returns the sandbox's record, the server's pid, and
// what kills the server.
func doomed(t *testing.T, dir, id string, more ...string) (json.RawMessage, int, func()) {
	t.Helper()
	cmd := exec.Command(program, append([]string{"server", dir, "namespace", id}, more...)...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	record, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	return record, cmd.Process.Pid, func() {
		_ = cmd.Process.Kill()
		_, _ = io.Copy(io.Discard, stdout)
		_ = cmd.Wait()
		stdin.Close()
	}
}

func TestSandboxOutlivesItsServer(t *testing.T) {
	dir := t.TempDir()
	records := map[string]json.RawMessage{}
	for _, id := range []string{"sb_keep", "sb_sweep"} {
		record, _, kill := doomed(t, dir, id)
		records[id] = record
		kill()
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
	if left, _ := traces(t, dir); !strings.HasPrefix(left, "sandboxes []; ids []; mounts 0") {
		t.Error(left)
	}
}
