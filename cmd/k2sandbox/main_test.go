package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/kernel/kerneltest"
)

// binary is the program under test, interpreter a Python that has ipykernel and bash_kernel.
var (
	binary      string
	interpreter = os.Getenv("K2_TEST_PYTHON")
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "k2cmd-")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "k2sandbox")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	status := 1
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "cannot build k2sandbox:", err)
	} else if interpreter == "" {
		fmt.Fprintln(os.Stderr, "K2_TEST_PYTHON is not set: make test does")
	} else {
		home := kerneltest.Home()
		status = m.Run()
		home()
	}
	os.RemoveAll(dir)
	os.Exit(status)
}

// call is one start of the binary.
type call struct {
	args  []string
	stdin string
	env   []string // NAME=VALUE, over the test's own
	dir   string
	temp  string // the folder for temporary files, of this call alone
}

// command returns the call as a process that has a temporary folder of its own.
func (c *call) command(t *testing.T) *exec.Cmd {
	t.Helper()
	c.temp = t.TempDir()
	cmd := exec.CommandContext(t.Context(), binary, c.args...)
	cmd.Env = append(append(os.Environ(), "TMPDIR="+c.temp), c.env...)
	cmd.Dir = c.dir
	cmd.Stdin = strings.NewReader(c.stdin)
	return cmd
}

// result is what a call came to.
type result struct {
	stdout, stderr string
	status         int
}

// run calls the binary, waits for its end and checks that it left nothing behind.
func run(t *testing.T, c call) result {
	t.Helper()
	cmd := c.command(t)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	nothingLeft(t, c.temp)
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// nothingLeft checks the temporary folder of a call and the processes that know it.
func nothingLeft(t *testing.T, temp string) {
	t.Helper()
	left, err := os.ReadDir(temp)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range left {
		t.Errorf("left behind: %s", entry.Name())
	}
	environs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, name := range environs {
		if raw, err := os.ReadFile(name); err == nil && bytes.Contains(raw, []byte("TMPDIR="+temp+"\x00")) {
			cmdline, _ := os.ReadFile(filepath.Join(filepath.Dir(name), "cmdline"))
			t.Errorf("still running: %s %q", name, cmdline)
		}
	}
}

// python calls `k2sandbox run` with the test's interpreter.
func python(args ...string) call {
	return call{args: append([]string{"run", "--python", interpreter}, args...)}
}

// What this program was handed is not handed on.
func TestNothingIsInherited(t *testing.T) {
	t.Parallel()
	c := python("-c", `
import os
names = {os.path.realpath("/proc/self/fd/" + fd) for fd in os.listdir("/proc/self/fd")}
signals = next(int(line.split()[1], 16) for line in open("/proc/self/status") if line.startswith("SigIgn"))
print("/etc/passwd" in names, signals & 0b101)`)
	cmd := c.command(t)
	cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", `trap '' INT QUIT HUP; exec 9</etc/passwd; exec "$0" "$@"`, binary}, c.args...)
	out, err := cmd.Output()
	if string(out) != "False 0\n" || err != nil {
		t.Errorf("%v: %s", err, out)
	}
	nothingLeft(t, c.temp)
}

func (r result) expect(t *testing.T, status int, stdout string) {
	t.Helper()
	if r.status != status || r.stdout != stdout {
		t.Errorf("status %d, stdout %q, stderr %q; want status %d, stdout %q", r.status, r.stdout, r.stderr, status, stdout)
	}
}

func (r result) complains(t *testing.T, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(r.stderr, part) {
			t.Errorf("stderr %q does not mention %q", r.stderr, part)
		}
	}
}
