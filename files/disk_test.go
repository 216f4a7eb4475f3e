package files_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/files"
)

// TestMain runs the tests where they may mount: of who is not root, in a user
// namespace, if the system has them.
func TestMain(m *testing.M) {
	const inside = "K2_TEST_IN_NAMESPACE"
	if os.Getuid() == 0 || os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	again := exec.Command("/proc/self/exe", os.Args[1:]...)
	again.Env = append(os.Environ(), inside+"=1")
	again.Stdout, again.Stderr = os.Stdout, os.Stderr
	again.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	if err := again.Start(); err != nil {
		os.Exit(m.Run()) // those that mount will tell
	}
	if err := again.Wait(); err != nil {
		os.Exit(1)
	}
}

// mount mounts a file system of its own. The tests of a full disk and of a move
// to another one need the right to do so: root, or a user namespace.
func mount(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755,size="+size); err != nil {
		t.Fatalf("cannot mount a tmpfs, without which a full disk cannot be tested: %v (run the tests as root, or under unshare -rm)", err)
	}
	t.Cleanup(func() { unmount(t, dir) })
	return dir
}

// unmount fails where a file is left open; whoever looks through /proc/PID/fd may hold one for a moment, though it is closed.
func unmount(t *testing.T, dir string) {
	t.Helper()
	err := syscall.Unmount(dir, 0)
	for tries := 0; errors.Is(err, syscall.EBUSY) && tries < 200; tries++ {
		time.Sleep(50 * time.Millisecond)
		err = syscall.Unmount(dir, 0)
	}
	if err != nil {
		t.Error(err)
		_ = syscall.Unmount(dir, syscall.MNT_DETACH)
	}
}

// quick returns a directory where files are made fast, if that can be had.
func quick(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755,size=64m") == nil {
		t.Cleanup(func() { unmount(t, dir) })
	}
	return dir
}

// endless is a body without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestFullDisk(t *testing.T) {
	dir := mount(t, "1m")
	put(t, filepath.Join(dir, "f"), "old")
	root := openRoot(t, dir, dir)
	for _, path := range []string{"/f", "/new", "/deep/new"} {
		_, err := root.Write(t.Context(), path, endless{}, files.WriteOptions{})
		fails(t, err, files.ErrFull)
	}
	only(t, dir, "f")
	if got := content(t, filepath.Join(dir, "f")); got != "old" {
		t.Errorf("got %q", got)
	}
	archive := pack(t, entry{name: "a", text: "small"}, entry{name: "b", text: strings.Repeat("x", 2<<20)})
	done, err := root.Extract(t.Context(), "/", archive, files.ExtractOptions{})
	fails(t, err, files.ErrFull)
	if done.Entries != 1 {
		t.Errorf("got %+v", done)
	}
	only(t, dir, "a", "f")
	_, err = write(t, root, "/f", "new", files.WriteOptions{})
	must(t, err)
}

func TestMoveToAnotherDisk(t *testing.T) {
	small, b := mount(t, "1m"), newBox(t)
	tree := filepath.Join(b.dir, "tree")
	put(t, filepath.Join(tree, "d", "f"), "content")
	must(t, os.Chmod(filepath.Join(tree, "d", "f"), 0o640))
	must(t, os.Symlink("d/f", filepath.Join(tree, "link")))
	when := time.Date(2020, 1, 2, 3, 4, 5, 678, time.UTC)
	must(t, os.Chtimes(filepath.Join(tree, "d", "f"), when, when))
	must(t, os.Chmod(filepath.Join(tree, "d"), 0o555))

	_, err := b.whole.Move(t.Context(), tree, small+"/in/it", false)
	must(t, err)
	info, err := os.Stat(filepath.Join(small, "in", "it", "d", "f"))
	must(t, err)
	if info.Mode() != 0o640 || !info.ModTime().Equal(when) || content(t, filepath.Join(small, "in", "it", "link")) != "content" {
		t.Errorf("got %v %v", info.Mode(), info.ModTime())
	}
	only(t, b.dir)
	only(t, filepath.Join(small, "in"), "it")

	big := filepath.Join(b.dir, "big")
	must(t, os.Mkdir(big, 0o755))
	put(t, filepath.Join(big, "1"), "x")
	put(t, filepath.Join(big, "2"), strings.Repeat("x", 2<<20))
	_, err = b.whole.Move(t.Context(), big, small+"/big", false)
	fails(t, err, files.ErrFull)
	only(t, big, "1", "2")
	only(t, small, "in")
	must(t, os.Remove(filepath.Join(big, "2")))
	must(t, syscall.Mkfifo(filepath.Join(big, "fifo"), 0o600))
	_, err = b.whole.Move(t.Context(), big, small+"/big", false)
	fails(t, err, files.ErrNotFile)
	only(t, small, "in")
	must(t, os.Remove(filepath.Join(big, "fifo")))
	_, err = b.whole.Move(t.Context(), big+"/1", small+"/in", true)
	fails(t, err, files.ErrIsDir)
	_, err = b.whole.Move(t.Context(), big+"/1", small+"/in/it/link", false)
	fails(t, err, files.ErrExist)
	_, err = b.whole.Move(t.Context(), big+"/1", small+"/in/it/link", true)
	must(t, err)
	if got := content(t, filepath.Join(small, "in", "it", "link")); got != "x" {
		t.Errorf("got %q", got)
	}
}

func TestReadOnlyDisk(t *testing.T) {
	dir := mount(t, "1m")
	put(t, filepath.Join(dir, "f"), "old")
	must(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	root := openRoot(t, dir, dir)
	_, err := write(t, root, "/f", "new", files.WriteOptions{})
	fails(t, err, files.ErrReadOnly)
	_, err = write(t, root, "/g", "new", files.WriteOptions{})
	fails(t, err, files.ErrReadOnly)
	fails(t, root.Remove("/f", true), files.ErrReadOnly)
	_, _, err = root.Mkdir("/d", nil)
	fails(t, err, files.ErrReadOnly)
	_, err = root.Move(t.Context(), "/f", "/g", false)
	fails(t, err, files.ErrReadOnly)
}

func TestFileOfFiveGigabytes(t *testing.T) {
	const size = 5 << 30
	b := newBox(t)
	f, err := os.Create(filepath.Join(b.dir, "big"))
	must(t, err)
	defer f.Close()
	must(t, f.Truncate(size))
	_, err = f.WriteAt([]byte("the end"), size-7)
	must(t, err)
	opened, err := b.confined.Open("/big")
	must(t, err)
	defer opened.Close()
	if opened.Size != size {
		t.Errorf("size %d", opened.Size)
	}
	_, err = opened.Sized().Seek(-7, io.SeekEnd)
	must(t, err)
	if tail, err := io.ReadAll(opened.Sized()); string(tail) != "the end" || err != nil {
		t.Errorf("got %q, %v", tail, err)
	}
}

func TestNothingIsOpenAfterwards(t *testing.T) {
	b := newBox(t)
	before := descriptors(t)
	for range 10 {
		_, _ = write(t, b.confined, "/a/b/f", "x", files.WriteOptions{})
		_, _ = b.confined.Write(t.Context(), "/a/b/f", &broken{"x"}, files.WriteOptions{})
		_, _ = write(t, b.confined, "/a", "x", files.WriteOptions{})
		if f, err := b.confined.Open("/a/b/f"); err == nil {
			f.Close()
		}
		_, _ = b.confined.Open("/a/b")
		_, _ = b.confined.List(t.Context(), "/", files.ListOptions{Depth: 5})
		_, _ = b.confined.Move(t.Context(), "/a/b/f", "/c/f", true)
		_, _, _ = b.confined.Mkdir("/x/y", nil)
		_, _ = b.confined.Extract(t.Context(), "/in", pack(t, entry{name: "d/f", text: "x"}, entry{name: "/bad"}), files.ExtractOptions{})
		if w, err := b.confined.Pack("/"); err == nil {
			_, _ = w(t.Context(), io.Discard)
		}
		if w, err := b.confined.Watch(t.Context(), "/", true); err == nil {
			w.Close()
		}
		_, _ = b.confined.Watch(t.Context(), "/c/f", true)
		_ = b.confined.Remove("/c", true)
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

// descriptors counts what this process has open on files and inotify.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	n := 0
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if !errors.Is(err, os.ErrNotExist) && (strings.HasPrefix(target, os.TempDir()) || strings.Contains(target, "inotify")) {
			n++
		}
	}
	return n
}

// TestTimesThatCannotBeTold: JSON has no years of five digits, and some disks do.
func TestTimesThatCannotBeTold(t *testing.T) {
	dir := mount(t, "1m")
	root := openRoot(t, dir, dir)
	for sec, year := range map[int64]int{1e12: 9999, -1e12: 1, 1e9: 2001} {
		put(t, filepath.Join(dir, "f"), "x")
		at := unix.Timespec{Sec: sec}
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(dir, "f"), []unix.Timespec{at, at}, 0))
		e, err := root.Stat("/f")
		must(t, err)
		if _, err := json.Marshal(e); err != nil || e.ModifiedAt.Year() != year {
			t.Errorf("%d s: %v, %v", sec, e.ModifiedAt, err)
		}
	}
}
