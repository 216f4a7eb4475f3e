package files_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/files"
)

func TestNothingLeadsOut(t *testing.T) {
	outside := t.TempDir()
	put(t, filepath.Join(outside, "secret"), "secret")
	b := newBox(t)
	must(t, os.Mkdir(filepath.Join(b.dir, "d"), 0o755))
	rel, err := filepath.Rel(b.dir, outside)
	must(t, err)
	for name, target := range map[string]string{
		"abs": outside, "up": rel, "absfile": outside + "/secret", "upfile": rel + "/secret", "d/twice": "../../x", "root": "/",
	} {
		must(t, os.Symlink(target, filepath.Join(b.dir, name)))
	}
	for _, path := range []string{"/abs/secret", "/up/secret", "/absfile", "/upfile", "/d/twice", "/root/etc/passwd"} {
		_, err := b.confined.Open(path)
		fails(t, err, files.ErrOutside)
		_, err = write(t, b.confined, path, "mine", files.WriteOptions{})
		fails(t, err, files.ErrOutside)
	}
	for _, path := range []string{"/abs/new", "/up/new", "/abs/new/deeper"} {
		_, _, err = b.confined.Mkdir(path, nil)
		fails(t, err, files.ErrOutside)
	}
	for _, path := range []string{"/abs", "/up", "/root"} {
		_, err = b.confined.List(t.Context(), path, files.ListOptions{})
		fails(t, err, files.ErrOutside)
		_, err = b.confined.Watch(t.Context(), path, true)
		fails(t, err, files.ErrOutside)
		_, err = b.confined.Pack(path)
		fails(t, err, files.ErrOutside)
		_, err = b.confined.Extract(t.Context(), path, bytes.NewReader(nil), files.ExtractOptions{})
		fails(t, err, files.ErrOutside)
		_, err = b.confined.Move(t.Context(), path+"/secret", "/stolen", true)
		fails(t, err, files.ErrOutside)
		fails(t, b.confined.Remove(path+"/secret", true), files.ErrOutside)
	}
	for name, path := range map[string]string{"d/in": "../d2/f", "d2/f": "../d/here"} { // of which none is what it says by its text
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(b.dir, name)), 0o755))
		must(t, os.Symlink(path, filepath.Join(b.dir, name)))
	}
	w, err := write(t, b.confined, "/d/in", "here", files.WriteOptions{})
	must(t, err)
	if w.Entry.Path != "/d/here" {
		t.Errorf("written to %s", w.Entry.Path)
	}
	must(t, b.confined.Remove("/abs", true)) // the link
	if got := content(t, filepath.Join(outside, "secret")); got != "secret" {
		t.Errorf("got %q", got)
	}
	only(t, outside, "secret")
	for _, path := range []string{"/..", "/../etc/passwd", "../../etc/passwd", "/d/../../x", "..", strings.Repeat("../", 100)} {
		_, err := b.confined.Open(path)
		fails(t, err, files.ErrPath)
	}
}

func TestBadPaths(t *testing.T) {
	both(t, func(t *testing.T, root *files.Root, dir string, at func(string) string) {
		put(t, filepath.Join(dir, "file"), "x")
		must(t, os.Symlink("loop2", filepath.Join(dir, "loop1")))
		must(t, os.Symlink("loop1", filepath.Join(dir, "loop2")))
		for path, want := range map[string]error{
			"":                                     files.ErrPath,
			at("a\x00b"):                           files.ErrPath,
			at(strings.Repeat("n", 256)):           files.ErrPath,
			at(strings.Repeat("n/", 2100)):         files.ErrPath,
			at("missing"):                          files.ErrNotExist,
			at("missing/deeper"):                   files.ErrNotExist,
			at("file/deeper"):                      files.ErrNotDir,
			at("loop1"):                            files.ErrLoop,
			at("loop1/deeper"):                     files.ErrLoop,
			at(""):                                 files.ErrIsDir,
			at(strings.Repeat("n", 255)):           files.ErrNotExist,
			at(strings.Repeat("n/", 1800) + "end"): files.ErrNotExist,
		} {
			_, err := root.Open(path)
			fails(t, err, want)
		}
	})
}

func TestNamesAreBytes(t *testing.T) {
	both(t, func(t *testing.T, root *files.Root, dir string, at func(string) string) {
		name := at("b\xff\xfe\nd")
		w, err := write(t, root, name, "bytes", files.WriteOptions{})
		must(t, err)
		if string(w.Entry.PathBase64) != name || w.Entry.Path != name {
			t.Errorf("got %+v", w.Entry)
		}
		if got := content(t, filepath.Join(dir, "b\xff\xfe\nd")); got != "bytes" {
			t.Errorf("got %q", got)
		}
		must(t, os.Symlink("to\xff", filepath.Join(dir, "link")))
		e, err := root.Stat(at("link"))
		must(t, err)
		if string(e.TargetBase64) != "to\xff" || e.PathBase64 != nil || e.Type != files.Symlink {
			t.Errorf("got %+v", e)
		}
	})
}

func TestSpecialFilesAreNotOpened(t *testing.T) {
	both(t, func(t *testing.T, root *files.Root, dir string, at func(string) string) {
		must(t, syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o666))
		fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		must(t, err)
		defer syscall.Close(fd)
		t.Chdir(dir) // the path of a socket is short
		must(t, syscall.Bind(fd, &syscall.SockaddrUnix{Name: "socket"}))
		for _, name := range []string{"fifo", "socket"} {
			_, err := root.Open(at(name))
			fails(t, err, files.ErrNotFile)
			_, err = write(t, root, at(name), "x", files.WriteOptions{})
			fails(t, err, files.ErrNotFile)
			_, err = root.Pack(at(name))
			fails(t, err, files.ErrNotFile)
			_, err = root.Watch(t.Context(), at(name), true)
			fails(t, err, files.ErrNotDir)
			e, err := root.Stat(at(name))
			must(t, err)
			if e.Type != files.Other {
				t.Errorf("got %+v", e)
			}
			must(t, root.Remove(at(name), false))
		}
	})
	whole := openRoot(t, "", "/")
	for _, path := range []string{"/dev/null", "/dev/zero", "/dev/tty", fmt.Sprintf("/proc/%d/mem", os.Getppid())} {
		_, err := whole.Open(path)
		fails(t, err, files.ErrNotFile)
	}
}

func TestFilesThatTheKernelMakesUp(t *testing.T) {
	whole := openRoot(t, "", "/")
	if got := readAll(t, whole, fmt.Sprintf("/proc/%d/status", os.Getppid())); !strings.Contains(got, "Threads:") {
		t.Errorf("got %q", got)
	}
	if got := readAll(t, whole, "/proc/kallsyms"); strings.Count(got, "\n") < 1000 {
		t.Errorf("got %d bytes", len(got))
	}
	f, err := whole.Open("/proc/version")
	must(t, err)
	defer f.Close()
	if f.ETag != "" || f.Size == 0 {
		t.Errorf("got tag %q and size %d", f.ETag, f.Size)
	}
}

// What /proc tells of this program is for nobody who could not open it himself, however he gets there.
func TestThisProgramIsNotLookedInto(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Symlink("/proc/self", filepath.Join(dir, "self")))
	must(t, os.Symlink("/proc/thread-self/maps", filepath.Join(dir, "maps")))
	whole := openRoot(t, "", "/")
	self := fmt.Sprintf("/proc/%d", os.Getpid())
	for _, path := range []string{"/proc/self/maps", "/proc/self/environ", "/proc/self/exe", "/proc/self/fd/0", self + "/task/" + filepath.Base(self) + "/comm", "/proc/thread-self/comm", dir + "/self/maps", dir + "/maps"} {
		_, err := whole.Open(path)
		fails(t, err, files.ErrDenied)
		if path != dir+"/maps" {
			_, err = whole.Stat(path)
			fails(t, err, files.ErrDenied)
		}
	}
	if got := readAll(t, whole, "/proc/self/status"); !strings.Contains(got, "Threads:") { // which everybody sees
		t.Errorf("got %q", got)
	}
	for _, path := range []string{"/proc/self", self, self + "/fd", dir + "/self/task"} {
		_, err := whole.List(t.Context(), path, files.ListOptions{})
		fails(t, err, files.ErrDenied)
	}
	page, err := whole.List(t.Context(), "/proc", files.ListOptions{Depth: 2, Limit: 100_000})
	must(t, err)
	for _, e := range page.Entries {
		if strings.HasPrefix(e.Path, self+"/") {
			t.Fatalf("listed %s", e.Path)
		}
	}
}

func TestRemove(t *testing.T) {
	both(t, func(t *testing.T, root *files.Root, dir string, at func(string) string) {
		put(t, filepath.Join(dir, "d", "e", "f"), "x")
		put(t, filepath.Join(dir, "keep", "f"), "x")
		must(t, os.Symlink("../keep", filepath.Join(dir, "d", "link")))
		fails(t, root.Remove(at("d"), false), files.ErrNotEmpty)
		fails(t, root.Remove(at("nothing"), true), files.ErrNotExist)
		must(t, root.Remove(at("d"), true))
		must(t, root.Remove(at("keep/f"), false))
		must(t, root.Remove(at("keep"), false))
		only(t, dir)
		fails(t, root.Remove("/", true), files.ErrBusy)
	})
}

func TestMkdir(t *testing.T) {
	both(t, func(t *testing.T, root *files.Root, dir string, at func(string) string) {
		mode := os.FileMode(0o700)
		e, made, err := root.Mkdir(at("a/b/c"), &mode)
		must(t, err)
		if !made || e.Type != files.Dir || e.Mode != "0700" || e.Path != at("a/b/c") {
			t.Errorf("got %+v, %v", e, made)
		}
		if _, made, err = root.Mkdir(at("a/b/c/"), nil); err != nil || made {
			t.Errorf("again: %v, %v", made, err)
		}
		must(t, os.Symlink("a", filepath.Join(dir, "link")))
		if _, made, err = root.Mkdir(at("link"), nil); err != nil || made {
			t.Errorf("a link to a directory: %v, %v", made, err)
		}
		if _, made, err = root.Mkdir("/", nil); err != nil || made {
			t.Errorf("the root: %v, %v", made, err)
		}
		put(t, filepath.Join(dir, "file"), "x")
		_, _, err = root.Mkdir(at("file"), nil)
		fails(t, err, files.ErrExist)
		_, _, err = root.Mkdir(at("file/deeper/still"), nil)
		fails(t, err, files.ErrNotDir)
	})
}

func TestMove(t *testing.T) {
	both(t, func(t *testing.T, root *files.Root, dir string, at func(string) string) {
		put(t, filepath.Join(dir, "a"), "a")
		put(t, filepath.Join(dir, "b"), "b")
		put(t, filepath.Join(dir, "full", "f"), "x")
		must(t, os.Mkdir(filepath.Join(dir, "empty"), 0o755))
		_, err := root.Move(t.Context(), at("a"), at("b"), false)
		fails(t, err, files.ErrExist)
		e, err := root.Move(t.Context(), at("a"), at("new/place/a"), false)
		must(t, err)
		if e.Path != at("new/place/a") {
			t.Errorf("got %+v", e)
		}
		_, err = root.Move(t.Context(), at("new/place/a"), at("b"), true)
		must(t, err)
		if got := content(t, filepath.Join(dir, "b")); got != "a" {
			t.Errorf("got %q", got)
		}
		_, err = root.Move(t.Context(), at("new"), at("full"), true)
		fails(t, err, files.ErrNotEmpty)
		_, err = root.Move(t.Context(), at("b"), at("full"), true)
		fails(t, err, files.ErrIsDir)
		_, err = root.Move(t.Context(), at("full"), at("full/in/itself"), true)
		fails(t, err, files.ErrBusy)
		_, err = root.Move(t.Context(), at("full"), at("empty"), true)
		must(t, err)
		_, err = root.Move(t.Context(), at("nothing"), at("gone"), true)
		fails(t, err, files.ErrNotExist)
		_, err = root.Move(t.Context(), "/", at("root"), true)
		fails(t, err, files.ErrBusy)
		only(t, dir, "b", "empty", "new")
		must(t, os.Symlink("b", filepath.Join(dir, "link")))
		_, err = root.Move(t.Context(), at("link"), at("moved"), false)
		must(t, err)
		if target, err := os.Readlink(filepath.Join(dir, "moved")); err != nil || target != "b" {
			t.Errorf("the link is %q, %v", target, err)
		}
	})
}

func TestReadOnlyDirectory(t *testing.T) {
	b := newBox(t)
	put(t, filepath.Join(b.dir, "d", "f"), "x")
	asReader(t, b.dir, func() {
		_, err := write(t, b.whole, b.dir+"/d/new", "x", files.WriteOptions{})
		fails(t, err, files.ErrDenied)
		_, err = write(t, b.whole, b.dir+"/d/f", "x", files.WriteOptions{})
		fails(t, err, files.ErrDenied)
		_, _, err = b.whole.Mkdir(b.dir+"/d/deeper/new", nil)
		fails(t, err, files.ErrDenied)
		fails(t, b.whole.Remove(b.dir+"/d/f", false), files.ErrDenied)
		fails(t, b.whole.Remove(b.dir+"/d", true), files.ErrDenied)
		_, err = b.whole.Move(t.Context(), b.dir+"/d/f", b.dir+"/d/g", false)
		fails(t, err, files.ErrDenied)
	})
	only(t, filepath.Join(b.dir, "d"), "f")
}

// asReader calls do with nothing in the directory writable, and without the right of
// root to do so all the same.
func asReader(t *testing.T, dir string, do func()) {
	t.Helper()
	chmod := func(mode os.FileMode) {
		must(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
			if path == dir {
				return err
			}
			return errors.Join(err, os.Chmod(path, mode))
		}))
	}
	chmod(0o555)
	defer chmod(0o755)
	runtime.LockOSThread() // which has capabilities of its own
	defer runtime.UnlockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var all, some [2]unix.CapUserData
	must(t, unix.Capget(&header, &all[0]))
	some = all
	some[0].Effective &^= 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH
	must(t, unix.Capset(&header, &some[0]))
	defer func() { must(t, unix.Capset(&header, &all[0])) }()
	do()
}

// TestACopyChangesNothingThroughALink: somebody may put one where the copy was.
func TestACopyChangesNothingThroughALink(t *testing.T) {
	b, outside := newBox(t), filepath.Join(t.TempDir(), "f")
	put(t, outside, "x")
	must(t, os.Symlink(outside, filepath.Join(b.dir, "copy")))
	dir, err := os.Open(b.dir)
	must(t, err)
	defer dir.Close()
	if err := files.Resemble(int(dir.Fd()), "copy", &unix.Stat_t{Mode: unix.S_IFREG | 0o777}); err == nil {
		t.Error("no error")
	}
	info, err := os.Stat(outside)
	must(t, err)
	if info.Mode() != 0o644 {
		t.Errorf("mode %v", info.Mode())
	}
}
