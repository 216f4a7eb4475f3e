package kernel_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

func TestDeathAndRestart(t *testing.T) {
	t.Parallel()
	k := start(t, kernel.Options{})
	file, pid := k.ConnectionFile(), k.Pid()
	for _, c := range []struct {
		code string
		want wire.Death
	}{
		{`import os, sys; os.write(sys.stderr._original_stdstream_copy, b"last words"); os._exit(3)`, wire.Death{Code: 3, Stderr: "last words"}},
		{`import ctypes; ctypes.string_at(0)`, wire.Death{Code: -1, Signal: "SIGSEGV"}},
		{`import os, shutil, subprocess; subprocess.Popen(["sleep", "1000"], start_new_session=True)
shutil.rmtree("` + filepath.Dir(file) + `"); os.kill(os.getpid(), 9)`,
			wire.Death{Code: -1, Signal: "SIGKILL"}},
	} {
		var d *wire.Death
		if o := ask(t.Context(), k, c.code, nil); !errors.As(o.err, &d) || d.Code != c.want.Code ||
			d.Signal != c.want.Signal || d.OOM || d.Requested || d.Cause != "" || !strings.Contains(d.Stderr, c.want.Stderr) {
			t.Errorf("%s: %+v", c.code, o.err)
		}
		if !errors.As(k.Err(), &d) {
			t.Errorf("Err: %v", k.Err())
		}
		if err := k.Interrupt(t.Context()); !errors.As(err, &d) {
			t.Errorf("Interrupt of a dead kernel: %v", err)
		}
		if err := k.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		two(t, k)
	}
	if k.ConnectionFile() != file || k.Pid() == pid || k.Err() != nil {
		t.Error(k.ConnectionFile(), k.Pid(), k.Err())
	}
}

func TestRestartWhileBusy(t *testing.T) {
	t.Parallel()
	k := start(t, kernel.Options{})
	asked := begin(t, k, "import time; x = 1\nwhile True: time.sleep(0.01)")
	var restarts sync.WaitGroup
	for range 3 {
		restarts.Go(func() {
			if err := k.Restart(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	var d *wire.Death
	if o := <-asked; !errors.As(o.err, &d) || !d.Requested {
		t.Errorf("%+v", o)
	}
	restarts.Wait()
	if o := ask(t.Context(), k, "x", nil); o.ename != "NameError" {
		t.Errorf("%+v", o)
	}
}

func TestBreachOfProtocolKillsTheKernel(t *testing.T) {
	t.Parallel()
	k := start(t, kernel.Options{})
	// A frame whose header says 2^60 bytes, on iopub.
	code := `
import os, socket, stat, time
for fd in range(3, 256):
    try:
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            s = socket.socket(fileno=os.dup(fd))
            if s.family == socket.AF_UNIX and str(s.getsockname()).endswith("/s-2"):
                s.send(b"\x02\x10" + bytes(7))
    except OSError:
        pass
time.sleep(1000)`
	var d *wire.Death
	if o := ask(t.Context(), k, code, nil); !errors.As(o.err, &d) || !strings.Contains(d.Cause, "iopub") || d.Requested {
		t.Errorf("%+v", o)
	}
	if err := k.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	two(t, k)
}

func TestShutdownRunsAtexit(t *testing.T) {
	t.Parallel()
	k := start(t, kernel.Options{ShutdownTimeout: time.Hour})
	file := filepath.Join(t.TempDir(), "bye")
	if o := ask(t.Context(), k, "import atexit; atexit.register(lambda: open('"+file+"', 'w').write('bye'))", nil); o.err != nil {
		t.Fatal(o.err)
	}
	if err := k.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(file); string(text) != "bye" {
		t.Error(text, err)
	}
	var d *wire.Death
	if !errors.As(k.Err(), &d) || !d.Requested || d.Signal != "" {
		t.Errorf("%+v", k.Err())
	}
}

func TestStrayMessagesSpanRestarts(t *testing.T) {
	t.Parallel()
	k := start(t, kernel.Options{})
	over := filepath.Join(t.TempDir(), "over")
	late := func(word string) {
		os.Remove(over)
		// Its context keeps the finished cell as the parent of what it prints.
		ask(t.Context(), k, `import asyncio, os
async def f():
    while not os.path.exists("`+over+`"): await asyncio.sleep(0.01)
    print("`+word+`")
task = asyncio.get_running_loop().create_task(f())`, nil)
		if err := os.WriteFile(over, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for m, err := range k.Stray(t.Context()) {
			if err != nil {
				t.Error(err)
			}
			if strings.TrimSpace(m.Get("text").String()) == word {
				return
			}
		}
		t.Error(word + " did not come")
	}
	late("one")
	if err := k.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	late("two")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range k.Stray(t.Context()) {
		}
	}()
	k.Close()
	<-ended
}

func TestInterrupt(t *testing.T) {
	t.Parallel()
	k := start(t, kernel.Options{})
	if err := k.Interrupt(t.Context()); err != nil {
		t.Fatal(err)
	}
	two(t, k) // an idle kernel does not mind
	for code, want := range map[string]string{
		"print(1, flush=True); import time; time.sleep(1000)":                       "KeyboardInterrupt",
		"print(1, flush=True)\nwhile True: pass":                                    "KeyboardInterrupt",
		"import subprocess; print(1, flush=True); subprocess.run(['sleep','1000'])": "KeyboardInterrupt",
		// What is printed from the loop is printed while the cell waits.
		"import asyncio; asyncio.get_running_loop().call_soon(lambda: print(1, flush=True)); await asyncio.sleep(1000)": "CancelledError",
	} {
		asked := begin(t, k, code)
		if o := interrupted(t, k, asked); o.ename != want {
			t.Errorf("%s: %+v, want %s", code, o, want)
		}
		two(t, k)
	}
}

// interrupted interrupts until the cell ends, for a signal that comes before the
// code really runs is lost. A second one, where the first was not, would hit the
// traceback: it comes late.
func interrupted(t *testing.T, k *kernel.Kernel, asked <-chan outcome) outcome {
	t.Helper()
	for {
		if err := k.Interrupt(t.Context()); err != nil {
			t.Fatal(err)
		}
		select {
		case o := <-asked:
			return o
		case <-time.After(10 * time.Second):
		}
	}
}

func TestTenKernelsAtOnce(t *testing.T) {
	t.Parallel()
	dir := runDir(t)
	var kernels sync.WaitGroup
	for range 10 {
		kernels.Go(func() {
			k, err := kernel.Start(t.Context(), kernel.Options{Spec: kernel.PythonSpec(python(t)), RunDir: dir})
			if err != nil {
				t.Error(err)
				return
			}
			two(t, k)
			if err := k.Close(); err != nil {
				t.Error(err)
			}
			if err := syscall.Kill(k.Pid(), 0); err == nil {
				t.Errorf("process %d is left", k.Pid())
			}
		})
	}
	kernels.Wait()
	empty(t, dir)
}
