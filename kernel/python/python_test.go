package python_test

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/kernel/python"
)

// TestMain lets a test start this program once more, as a process that it can kill.
func TestMain(m *testing.M) {
	if dir := os.Getenv("K2_ENSURE_IN"); dir != "" {
		if _, err := python.Ensure(context.Background(), dir, python.Options{}); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// fake makes a PATH on which python3 plays an installation, and which has no other Python.
// It returns what reads the steps so far. Each of vars is a variable of testdata/python3.
func fake(t *testing.T, vars ...string) (steps func() string) {
	t.Helper()
	bin := t.TempDir()
	for _, name := range []string{"cp", "mkdir"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		link(t, path, filepath.Join(bin, name))
	}
	link(t, player(t), filepath.Join(bin, "python3"))
	t.Setenv("PATH", bin)
	log := filepath.Join(t.TempDir(), "log")
	for _, v := range append(vars, "FAKE_LOG="+log) {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	return func() string {
		text, _ := os.ReadFile(log)
		return strings.Join(strings.Fields(string(text)), " ")
	}
}

func player(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("testdata/python3")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

// pipes makes the named pipes at which the fake python3 stops.
func pipes(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "pipe")
	for _, end := range []string{".at", ".go"} {
		if err := unix.Mkfifo(path+end, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// await waits until the fake python3 has stopped.
func await(t *testing.T, pipes string) {
	t.Helper()
	at, err := os.Open(pipes + ".at")
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	if _, err := bufio.NewReader(at).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
}

// release lets the fake python3 go on.
func release(t *testing.T, pipes string) {
	t.Helper()
	if err := os.WriteFile(pipes+".go", []byte("go\n"), 0); err != nil {
		t.Fatal(err)
	}
}

func TestEnsureBuildsOnceAndReportsEachStep(t *testing.T) {
	steps := fake(t)
	dir := t.TempDir()
	if _, ok := python.Lookup(dir); ok {
		t.Fatal("Lookup found an environment in an empty directory")
	}
	var reports []python.Progress
	first, err := python.Ensure(t.Context(), dir, python.Options{Report: func(p python.Progress) { reports = append(reports, p) }})
	if err != nil {
		t.Fatal(err)
	}
	if got := steps(); got != "venv pip-uv uv try" {
		t.Errorf("steps: %s", got)
	}
	if !slices.Contains(reports, python.Progress{Step: "Installing packages", Done: 2, Total: 3}) ||
		!slices.Contains(reports, python.Progress{Step: "Installing packages", Done: 3, Total: 3}) {
		t.Errorf("reports: %v", reports)
	}
	for _, o := range []python.Options{{}, {Python: "python3"}} {
		again, err := python.Ensure(t.Context(), dir, o)
		if err != nil || again != first {
			t.Errorf("the second time: %q, %v; the first time: %q", again, err, first)
		}
	}
	if found, ok := python.Lookup(dir); !ok || found != first {
		t.Errorf("Lookup: %q, %v", found, ok)
	}
	if got := steps(); got != "venv pip-uv uv try" {
		t.Errorf("it was built again: %s", got)
	}
}

func TestEnsureFallsBackToPip(t *testing.T) {
	steps := fake(t, "FAKE_FAIL=uv")
	if _, err := python.Ensure(t.Context(), t.TempDir(), python.Options{}); err != nil {
		t.Fatal(err)
	}
	if got := steps(); got != "venv pip-uv uv pip try" {
		t.Errorf("steps: %s", got)
	}
}

func TestEnsureSaysWhatIsMissing(t *testing.T) {
	for name, c := range map[string]struct {
		vars   []string
		python string
		want   []string
	}{
		"too old":       {[]string{"FAKE_MINOR=8"}, "", []string{"Python 3.10 to 3.14 is needed", "/python3: it is Python 3.8.1, which is too old"}},
		"too new":       {[]string{"FAKE_MINOR=99"}, "", []string{"Python 3.99.1, which is newer than this version of k2sandbox knows"}},
		"not CPython":   {[]string{"FAKE_IMPLEMENTATION=pypy"}, "", []string{"it is pypy, not CPython"}},
		"no venv":       {[]string{`FAKE_MISSING="ensurepip"`}, "", []string{"no module ensurepip", "apt install python3-venv"}},
		"no such name":  {nil, "python9", []string{"cannot find python9"}},
		"not a Python":  {nil, "/bin/echo", []string{"/bin/echo: it does not answer as Python would"}},
		"does not run":  {nil, "/usr/bin/false", []string{"/bin/false: it does not run: exit status 1"}},
		"venv fails":    {[]string{"FAKE_FAIL=venv", "FAKE_WORDS=ensurepip is cross"}, "", []string{"-m venv failed", "ensurepip is cross"}},
		"no network":    {[]string{"FAKE_FAIL=pip-uv", "FAKE_WORDS=Temporary failure in name resolution"}, "", []string{"pip cannot install uv: the package index cannot be reached", "name resolution"}},
		"neither":       {[]string{"FAKE_FAIL=uv pip", "FAKE_WORDS=hash mismatch"}, "", []string{"uv cannot install packages", "nor can pip", "first words", "hash mismatch"}},
		"disk full":     {[]string{"FAKE_FAIL=uv", "FAKE_WORDS=No space left on device (os error 28)"}, "", []string{"the disk is full"}},
		"does not work": {[]string{"FAKE_FAIL=try", "FAKE_WORDS=ImportError: libz"}, "", []string{"do not work", "ImportError: libz"}},
	} {
		t.Run(name, func(t *testing.T) {
			fake(t, c.vars...)
			dir := t.TempDir()
			_, err := python.Ensure(t.Context(), dir, python.Options{Python: c.python})
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q:\n%v", want, err)
				}
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "python", "*-fake-*[0-9]")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestEnsureWithoutAnyPython(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := python.Ensure(t.Context(), t.TempDir(), python.Options{})
	if err == nil || !strings.Contains(err.Error(), "cannot find python3 on PATH: install Python 3.10 to 3.14") {
		t.Errorf("error: %v", err)
	}
}

func TestEnsureInADirectoryThatIsAFile(t *testing.T) {
	fake(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := python.Ensure(t.Context(), file, python.Options{}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("error: %v", err)
	}
}

func TestFindTakesTheNextPythonWhereTheFirstIsBroken(t *testing.T) {
	fake(t)
	bin := t.TempDir()
	link(t, "/usr/bin/false", filepath.Join(bin, "python3"))
	link(t, player(t), filepath.Join(bin, "python3.12"))
	t.Setenv("PATH", bin)
	base, err := python.Find(t.Context(), "")
	if err != nil || filepath.Base(base.Path) != "python3.12" || base.Version != "3.11.1" {
		t.Errorf("%+v, %v", base, err)
	}
}

func TestCancelEndsTheInstaller(t *testing.T) {
	at := pipes(t)
	steps := fake(t, "FAKE_STOP=uv", "FAKE_PIPES="+at)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	dir := t.TempDir()
	go func() {
		_, err := python.Ensure(ctx, dir, python.Options{})
		done <- err
	}()
	await(t, at)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error: %v", err)
	}
	if got := steps(); got != "venv pip-uv uv" {
		t.Errorf("steps: %s", got)
	}
}

func TestSecondProcessWaitsForTheFirst(t *testing.T) {
	at := pipes(t)
	steps := fake(t, "FAKE_STOP=uv", "FAKE_PIPES="+at)
	dir := t.TempDir()
	first := exec.Command(os.Args[0])
	first.Env = append(os.Environ(), "K2_ENSURE_IN="+dir)
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, at)
	_, err := python.Ensure(t.Context(), dir, python.Options{Report: func(p python.Progress) {
		if !strings.HasPrefix(p.Step, "Waiting for another process") {
			t.Errorf("report: %v", p)
		}
		release(t, at)
	}})
	if err := errors.Join(err, first.Wait()); err != nil {
		t.Fatal(err)
	}
	if got := steps(); got != "venv pip-uv uv try" {
		t.Errorf("steps: %s", got)
	}
}

// The installer of a process that was killed lives on. Nobody may build beside it.
func TestKilledProcess(t *testing.T) {
	at := pipes(t)
	steps := fake(t, "FAKE_STOP=uv", "FAKE_PIPES="+at)
	dir := t.TempDir()
	first := exec.Command(os.Args[0])
	first.Env = append(os.Environ(), "K2_ENSURE_IN="+dir)
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, at)
	first.Process.Kill()
	first.Wait()
	if _, ok := python.Lookup(dir); ok {
		t.Error("Lookup returned a half-made environment")
	}
	t.Setenv("FAKE_STOP", "")
	waited := false
	_, err := python.Ensure(t.Context(), dir, python.Options{Report: func(p python.Progress) {
		if !waited {
			waited = strings.HasPrefix(p.Step, "Waiting for another process")
			release(t, at)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if !waited {
		t.Error("it did not wait for the installer of the killed process")
	}
	if got := steps(); got != "venv pip-uv uv venv pip-uv uv try" {
		t.Errorf("steps: %s", got)
	}
}

func TestRequirementsArePinnedAndHashed(t *testing.T) {
	for _, name := range []string{"requirements", "lab"} {
		t.Run(name, func(t *testing.T) { checkPins(t, name) })
	}
}

func checkPins(t *testing.T, name string) {
	text, err := os.ReadFile(name + ".txt")
	if err != nil {
		t.Fatal(err)
	}
	wanted, err := os.ReadFile(name + ".in")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(wanted)) {
		if name := strings.TrimSpace(line); !strings.HasPrefix(name, "#") {
			name, _, _ = strings.Cut(name, ">")
			if !strings.Contains("\n"+string(text), "\n"+name+"==") {
				t.Errorf("%s is not pinned: make lock", name)
			}
		}
	}
	for entry := range strings.SplitSeq(strings.ReplaceAll(string(text), "\\\n", ""), "\n") {
		if entry != "" && !strings.HasPrefix(entry, "#") && (!strings.Contains(entry, "==") || !strings.Contains(entry, "--hash=sha256:")) {
			t.Errorf("not pinned by version and hash: %.80s", entry)
		}
	}
}
