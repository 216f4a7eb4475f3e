package kernel_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/kernel/kerneltest"
)

// zygote is the one that all kernels of a run of the tests have; nil: none.
var zygote *kernel.Zygote

// overZygote runs the tests with a zygote: they have to see no difference.
func overZygote(m *testing.M) int {
	z, err := kerneltest.NewZygote(os.Getenv("K2_TEST_PYTHON"))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer z.Close()
	zygote = z.Zygote
	return m.Run()
}

// Kernels that a zygote forks behave as others do: tests of theirs are run again.
func TestOverZygote(t *testing.T) {
	if zygote != nil {
		return // it is what runs
	}
	python(t)
	again := exec.CommandContext(t.Context(), os.Args[0], "-test.run",
		"^Test(StartAskClose|DeathAndRestart|RestartWhileBusy|BreachOfProtocolKillsTheKernel|Interrupt|ShutdownRunsAtexit|TenKernelsAtOnce|Zygote.*)$")
	again.Env = append(os.Environ(), kerneltest.AsZygote+"=1")
	if out, err := again.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// record is a log that can be read once nobody writes to it.
type record struct{ bytes.Buffer }

func (r *record) log() *slog.Logger { return slog.New(slog.NewTextHandler(&r.Buffer, nil)) }

// A zygote that is gone, hostile or mistaken costs a kernel nothing but time.
func TestHostileZygote(t *testing.T) {
	for name, answer := range map[string]string{
		"EOF":         "",
		"zygote refu": `{"error":"no"}`,
		"is no child": `{"pid":1}`,
		"no child of": `{}`,
		"invalid cha": `what?`,
		"is too long": `{"error":"` + strings.Repeat("x", 1<<16) + `"}`,
		"is known al": fmt.Sprintf(`{"pid":%d}`, start(t, kernel.Options{}).Pid()),
		"of type int": `{"pid":-9223372036854775809}`,
		"i/o timeout": "none",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours, theirs, err := kerneltest.Pair()
			if err != nil {
				t.Fatal(err)
			}
			defer ours.Close()
			go func() { // ends with its answer, or with the socket
				defer theirs.Close()
				buf := make([]byte, 1<<17)
				if n, err := theirs.Read(buf); err != nil || !bytes.Contains(buf[:n], []byte(`"HOME":`)) {
					t.Errorf("%s %v", buf[:n], err)
				}
				switch answer {
				case "":
				case "none":
					theirs.Read(buf)
				default:
					theirs.Write([]byte(answer))
				}
			}()
			z, err := kernel.NewZygote(ours, python(t))
			if err != nil {
				t.Fatal(err)
			}
			defer z.Close()
			var said record
			k := start(t, kernel.Options{Zygote: z, Log: said.log()})
			two(t, k)
			if !strings.Contains(said.String(), name) {
				t.Errorf("said %s", &said.Buffer)
			}
		})
	}
}

// Of what a zygote is not asked for.
func TestNotForZygote(t *testing.T) {
	ours, theirs, err := kerneltest.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	defer theirs.Close()
	z, err := kernel.NewZygote(ours, python(t))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	two(t, start(t, kernel.Options{Zygote: z, Spec: module(t, "ipykernel_launcher")}))
	k := start(t, kernel.Options{Zygote: z, Envs: map[string]string{"A": strings.Repeat("x", 1<<16), "B": strings.Repeat("x", 1<<16)}})
	two(t, k)
	if err := unix.SetNonblock(int(theirs.Fd()), true); err != nil {
		t.Fatal(err)
	}
	if n, err := unix.Read(int(theirs.Fd()), make([]byte, 10)); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("it was asked: %d %v", n, err)
	}
}

// What the process of a kernel is, however it was started.
func TestZygoteKernelIsLikeAnother(t *testing.T) {
	t.Parallel()
	var said record
	k := start(t, kernel.Options{Cwd: "/", Envs: map[string]string{"A": "b"}, Log: said.log()})
	if strings.Contains(said.String(), "not forked") {
		t.Error(&said.Buffer)
	}
	o := ask(t.Context(), k, `
import os, sys, fcntl
print(os.getpid() == os.getsid(0) == os.getpgid(0), os.getcwd(), os.environ["A"], sys.executable, sys.prefix, sys.argv[0].endswith("ipykernel_launcher.py"))
print([fcntl.fcntl(f, fcntl.F_GETFL) & os.O_NONBLOCK for f in range(3)], os.environ["K2_MARK"] != "", os.getppid())`, nil)
	want := fmt.Sprintf("True / b %s %s True\n[0, 0, 0] True %d\n", python(t), filepath.Dir(filepath.Dir(python(t))), os.Getpid())
	if o.stdout != want {
		t.Errorf("%+v, want %q", o, want)
	}
	// What it starts in sessions of its own goes with it.
	o = ask(t.Context(), k, `
import subprocess
print(subprocess.Popen(["sleep", "1000"], start_new_session=True).pid, end="")`, nil)
	if err := k.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "process "+o.stdout+" is left", func() bool { return gone(o.stdout) })
	if err := syscall.Kill(k.Pid(), 0); err != nil {
		t.Error(err)
	}
}

// One that has only been started is asked for kernels once it is ready.
func TestZygoteThatStarts(t *testing.T) {
	z, err := kerneltest.NewInside(python(t))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	var said record
	k := start(t, kernel.Options{Zygote: z.Zygote, Log: said.log()})
	for range 2 {
		if o := ask(t.Context(), k, "import gc; print(gc.get_freeze_count() > 0)", nil); o.stdout != "True\n" || strings.Contains(said.String(), "not forked") {
			t.Errorf("%+v, said %s", o, &said.Buffer)
		}
		if err := k.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// One that does not get ready is not asked, so that it forks nothing later.
func TestZygoteThatIsNeverReady(t *testing.T) {
	ours, theirs, err := kerneltest.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	defer theirs.Close()
	z, err := kernel.NewZygote(ours, python(t))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	z.Starting()
	if _, err := theirs.Write([]byte(`{"error":"no"}`)); err != nil {
		t.Fatal(err)
	}
	var said record
	two(t, start(t, kernel.Options{Zygote: z, Log: said.log()}))
	if !strings.Contains(said.String(), "does not say that it is ready") {
		t.Errorf("said %s", &said.Buffer)
	}
	z.Close()
	ours.Close()
	if n, err := theirs.Read(make([]byte, 10)); n != 0 {
		t.Errorf("it was asked: %d %v", n, err)
	}
}
