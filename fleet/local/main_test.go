package local_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// program is testdata/agent, built as sandboxes need it: without cgo, which the race detector wants.
var program = os.Getenv("K2_TEST_AGENT")

func TestMain(m *testing.M) {
	if program != "" { // built by the test that started this one
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "k2-agent-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = filepath.Join(dir, "agent")
	build := exec.Command("go", "build", "-o", program, "./testdata/agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	code := 1
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
	} else if err = os.Chmod(dir, 0o755); err == nil {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// task is what a test asks an agent to do.
type task struct {
	Args []string // a command, as the user inside
}

type outcome struct {
	Out  string
	Code int
	Err  string
}

// self is what an agent sees of itself.
type self struct {
	Dir     string
	Environ []string
	Files   map[string]string // targets, by descriptor
}
