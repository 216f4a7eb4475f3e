package local_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/fleet/local"
)

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
