package kernel_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/kernel/kerneltest"
)

// asParent makes the test binary a program with a kernel that waits to be killed.
const asParent = "KERNEL_TEST_PARENT"

func TestMain(m *testing.M) {
	dir := os.Getenv(asParent)
	if dir == "" && os.Getenv(kerneltest.AsZygote) != "" {
		os.Exit(overZygote(m))
	}
	if dir == "" {
		home := kerneltest.Home()
		code := m.Run()
		home()
		os.Exit(code)
	}
	spec := kernel.PythonSpec(os.Getenv("K2_TEST_PYTHON"))
	k, err := kernel.Start(context.Background(), kernel.Options{Spec: spec, RunDir: dir})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	o := ask(context.Background(), k, `import os, subprocess
for own in False, True: print(subprocess.Popen(["sleep", "1000"], start_new_session=own).pid)
print(os.getpid())`, nil)
	fmt.Print(o.stdout)
	ask(context.Background(), k, "while True: pass", nil)
}

func TestNothingOutlivesTheParent(t *testing.T) {
	t.Parallel()
	python(t)
	dir := runDir(t)
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), asParent+"="+dir)
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []string
	for s := bufio.NewScanner(out); len(pids) < 3 && s.Scan(); {
		pids = append(pids, s.Text())
	}
	parent.Process.Kill()
	parent.Wait()
	if len(pids) < 3 {
		t.Fatal(pids)
	}
	await(t, "the directory is left", func() bool { left, err := os.ReadDir(dir); return err == nil && len(left) == 0 })
	for _, pid := range pids {
		await(t, "process "+pid+" is left", func() bool { return gone(pid) })
	}
	await(t, "the guardian is left", func() bool {
		all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, f := range all {
			if text, _ := os.ReadFile(f); bytes.Contains(text, []byte(dir)) {
				return false
			}
		}
		return true
	})
}

// gone reports whether the process has ended; a zombie, which is its new parent's, has.
func gone(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// await polls what has no event to wait on: the deeds of another program.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}
