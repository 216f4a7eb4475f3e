package local_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// build builds k2sandbox, once.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "k2-attack-") // removed in TestAttacks
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "k2sandbox")
	cmd := exec.Command("go", "build", "-o", path, "../../cmd/k2sandbox")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, os.Chmod(dir, 0o755)
})

func binary(t *testing.T) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatalf("cannot build k2sandbox: %v", err)
	}
	return path
}

// enterAs is an argument with which the test binary becomes a program of a user, in a mount namespace where
// everybody can reach the interpreter: enterAs UID INTERPRETER PROGRAM ARGUMENT…
const enterAs = "enter as"

func init() {
	if len(os.Args) > 4 && os.Args[1] == enterAs {
		fmt.Fprintln(os.Stderr, beUser(os.Args[2], os.Args[3], os.Args[4:]))
		os.Exit(1)
	}
}

func beUser(user, interpreter string, args []string) error {
	id, err := strconv.Atoi(user)
	if err != nil {
		return err
	}
	out, err := exec.Command(interpreter, "-c", "import sys; print(sys.prefix); print(sys.base_prefix)").Output()
	if err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	trees := map[string]int{} // by their places
	for _, dir := range strings.Fields(string(out)) {
		if closedParent(dir) == "" {
			continue
		}
		if trees[dir], err = unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC); err != nil {
			return err
		}
	}
	for dir, tree := range trees {
		if closed := closedParent(dir); closed != "" {
			err = unix.Mount("none", closed, "tmpfs", 0, "mode=755")
		}
		err = errors.Join(err, os.MkdirAll(dir, 0o755), unix.MoveMount(tree, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH))
		if err != nil {
			return err
		}
	}
	err = errors.Join(syscall.Setgroups(nil), syscall.Setresgid(id, id, id), syscall.Setresuid(id, id, id))
	if err != nil {
		return err
	}
	return syscall.Exec(args[0], args, os.Environ())
}

// closedParent returns the first directory on the way to a path that not everybody can enter, or "".
func closedParent(path string) (closed string) {
	for dir := filepath.Dir(path); dir != "/"; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.Mode()&0o001 == 0 {
			closed = dir
		}
	}
	return closed
}
