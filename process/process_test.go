package process_test

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/process"
)

var path = "PATH=" + os.Getenv("PATH")

func start(t *testing.T, c process.Command) *process.Process {
	t.Helper()
	c.Env = append(c.Env, path)
	p, err := process.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func sh(script string) []string { return []string{"sh", "-c", script} }

// lines returns a writer and a channel of the lines written to it.
func lines(t *testing.T) (io.Writer, <-chan string) {
	r, w := io.Pipe()
	t.Cleanup(func() { w.Close() })
	out := make(chan string, 100)
	go func() {
		defer close(out)
		var text string
		buf := make([]byte, 4096)
		for {
			n, err := r.Read(buf)
			text += string(buf[:n])
			for {
				line, rest, ok := strings.Cut(text, "\n")
				if !ok {
					break
				}
				out <- line
				text = rest
			}
			if err != nil {
				return
			}
		}
	}()
	return w, out
}

func TestExit(t *testing.T) {
	for script, want := range map[string]process.Exit{
		"exit 3":          {Code: 3},
		"exit 0":          {},
		"kill -SEGV $$":   {Code: -1, Signal: "SIGSEGV"},
		"kill -KILL $$":   {Code: -1, Signal: "SIGKILL"},
		"kill -34 $$":     {Code: -1, Signal: "SIGRTMIN"},
		"kill -64 $$":     {Code: -1, Signal: "SIGRTMIN+30"},
		"kill -TERM -$$;": {Code: -1, Signal: "SIGTERM"}, // it leads its group
	} {
		if got := start(t, process.Command{Args: sh(script)}).Exit(); got != want {
			t.Errorf("%s: %+v, want %+v", script, got, want)
		}
	}
}

func TestOutputInputAndPlace(t *testing.T) {
	out, errs := process.NewTail(1000), process.NewTail(1000)
	dir := t.TempDir()
	p := start(t, process.Command{
		Args: sh("cat; pwd; echo $A; echo oops >&2"), Dir: dir, Env: []string{"A=b"},
		Stdin: strings.NewReader("in\n"), Stdout: out, Stderr: errs,
	})
	<-p.Done()
	if got, want := out.String(), "in\n"+dir+"\nb\n"; got != want {
		t.Errorf("stdout %q, want %q", got, want)
	}
	if errs.String() != "oops\n" {
		t.Errorf("stderr %q", errs)
	}
	out = process.NewTail(10)
	<-start(t, process.Command{Args: sh("cat"), Stdout: out}).Done() // stdin is /dev/null
	if out.String() != "" {
		t.Errorf("stdin was not empty: %q", out)
	}
}

func TestStartErrors(t *testing.T) {
	for name, c := range map[string]process.Command{
		"no command": {},
		"not in PATH": {
			Args: []string{"no-such-program"}},
		"no such file or directory":                {Args: []string{"/no/such"}},
		"stat /no/such: no such file or directory": {Args: sh("true"), Dir: "/no/such"},
		"chdir /etc/passwd: not a directory":       {Args: sh("true"), Dir: "/etc/passwd"},
	} {
		c.Env = []string{path}
		if _, err := process.Start(c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want %q", err, name)
		}
	}
}

func TestGrandchildHoldingOutputDoesNotDelayDone(t *testing.T) {
	w, out := lines(t)
	p := start(t, process.Command{Args: sh("setsid sh -c 'echo $$; exec sleep 1000' & exit 5"), Stdout: w})
	if p.Exit().Code != 5 {
		t.Errorf("exit %+v", p.Exit())
	}
	end(t, <-out)
}

func TestKillGroup(t *testing.T) {
	w, out := lines(t)
	p := start(t, process.Command{Args: sh("sleep 1000 & echo $!; exit 0"), Stdout: w, KillGroup: true})
	<-p.Done()
	awaitGone(t, <-out)
}

func TestSignalGroup(t *testing.T) {
	w, out := lines(t)
	p := start(t, process.Command{Args: sh("trap 'echo parent; exit' INT; sh -c 'trap \"echo child; exit\" INT; echo ready; while :; do sleep 0.01; done'"), Stdout: w})
	<-out
	if err := p.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if got := (<-out) + " " + (<-out); got != "child parent" {
		t.Error(got)
	}
	<-p.Done()
	if err := p.Signal(syscall.SIGINT); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal after the end: %v", err)
	}
}

func TestStop(t *testing.T) {
	w, out := lines(t)
	gentle := start(t, process.Command{Args: sh("trap 'exit 4' TERM; echo ready; while :; do sleep 0.01; done"), Stdout: w})
	<-out
	gentle.Stop(t.Context(), time.Minute)
	if gentle.Exit().Code != 4 {
		t.Errorf("gentle: %+v", gentle.Exit())
	}
	stubborn := start(t, process.Command{Args: sh("trap '' TERM; echo ready; while :; do sleep 0.01; done"), Stdout: w})
	<-out
	stubborn.Stop(t.Context(), 50*time.Millisecond)
	if e := stubborn.Exit(); e.Signal != "SIGKILL" || e.OOM {
		t.Errorf("stubborn: %+v", e)
	}
	stubborn = start(t, process.Command{Args: sh("trap '' TERM; echo ready; while :; do sleep 0.01; done"), Stdout: w})
	<-out
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	stubborn.Stop(ctx, time.Hour)
}

func TestTail(t *testing.T) {
	tail := process.NewTail(5)
	for _, s := range []string{"ab", "cde", "f", "", "gh"} {
		tail.Write([]byte(s))
	}
	if tail.String() != "defgh" {
		t.Error(tail)
	}
	if n, _ := tail.Write([]byte("0123456789")); n != 10 || tail.String() != "56789" {
		t.Error(n, tail)
	}
}
