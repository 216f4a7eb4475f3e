package process_test

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/process"
)

func typed(t *testing.T, j *process.Job, text string) {
	t.Helper()
	if _, err := j.Write(t.Context(), []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func TestTerminal(t *testing.T) {
	tab := table(t, process.Options{})
	j := begin(t, tab, process.Spec{
		Cmd:      `tty; stty size; echo ready; while read -r line; do echo "got $line"; done; echo over`,
		Terminal: &process.Size{Rows: 30, Cols: 100},
	})
	if out := until(t, j, "ready"); !strings.Contains(out, "/dev/pts/") || !strings.Contains(out, "30 100") {
		t.Errorf("%q", out)
	}
	typed(t, j, "\xc3")
	typed(t, j, "\xa9\x7f€\n") // a character in two parts, which is erased
	until(t, j, "got €\r\n")
	if err := j.CloseStdin(t.Context()); err != nil { // Ctrl-D
		t.Fatal(err)
	}
	until(t, j, "over\r\n")
	if end := j.End(); end.Status != process.OK {
		t.Errorf("%+v", end)
	}
	if err := j.Resize(process.Size{Rows: 1, Cols: 1}); !errors.Is(err, process.ErrEnded) {
		t.Errorf("resize after the end: %v", err)
	}
	pipe := begin(t, tab, process.Spec{Cmd: "cat", Stdin: true})
	if err := pipe.Resize(process.Size{Rows: 1, Cols: 1}); !errors.Is(err, process.ErrNoTerminal) {
		t.Errorf("resize of a pipe: %v", err)
	}
}

func TestTerminalResize(t *testing.T) {
	tab := table(t, process.Options{})
	j := begin(t, tab, process.Spec{
		Cmd:      "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.01; done",
		Terminal: &process.Size{Rows: 30, Cols: 100},
	})
	until(t, j, "ready")
	if err := j.Resize(process.Size{Rows: 40, Cols: 120}); err != nil {
		t.Fatal(err)
	}
	until(t, j, "40 120")
	if s := j.Summary(); s.Pty.Rows != 40 || !s.Stdin {
		t.Errorf("%+v", s)
	}
}

// A process may close its terminal and open it again.
func TestTerminalIsOpenedAgain(t *testing.T) {
	tab := table(t, process.Options{})
	j := begin(t, tab, process.Spec{Cmd: "exec <&- >&- 2>&-; sleep 0.1; echo back >/dev/tty", Terminal: &process.Size{Rows: 24, Cols: 80}})
	if out := said(all(t, j, 0), process.Stdout); out != "back\r\n" {
		t.Errorf("%q", out)
	}
}

// A terminal's output is data, whatever it is.
func TestTerminalOutputIsData(t *testing.T) {
	tab := table(t, process.Options{})
	for _, e := range all(t, begin(t, tab, process.Spec{Cmd: "echo text", Terminal: &process.Size{Rows: 24, Cols: 80}}), 0) {
		if e.Text != nil {
			t.Errorf("%s", e.JSON)
		}
	}
}

// Ctrl-C is for the job in the foreground, not for the shell.
func TestTerminalSignals(t *testing.T) {
	tab := table(t, process.Options{})
	j := begin(t, tab, process.Spec{Args: []string{"sh", "-i"}, Env: []string{"ENV="}, Terminal: &process.Size{Rows: 24, Cols: 80}})
	typed(t, j, "set -m; sh -c 'echo ready; exec sleep 1000'\n")
	until(t, j, "ready\r\n")
	if err := j.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	typed(t, j, "echo status $?\n")
	until(t, j, "status 130\r\n")
	typed(t, j, "setsid sleep 1000 & echo pid $!; env -i sh -c \"trap '' HUP; echo pid \\$\\$; read -r line\"\n")
	told := regexp.MustCompile(`pid ([0-9]+)\r\n`)
	out := follow(t, j, func(out string) bool { return len(told.FindAllString(out, -1)) == 2 })
	if err := j.Stop(t.Context(), time.Minute); err != nil { // an interactive shell minds no SIGTERM
		t.Fatal(err)
	}
	for _, pid := range told.FindAllStringSubmatch(out, -1) {
		awaitGone(t, pid[1])
	}
}

// All that is written before the exit is read, also where somebody keeps the terminal open.
func TestTerminalOutputIsWhole(t *testing.T) {
	tab := table(t, process.Options{})
	for _, behind := range []string{"", "(trap '' HUP; exec sleep 1000) & "} {
		j := begin(t, tab, process.Spec{Cmd: behind + "yes | head -n 20000; echo end", Terminal: &process.Size{Rows: 24, Cols: 80}})
		if out := said(all(t, j, 0), process.Stdout); strings.Count(out, "y\r\n") != 20000 || !strings.HasSuffix(out, "end\r\n") {
			t.Errorf("%d bytes, which end in %q", len(out), out[max(0, len(out)-10):])
		}
	}
}

// slow is a writer that takes its time.
type slow struct{ n atomic.Int64 }

func (s *slow) Write(p []byte) (int, error) {
	time.Sleep(50 * time.Millisecond)
	s.n.Add(int64(len(p)))
	return len(p), nil
}

// A terminal holds more than it tells the number of, and all of it has been written at the end.
func TestTerminalOutputIsWholeForASlowWriter(t *testing.T) {
	for _, behind := range []string{"", "(trap '' HUP; exec sleep 1000) & "} {
		g, err := process.NewGuard("")
		if err != nil {
			t.Fatal(err)
		}
		var w slow
		const n = 60000
		p := start(t, process.Command{
			Args: sh(behind + fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x", n)), Stdout: &w, Guard: g, Terminal: &process.Size{Rows: 24, Cols: 80},
		})
		<-p.Done()
		if got := w.n.Load(); got != n {
			t.Errorf("%d bytes of %d", got, n)
		}
		p.Close()
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}
}
