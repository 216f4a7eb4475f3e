package local_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/client"
)

// secret is what no sandbox may get to see.
const secret = "K2-SECRET-OF-THE-HOST"

// host is a server of sandboxes, and what of its machine they must not get at.
type host struct {
	level     level
	dir       string // with the state of the server, and the secret
	client    *client.Client
	world     *world
	packages  string    // a directory that sandboxes may read, but for some of it
	bystander *exec.Cmd // a process that has nothing to do with any of it
	abstract  string    // an abstract socket
	shared    int       // key of shared memory that all users of the host may use
	neighbour *box
}

// newHost starts a server of a level, with a sandbox that is a neighbour to the others. At the end of the
// test nothing may be left of it.
func newHost(t *testing.T, l level) *host {
	h := &host{level: l, dir: t.TempDir(), world: newWorld(t)}
	err := errors.Join(os.Chmod(filepath.Dir(h.dir), 0o755), os.Chmod(h.dir, 0o755), os.WriteFile(h.path("key"), []byte(secret), 0o600))
	err = errors.Join(err, os.Chown(h.dir, l.user(), l.user()), os.Chown(h.path("key"), l.user(), l.user()))
	if err != nil {
		t.Fatal(err)
	}
	h.keepPrivate(t)
	h.bystander = exec.Command("/bin/sh", "-c", "echo; read wait", secret)
	h.start(t, h.bystander)
	h.abstract = "k2-attack-" + filepath.Base(filepath.Dir(h.dir))
	h.world.listen(t, h.world.host, "unix", "@"+h.abstract)
	h.share(t)
	h.serve(t)
	h.neighbour = h.create(t, api.SandboxRequest{})
	h.neighbour.run(t, "open('mine', 'w').write('the neighbour')")
	return h
}

// keepPrivate makes a directory that sandboxes get to see, with files of the server's user in it that others may not read.
func (h *host) keepPrivate(t *testing.T) {
	dir, err := os.MkdirTemp("", "k2-packages-") // whose name has nothing that is not allowed in lists of them
	if err != nil {
		t.Fatal(err)
	}
	h.packages = dir
	t.Cleanup(func() { os.RemoveAll(dir) })
	err = errors.Join(os.Chmod(dir, 0o755), os.MkdirAll(filepath.Join(dir, "deep", "private"), 0o755), os.Mkdir(filepath.Join(dir, "hidden"), 0o755))
	for name, mode := range map[string]os.FileMode{"open": 0o644, "closed": 0o600, "deep/closed": 0o640, "deep/private/file": 0o644, "hidden/file": 0o644, "deep/open": 0o644} {
		path := filepath.Join(dir, name)
		err = errors.Join(err, os.WriteFile(path, []byte(secret), 0o600), os.Chmod(path, mode), os.Chown(path, h.level.user(), h.level.user()))
	}
	for name, mode := range map[string]os.FileMode{"deep/private": 0o700, "hidden": 0o711} {
		err = errors.Join(err, os.Chmod(filepath.Join(dir, name), mode), os.Chown(filepath.Join(dir, name), h.level.user(), h.level.user()))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// share makes shared memory of the host.
func (h *host) share(t *testing.T) {
	t.Helper()
	h.shared = 0x6b300000 + int(h.level)<<16 + os.Getpid()%65536
	id, err := unix.SysvShmGet(h.shared, 4096, unix.IPC_CREAT|0o666)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil) })
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

// start starts a process as the server's user, in its network, and returns when it has written a line.
func (h *host) start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = []string{"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "LANG=C.UTF-8", "HOME=" + h.dir, "TMPDIR=" + h.dir, "SECRET=" + secret}
	cmd.Path, cmd.Args = "/proc/self/exe", append([]string{"test", enterAs, fmt.Sprint(h.level.user()), python(t)}, cmd.Args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if err := h.world.host.in(cmd.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	if _, err := stdout.Read(make([]byte, 4096)); err != nil {
		t.Fatalf("%v has ended: %v", cmd.Args, err)
	}
	go func() { _, _ = io.Copy(io.Discard, stdout) }() // ends with the process
}

// serve starts the server.
func (h *host) serve(t *testing.T) {
	t.Helper()
	cmd := exec.Command(binary(t), "serve", "--python", python(t), "--listen", "unix:"+h.path("s"), "--state-dir", h.path("state"),
		"--isolation", h.level.isolation(), "--root-template", "--memory", "256", "--pids", h.level.pids(), "--disk", "64", "--open-files", "1024", "--package-find-links", h.packages)
	log := &bytes.Buffer{}
	cmd.Stderr = log
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(log.String())
		}
	})
	before := machineTraces(h.dir)
	t.Cleanup(func() {
		if after := machineTraces(h.dir); after != before {
			t.Errorf("left behind:\nbefore %s\nafter  %s", before, after)
		}
	})
	h.start(t, cmd)
	var err error
	if h.client, err = client.New("unix:"+h.path("s"), client.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.client.Close)
}

// create makes a sandbox, with the server's limits where the request has none.
func (h *host) create(t *testing.T, req api.SandboxRequest) *box {
	t.Helper()
	made, err := h.client.CreateSandbox(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if made.Isolation.Level != h.level.isolation() {
		t.Fatalf("the level is %q: %v", made.Isolation.Level, made.Isolation.Missing)
	}
	t.Cleanup(func() { _ = h.client.KillSandbox(context.WithoutCancel(t.Context()), made.SandboxID) })
	b := &box{Client: h.client.In(made.SandboxID), server: h.client, id: made.SandboxID}
	b.run(t, prelude())
	return b
}

// unharmed checks what the attacks were meant for.
func (h *host) unharmed(t *testing.T) {
	if err := h.bystander.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("a process of the host: %v", err)
	}
	if text, err := os.ReadFile(h.path("key")); string(text) != secret {
		t.Errorf("the secret: %q, %v", text, err)
	}
	if got := h.neighbour.run(t, "print(open('mine').read())"); got != "the neighbour\n" {
		t.Errorf("the neighbour's file is %q", got)
	}
	h.world.untouched(t)
}

// machineTraces tells what there is on the machine of a server whose state is in the directory.
func machineTraces(dir string) string {
	var found []string
	processes, _ := filepath.Glob("/proc/[0-9]*/mountinfo")
	for _, file := range append(processes, "/proc/self/mountinfo") {
		text, _ := os.ReadFile(file)
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
		if strings.Contains(string(text), dir) || strings.Contains(string(line), filepath.Join(dir, "state")) {
			found = append(found, "process "+string(line))
		}
	}
	backing, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, file := range backing {
		if text, _ := os.ReadFile(file); strings.HasPrefix(string(text), dir) {
			found = append(found, "disk "+string(text))
		}
	}
	sum := sha256.Sum256([]byte(filepath.Join(dir, "state")))
	mark := hex.EncodeToString(sum[:4])
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.Contains(d.Name(), mark) {
			found = append(found, "group "+path)
		}
		return nil
	})
	for _, name := range []string{"sandboxes", "ids"} {
		entries, _ := os.ReadDir(filepath.Join(dir, "state", name))
		for _, e := range entries {
			found = append(found, name+" "+e.Name())
		}
	}
	slices.Sort(found)
	return strings.Join(found, "\n")
}
