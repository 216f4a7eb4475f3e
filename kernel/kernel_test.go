package kernel_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

var _ executor.Conn = (*kernel.Kernel)(nil)

// python returns an interpreter that has ipykernel and bash_kernel.
func python(t testing.TB) string {
	t.Helper()
	py := os.Getenv("K2_TEST_PYTHON")
	if py == "" {
		t.Fatal("K2_TEST_PYTHON is not set: `make test` makes the interpreter that these tests need")
	}
	return py
}

// start starts a kernel and sees to it that nothing of it is left at the end.
func start(t testing.TB, o kernel.Options) *kernel.Kernel {
	t.Helper()
	if o.Spec.Argv == nil {
		o.Spec = kernel.PythonSpec(python(t))
	}
	if o.RunDir == "" {
		o.RunDir = runDir(t)
	}
	if o.Zygote == nil {
		o.Zygote = zygote
	}
	if o.Log == nil && zygote != nil {
		o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	k, err := kernel.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
		empty(t, o.RunDir)
	})
	return k
}

// runDir is like t.TempDir, whose path may be too long for a socket.
func runDir(t testing.TB) string {
	dir, err := os.MkdirTemp("", "k2t")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func empty(t testing.TB, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left in %s: %v %v", dir, left, err)
	}
}

func cell(code string) wire.Request {
	content, _ := json.Marshal(map[string]any{"code": code, "allow_stdin": false, "stop_on_error": true})
	return wire.Request{Channel: wire.Shell, ID: wire.NewID(), Type: "execute_request", Content: content}
}

// outcome is what a cell came to.
type outcome struct {
	status, ename, stdout, result string
	err                           error
}

// ask runs code to its reply and idle. seen, where not nil, is called with each message.
func ask(ctx context.Context, k *kernel.Kernel, code string, seen func(wire.Message)) (o outcome) {
	idle := false
	for m, err := range k.Ask(ctx, cell(code)) {
		if err != nil {
			o.err = err
			return o
		}
		if seen != nil {
			seen(m)
		}
		switch m.Type() {
		case "stream":
			o.stdout += m.Get("text").String()
		case "execute_result":
			o.result = m.Get("data.text/plain").String()
		case "execute_reply":
			o.status, o.ename = m.Get("status").String(), m.Get("ename").String()
		case "status":
			idle = m.Get("execution_state").String() == "idle"
		}
		if idle && o.status != "" {
			return o
		}
	}
	o.err = errors.New("the messages ended without an error")
	return o
}

// begin starts a cell and returns once its code is about to run, or has printed
// where it prints.
func begin(t testing.TB, k *kernel.Kernel, code string) <-chan outcome {
	t.Helper()
	sign := "execute_input"
	if strings.Contains(code, "print") {
		sign = "stream"
	}
	running, done := make(chan struct{}), make(chan outcome, 1)
	go func() {
		done <- ask(t.Context(), k, code, func(m wire.Message) {
			if m.Type() == sign {
				close(running)
				sign = ""
			}
		})
	}()
	select {
	case <-running:
	case o := <-done:
		t.Fatalf("%s: %+v", code, o)
	}
	return done
}

func two(t testing.TB, k *kernel.Kernel) {
	t.Helper()
	if o := ask(t.Context(), k, "1+1", nil); o.result != "2" || o.err != nil {
		t.Fatalf("1+1: %+v", o)
	}
}

// holdings counts this program's goroutines, open files and children.
func holdings(t testing.TB) [3]int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	children := 0
	tasks, _ := filepath.Glob("/proc/self/task/*/children")
	for _, f := range tasks {
		text, _ := os.ReadFile(f)
		children += len(strings.Fields(string(text)))
	}
	return [3]int{runtime.NumGoroutine(), len(files), children}
}

func TestStartAskClose(t *testing.T) {
	cwd := t.TempDir()
	os.WriteFile(filepath.Join(cwd, "x y.txt"), []byte("here"), 0o600)
	t.Setenv("K2_SECRET", "leaks")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "leaks")
	before := holdings(t)
	k := start(t, kernel.Options{Cwd: cwd, Envs: map[string]string{"GREETING": "a=b\nc"}})
	two(t, k)
	o := ask(t.Context(), k, `import os; print(open("x y.txt").read(), os.environ["GREETING"], os.environ["COLUMNS"], [v for v in os.environ.values() if v == "leaks"], os.environ.get("JPY_PARENT_PID"))`, nil)
	if want := "here a=b\nc 80 [] None\n"; o.stdout != want {
		t.Errorf("%+v, want %q", o, want)
	}
	if o := ask(t.Context(), k, `!pip --version`, nil); !strings.Contains(o.stdout, filepath.Dir(filepath.Dir(python(t)))+"/") {
		t.Errorf("!pip is another Python's: %+v", o)
	}
	if i := k.Info(); i.Language != "python" || !i.Has(wire.RunOptions) {
		t.Errorf("info %+v", i)
	}
	if k.Err() != nil || k.Pid() == 0 {
		t.Error(k.Err(), k.Pid())
	}
	file := k.ConnectionFile()
	for f, mode := range map[string]os.FileMode{file: 0o600, filepath.Dir(file): 0o700} {
		if s, err := os.Stat(f); err != nil || s.Mode().Perm() != mode {
			t.Errorf("%s: %v %v", f, s.Mode(), err)
		}
	}
	asked := begin(t, k, "import time; time.sleep(100)")
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	var d *wire.Death
	if err := (<-asked).err; !errors.As(err, &d) || !d.Requested {
		t.Errorf("Ask ended with %v", err)
	}
	<-k.Done()
	if !errors.As(k.Err(), &d) || !d.Requested {
		t.Errorf("Err is %v", k.Err())
	}
	if o := ask(t.Context(), k, "1", nil); !errors.As(o.err, &d) {
		t.Errorf("Ask after Close: %+v", o)
	}
	if err := k.Restart(t.Context()); !errors.Is(err, kernel.ErrClosed) {
		t.Errorf("Restart after Close: %v", err)
	}
	await(t, fmt.Sprint("goroutines, files or children are left: had ", before, ", now ", holdings(t)), func() bool {
		now := holdings(t)
		return now[0] <= before[0] && now[1] <= before[1] && now[2] <= before[2]
	})
}
