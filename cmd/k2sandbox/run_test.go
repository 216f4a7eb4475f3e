package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/k2sandbox/k2sandbox/executor"
)

func TestRunPrintsOutputAndResult(t *testing.T) {
	t.Parallel()
	c := python("-e", "K=a=b", "-c", "import os, sys\nprint('out', os.environ['K'], os.getcwd())\nprint('err', file=sys.stderr)\n6*7")
	c.dir = t.TempDir()
	got := run(t, c)
	got.expect(t, 0, "out a=b "+c.dir+"\n42\n")
	if got.stderr != "err\n" {
		t.Errorf("stderr %q", got.stderr)
	}
}

func TestRunKernelLauncher(t *testing.T) {
	t.Parallel()
	for launcher, stream := range map[string]string{"fast": "Stream", "stock": "StockStream"} {
		run(t, python("--kernel-launcher", launcher, "-c", "import sys; print(type(sys.stdout).__name__)")).expect(t, 0, stream+"\n")
	}
	got := run(t, python("--kernel-launcher", "slow", "-c", "1"))
	got.expect(t, 1, "")
	got.complains(t, "--kernel-launcher", "want fast or stock")
}

func TestRunFileAnswersInput(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ask.py")
	code := `
import getpass
name, secret = input("name? "), getpass.getpass("secret? ")
try:
    input()
except EOFError:
    print(name, secret, "then the end")
`
	if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	c := python(file)
	c.stdin = "Ada\nlovelace\n"
	run(t, c).expect(t, 0, "name? secret? Ada lovelace then the end\n")
}

func TestRunStandardInputAndError(t *testing.T) {
	t.Parallel()
	c := python("-")
	c.stdin = "print('before')\n1/0\n"
	got := run(t, c)
	got.expect(t, 1, "before\n")
	got.complains(t, "ZeroDivisionError: division by zero")
	if strings.Contains(got.stderr, "\x1b") {
		t.Errorf("colours in a file: %q", got.stderr)
	}
}

func TestRunJSON(t *testing.T) {
	t.Parallel()
	got := run(t, python("--json", "-c", "print('x'); 1"))
	var types []executor.Type
	for line := range strings.Lines(got.stdout) {
		var event executor.Event
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		types = append(types, event.Type)
		if event.Seq != int64(len(types)) {
			t.Errorf("line %d has seq %d", len(types), event.Seq)
		}
	}
	if len(types) != 4 || types[0] != executor.Start || types[3] != executor.End || got.status != 0 {
		t.Errorf("events %v, status %d, stderr %q", types, got.status, got.stderr)
	}
}

func TestRunSavesImages(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "new")
	if err := os.MkdirAll(out, 0o700); err != nil {
		t.Fatal(err)
	}
	mine := filepath.Join(out, "image-1.png")
	if err := os.WriteFile(mine, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := run(t, python("--out", out, "-c", `
from IPython.display import SVG, Image, display
display(Image(b"\x89PNG first", format="png"), display_id="a")
display(SVG("<svg xmlns='http://www.w3.org/2000/svg'></svg>"))
_ = display(Image(b"\x89PNG second", format="png"), display_id="a", update=True)
`))
	got.expect(t, 0, "")
	got.complains(t, "saved "+out+"/image-2.png", "saved "+out+"/image-3.svg")
	for name, want := range map[string]string{mine: "mine", out + "/image-2.png": "\x89PNG second", out + "/image-3.svg": "<svg"} {
		if raw, err := os.ReadFile(name); err != nil || !bytes.HasPrefix(raw, []byte(want)) {
			t.Errorf("%s holds %q, want %q (%v)", name, raw, want, err)
		}
	}
}

func TestRunTimeout(t *testing.T) {
	t.Parallel()
	got := run(t, python("--timeout", "0.5", "-c", "while True: pass"))
	got.expect(t, 124, "")
	got.complains(t, "timed out")
}

func TestRunKernelDeath(t *testing.T) {
	t.Parallel()
	got := run(t, python("-c", "import os; os._exit(3)"))
	got.expect(t, 1, "")
	got.complains(t, "the kernel died: exit status 3")
}

func TestRunOtherKernel(t *testing.T) {
	t.Parallel()
	c := call{args: []string{"run", "--kernel", "bash", "-c", "echo $((6*7))"}}
	c.env = []string{"JUPYTER_PATH=" + filepath.Join(filepath.Dir(filepath.Dir(interpreter)), "share", "jupyter")}
	run(t, c).expect(t, 0, "42\n")
}

// One Ctrl-C interrupts the code; where it shrugs that off, a second one kills it.
func TestRunCtrlC(t *testing.T) {
	t.Parallel()
	const loop = "print('looping', flush=True)\nwhile True: pass"
	const deaf = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
	for name, test := range map[string]struct {
		code  string
		heard []string // what the run says each time before Ctrl-C comes
	}{
		"once":  {loop, []string{"looping"}},
		"twice": {deaf + loop, []string{"looping", "interrupting"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := python("-c", test.code)
			cmd := c.command(t)
			output, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stderr = cmd.Stdout
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(output)
			for _, want := range test.heard {
				for lines.Scan() && !strings.Contains(lines.Text(), want) {
				}
				if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
					t.Errorf("%q: %v", want, err)
				}
			}
			_, _ = io.Copy(io.Discard, output)
			_ = cmd.Wait()
			if status := cmd.ProcessState.ExitCode(); status != 130 {
				t.Errorf("status %d, want 130", status)
			}
			nothingLeft(t, c.temp)
		})
	}
}

// A reader that has seen enough, as in "k2sandbox run … | head", ends the run.
func TestRunReaderGone(t *testing.T) {
	t.Parallel()
	c := python("-c", "while True: print('x' * 1000)")
	cmd := c.command(t)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadFull(stdout, make([]byte, 1000))
	stdout.Close()
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("ended with %v, want status 1", err)
	}
	nothingLeft(t, c.temp)
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"not both":                {"-c", "1", "file.py"},
		"missing.py":              {"missing.py"},
		`"novalue": want NAME`:    {"-e", "novalue", "-c", "1"},
		`"=x": want NAME`:         {"-e", "=x", "-c", "1"},
		"--timeout":               {"--timeout", "-1", "-c", "1"},
		"want a number of second": {"--timeout", "soon", "-c", "1"},
		"/nowhere":                {"--cwd", "/nowhere", "-c", "1"},
		"--python":                {"--python", "/nowhere/python", "-c", "1"},
		"no such kernel spec":     {"--kernel", "klingon", "-c", "1"},
		"log-level":               {"--log-level", "loud", "-c", "1"},
		"unknown flag":            {"--frob", "-c", "1"},
	} {
		got := run(t, call{args: append([]string{"run"}, args...)})
		got.expect(t, 1, "")
		got.complains(t, want)
	}
}
