package kernel_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// spec writes a kernel.json and finds it.
func spec(t testing.TB, fields map[string]any) kernel.Spec {
	t.Helper()
	data, _ := json.Marshal(fields)
	dir := filepath.Join(t.TempDir(), "test")
	os.Mkdir(dir, 0o700)
	os.WriteFile(filepath.Join(dir, "kernel.json"), data, 0o600)
	s, err := kernel.Find("test", kernel.SearchPath{filepath.Dir(dir)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func module(t testing.TB, name string) kernel.Spec {
	return spec(t, map[string]any{"argv": []string{python(t), "-m", name, "-f", "{connection_file}"}, "language": "x"})
}

func TestStockIPykernelOverIPCWithMessageInterrupt(t *testing.T) {
	t.Parallel()
	s := module(t, "ipykernel_launcher")
	s.InterruptMode = "message"
	k := start(t, kernel.Options{Spec: s})
	two(t, k)
	if k.Info().Has(wire.RunOptions) {
		t.Error("it is not stock")
	}
	if o := interrupted(t, k, begin(t, k, "import time; print(1, flush=True); time.sleep(1000)")); o.ename != "KeyboardInterrupt" {
		t.Errorf("%+v", o)
	}
}

func TestStockIPykernelOverTCP(t *testing.T) {
	t.Parallel()
	k := start(t, kernel.Options{Spec: module(t, "ipykernel_launcher"), Transport: "tcp"})
	two(t, k)
	connection := func() wire.ConnectionInfo {
		text, _ := os.ReadFile(k.ConnectionFile())
		info, err := wire.ParseConnection(text)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	for tries := 3; ; tries-- { // somebody else may get one of its ports while there is no kernel
		before := connection()
		if err := k.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		two(t, k)
		after := connection()
		if before == after {
			break
		}
		if tries == 1 {
			t.Fatalf("the connection changed: %+v, %+v", before, after)
		}
	}
	var d *wire.Death
	if o := ask(t.Context(), k, "import os; os._exit(1)", nil); !errors.As(o.err, &d) || strings.Contains(d.Stderr, "TCP") {
		t.Errorf("%+v", o)
	}
}

func TestBashKernelOverIPC(t *testing.T) {
	t.Parallel()
	k := start(t, kernel.Options{Spec: module(t, "bash_kernel")})
	if o := ask(t.Context(), k, "echo $((40 + 2))", nil); strings.TrimSpace(o.stdout) != "42" {
		t.Errorf("%+v", o)
	}
	// Its shell is the leader of another session, on a terminal.
	shell := ask(t.Context(), k, "echo $$", nil)
	asked := begin(t, k, "echo printed; sleep 1000")
	k.Close()
	var d *wire.Death
	if o := <-asked; !errors.As(o.err, &d) || !d.Requested {
		t.Errorf("%+v", o)
	}
	await(t, "its shell is left", func() bool { return gone(strings.TrimSpace(shell.stdout)) })
}

func TestPortTakenOnTheWay(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]string{
		"and the kernel tells": `echo "bind: Address already in use"; exit 1`,
		"by a socket of another kernel's": `exec "$0" -c 'if 1:
			import json, sys, time, zmq
			ports = json.load(open(sys.argv[1]))
			other = zmq.Context().socket(zmq.PULL)
			for channel in ("shell", "iopub", "stdin", "control", "hb"):
				other.bind("tcp://127.0.0.1:%d" % ports[channel + "_port"])
			time.sleep(1000)' "$1"`,
		"by who speaks otherwise": `exec "$0" -c 'if 1:
			import json, socket, sys
			other = socket.create_server(("127.0.0.1", json.load(open(sys.argv[1]))["shell_port"]))
			while True: other.accept()[0].sendall(b"220 ready" + bytes(100))' "$1"`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			script := `[ -e tried ] && exec "$0" -m bash_kernel -f "$1"; : >tried; ` + first
			k := start(t, kernel.Options{Cwd: t.TempDir(), Transport: "tcp",
				Spec: spec(t, map[string]any{"argv": []string{"sh", "-c", script, python(t), "{connection_file}"}})})
			if o := ask(t.Context(), k, "echo yes", nil); strings.TrimSpace(o.stdout) != "yes" {
				t.Errorf("%+v", o)
			}
		})
	}
}

func TestConnectionFileIsGoneForAWhile(t *testing.T) {
	t.Parallel()
	script := `mv "$1" "$1.old"; sleep 0.2; mv "$1.old" "$1"; exec "$0" -m ipykernel_launcher -f "$1"`
	two(t, start(t, kernel.Options{Transport: "tcp",
		Spec: spec(t, map[string]any{"argv": []string{"sh", "-c", script, python(t), "{connection_file}"}})}))
}

func TestStartFailures(t *testing.T) {
	t.Parallel()
	py := python(t)
	noSite := kernel.PythonSpec(py)
	noSite.Argv = append([]string{py, "-S"}, noSite.Argv[1:]...)
	command := func(argv ...string) kernel.Spec { return kernel.Spec{Name: "test", Argv: argv} }
	for _, c := range []struct {
		name string
		o    kernel.Options
		want []string
	}{
		{"no ipykernel", kernel.Options{Spec: noSite}, []string{"ipykernel is not installed", py + " -m pip install ipykernel"}},
		{"no module", kernel.Options{Spec: command(py, "-S", "-m", "bash_kernel")}, []string{"bash_kernel is not installed"}},
		{"no argv", kernel.Options{}, []string{"argv"}},
		{"no such program", kernel.Options{Spec: command("no-such-program")}, []string{"no-such-program", "PATH"}},
		{"no such file", kernel.Options{Spec: command("/no/such")}, []string{"/no/such", "no such file"}},
		{"exits at once", kernel.Options{Spec: command("sh", "-c", "echo because >&2; exit 7")}, []string{"exit status 7", "because"}},
		{"is killed", kernel.Options{Spec: command("sh", "-c", "kill -9 $$")}, []string{"SIGKILL"}},
		{"exits at once, tcp", kernel.Options{Spec: command("sh", "-c", "exit 7"), Transport: "tcp"}, []string{"exit status 7"}},
		{"never answers", kernel.Options{Spec: command("sleep", "1000"), StartTimeout: 300 * time.Millisecond},
			[]string{"did not answer in time"}},
		{"never answers, tcp", kernel.Options{Spec: command("sh", "-c", ": -m ipykernel; exec sleep 1000"), Transport: "tcp", StartTimeout: 300 * time.Millisecond},
			[]string{"did not answer in time"}},
		{"no such directory", kernel.Options{Spec: noSite, Cwd: "/no/such"}, []string{"/no/such"}},
		{"transport", kernel.Options{Spec: noSite, Transport: "udp"}, []string{"Transport", "udp"}},
		{"provisioner", kernel.Options{Spec: kernel.Spec{Name: "far", Argv: []string{"sh"},
			Metadata: []byte(`{"kernel_provisioner":{"provisioner_name":"slurm"}}`)}}, []string{"kernel_provisioner", "slurm"}},
	} {
		dir := runDir(t)
		if c.o.RunDir == "" {
			c.o.RunDir = dir
		}
		_, err := kernel.Start(t.Context(), c.o)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", c.name, err, want)
			}
		}
		empty(t, dir)
	}
}

// A start that is given up tells what the process has said until then.
func TestStartGivenUp(t *testing.T) {
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "said")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, giveUp := context.WithCancel(t.Context())
	go func() {
		os.ReadFile(fifo)
		giveUp()
	}()
	_, err := kernel.Start(ctx, kernel.Options{RunDir: runDir(t), Spec: kernel.Spec{
		Name: "test", Argv: []string{"sh", "-c", `echo thinking; : >"$0"; exec sleep 1000`, fifo}}})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "thinking") {
		t.Error(err)
	}
}

func TestRunDirTooLong(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 25))
	os.Mkdir(dir, 0o700)
	_, err := kernel.Start(t.Context(), kernel.Options{Spec: kernel.PythonSpec(python(t)), RunDir: dir})
	if err == nil || !strings.Contains(err.Error(), "RunDir") || !strings.Contains(err.Error(), "107") {
		t.Error(err)
	}
	empty(t, dir)
	if _, err := kernel.Start(t.Context(), kernel.Options{Spec: kernel.PythonSpec("py"), RunDir: dir + "/no"}); err == nil || !strings.Contains(err.Error(), "RunDir") {
		t.Error(err)
	}
}
