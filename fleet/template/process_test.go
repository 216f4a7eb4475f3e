package template_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/fleet/template"
)

// TestMain lets this program be one that uses a store, too: that is killed, or has a disk of its own.
func TestMain(m *testing.M) {
	if store := os.Getenv("K2_TEST_STORE"); store != "" {
		os.Exit(beOther(store, os.Getenv("K2_TEST_IMAGE"), os.Getenv("K2_TEST_DISK")))
	}
	os.Exit(m.Run())
}

func beOther(dir, reference, disk string) int {
	err := func() error {
		if disk != "" {
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+disk); err != nil {
				return err
			}
		}
		_, err := template.Open(dir, template.Limits{}).Pull(context.Background(), reference, template.Options{Name: "mine"})
		left, broken := filepath.Glob(filepath.Join(dir, "work", "*", "fs"))
		fmt.Printf("left behind: %d\n", len(left))
		return errors.Join(err, broken)
	}()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// other is a process that pulls an image.
func other(t *testing.T, dir, reference, disk string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "K2_TEST_STORE="+dir, "K2_TEST_IMAGE="+reference, "K2_TEST_DISK="+disk)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// What was killed half-way goes on, with the layers that were there, and leaves nothing half.
func TestPullAfterKill(t *testing.T) {
	fetched, hang, half := &blobs{}, atomic.Bool{}, make(chan struct{})
	img := small(t, "one", "two", "three")
	all, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	last, err := all[2].Digest()
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	host := serve(t, func(next http.Handler) http.Handler {
		return fetched.before(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if hang.Load() && strings.HasSuffix(r.URL.Path, last.String()) {
				blob, err := all[2].Compressed()
				if err == nil {
					_, _ = io.CopyN(w, blob, 20)
					_ = http.NewResponseController(w).Flush()
				}
				once.Do(func() { close(half) })
				<-r.Context().Done()
				return
			}
			next.ServeHTTP(w, r)
		}))
	})
	push(t, host+"/image:1", img)
	s, dir := open(t, template.Limits{})
	hang.Store(true)
	cmd := other(t, dir, host+"/image:1", "")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-half
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("it has ended by itself")
	}
	if all, err := s.List(); err != nil || len(all) > 0 {
		t.Errorf("there are %v, %v", all, err)
	}
	if found := layers(t, dir); len(found) != 2 {
		t.Errorf("there are %d layers", len(found))
	}
	hang.Store(false)
	if _, err := s.Pull(t.Context(), host+"/image:1", template.Options{Name: "mine"}); err != nil {
		t.Fatal(err)
	}
	if counts := fetched.of(t, img); !slices.Equal(counts, []int{1, 1, 2}) {
		t.Errorf("the layers were fetched %v times", counts)
	}
	unfinished(t, dir)
}

// A disk that is full while a layer is unpacked is said, and what was unpacked of it is removed.
func TestDiskFull(t *testing.T) {
	host := serve(t, nil)
	push(t, host+"/image:1", small(t, strings.Repeat("x", 4<<20)))
	cmd := other(t, t.TempDir(), host+"/image:1", "1m")
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS
	cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
	cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	out, err := cmd.Output()
	if err == nil || !strings.Contains(string(out), "the disk is full") || !strings.Contains(string(out), "left behind: 0\n") {
		t.Errorf("%v: %s", err, out)
	}
}

// An ordinary user has a store, too: all is that user's, and archives are as hostile. These are all tests of this file's package.
func TestOrdinaryUser(t *testing.T) {
	const user = 23456
	if os.Geteuid() != 0 { // they run as one
		return
	}
	dir, err := os.MkdirTemp("", "k2-user-") // t.TempDir lies where only root may enter
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chown(dir, user, user); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run", "Hostile|Bombs|Powers|Layers|Collect|DiskFull")
	cmd.Dir, cmd.Env = "/", append(os.Environ(), "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: &syscall.Credential{Uid: user, Gid: user}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
