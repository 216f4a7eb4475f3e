package files_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/files"
)

// box is a directory on disk, with the tree below it that confines to it and the
// whole file system.
type box struct {
	dir      string
	confined *files.Root
	whole    *files.Root
}

func newBox(t *testing.T) box {
	t.Helper()
	b := box{dir: t.TempDir()}
	return box{b.dir, openRoot(t, b.dir, b.dir), openRoot(t, "", b.dir)}
}

func openRoot(t *testing.T, dir, cwd string) *files.Root {
	t.Helper()
	root, err := files.Open(dir, cwd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := root.Close(); err != nil {
			t.Error(err)
		}
	})
	return root
}

// both runs a test on either kind of tree; at tells how the tree calls a file of the directory.
func both(t *testing.T, test func(t *testing.T, root *files.Root, dir string, at func(string) string)) {
	t.Run("confined", func(t *testing.T) {
		b := newBox(t)
		test(t, b.confined, b.dir, func(name string) string { return "/" + name })
	})
	t.Run("named drafts", func(t *testing.T) {
		b := newBox(t)
		b.confined.NameDrafts()
		test(t, b.confined, b.dir, func(name string) string { return "/" + name })
	})
	t.Run("whole", func(t *testing.T) {
		b := newBox(t)
		test(t, b.whole, b.dir, func(name string) string { return b.dir + "/" + name })
	})
}

func put(t *testing.T, name, content string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	must(t, os.WriteFile(name, []byte(content), 0o644))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(name)
	must(t, err)
	return string(raw)
}

// write writes a text.
func write(t *testing.T, root *files.Root, path, text string, o files.WriteOptions) (files.Written, error) {
	t.Helper()
	return root.Write(t.Context(), path, strings.NewReader(text), o)
}

func readAll(t *testing.T, root *files.Root, path string) string {
	t.Helper()
	f, err := root.Open(path)
	must(t, err)
	defer f.Close()
	var from io.Reader = f.Sized()
	if f.Sized() == nil {
		from = f.Stream()
	}
	raw, err := io.ReadAll(from)
	must(t, err)
	return string(raw)
}

// fails checks that an error says what it should, and names the path.
func fails(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
	var at *files.Error
	if err != nil && !errors.As(err, &at) {
		t.Errorf("%v is a %T", err, err)
	}
}

// only checks what is in a directory.
func only(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var found []string
	for _, e := range entries {
		found = append(found, e.Name())
	}
	if !slices.Equal(found, names) {
		t.Errorf("%s has %q, want %q", dir, found, names)
	}
}

func TestWriteAndRead(t *testing.T) {
	both(t, func(t *testing.T, root *files.Root, dir string, at func(string) string) {
		w, err := write(t, root, at("a/b/c.txt"), "one", files.WriteOptions{})
		must(t, err)
		if !w.Created || w.Entry.Path != at("a/b/c.txt") || w.Entry.Name != "c.txt" || w.Entry.Size != 3 || w.Entry.Type != files.Regular {
			t.Errorf("got %+v", w)
		}
		again, err := write(t, root, at("a/b/c.txt"), "two more", files.WriteOptions{})
		must(t, err)
		if again.Created || again.ETag == w.ETag {
			t.Errorf("got %+v after %+v", again, w)
		}
		if got := readAll(t, root, at("a/b/../b//./c.txt")); got != "two more" {
			t.Errorf("read %q", got)
		}
		only(t, filepath.Join(dir, "a", "b"), "c.txt")
		f, err := root.Open(at("a/b/c.txt"))
		must(t, err)
		defer f.Close()
		if f.ETag != again.ETag {
			t.Errorf("tag %s, was %s", f.ETag, again.ETag)
		}
		if got := readAll(t, root, "a/b/c.txt"); got != "two more" {
			t.Errorf("from the working directory: %q", got)
		}
	})
}

func TestWriteKeepsModeAndOwner(t *testing.T) {
	b := newBox(t)
	name := filepath.Join(b.dir, "f")
	put(t, name, "old")
	owner, group := os.Getuid(), os.Getgid()
	if os.Chown(name, 1234, 4321) == nil {
		owner, group = 1234, 4321
	}
	must(t, os.Chmod(name, 0o751|os.ModeSetuid))
	_, err := write(t, b.whole, name, "new", files.WriteOptions{})
	must(t, err)
	info, err := os.Stat(name)
	must(t, err)
	st := info.Sys().(*syscall.Stat_t)
	if int(st.Uid) != owner || int(st.Gid) != group || info.Mode() != 0o751 {
		t.Errorf("mode %v, owner %d:%d", info.Mode(), st.Uid, st.Gid)
	}
	mode := os.FileMode(0o600)
	w, err := write(t, b.whole, name, "new", files.WriteOptions{Mode: &mode})
	must(t, err)
	if w.Entry.Mode != "0600" {
		t.Errorf("mode %s", w.Entry.Mode)
	}
	w, err = write(t, b.whole, filepath.Join(b.dir, "fresh"), "", files.WriteOptions{})
	must(t, err)
	old := syscall.Umask(0)
	syscall.Umask(old)
	if want := fmt.Sprintf("%04o", 0o666&^old); w.Entry.Mode != want {
		t.Errorf("mode %s of a new file, want %s", w.Entry.Mode, want)
	}
}

func TestWriteGoesThroughLinks(t *testing.T) {
	both(t, func(t *testing.T, root *files.Root, dir string, at func(string) string) {
		put(t, filepath.Join(dir, "real", "f"), "old")
		must(t, os.Symlink("real/f", filepath.Join(dir, "link")))
		must(t, os.Symlink("../link", filepath.Join(dir, "real", "back")))
		w, err := write(t, root, at("real/back"), "new", files.WriteOptions{})
		must(t, err)
		if w.Entry.Path != at("real/f") || content(t, filepath.Join(dir, "real", "f")) != "new" {
			t.Errorf("got %+v", w.Entry)
		}
		if target, err := os.Readlink(filepath.Join(dir, "link")); err != nil || target != "real/f" {
			t.Errorf("the link is %q, %v", target, err)
		}
		must(t, os.Symlink("real/missing", filepath.Join(dir, "dangling")))
		_, err = write(t, root, at("dangling"), "there", files.WriteOptions{})
		must(t, err)
		if got := content(t, filepath.Join(dir, "real", "missing")); got != "there" {
			t.Errorf("got %q", got)
		}
	})
}

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
	for _, path := range []string{"/dev/null", "/dev/zero", "/dev/tty", "/proc/self/mem"} {
		_, err := whole.Open(path)
		fails(t, err, files.ErrNotFile)
	}
}

func TestFilesThatTheKernelMakesUp(t *testing.T) {
	whole := openRoot(t, "", "/")
	if got := readAll(t, whole, "/proc/self/status"); !strings.Contains(got, "Threads:") {
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

// broken is a body that fails, as that of a client that leaves.
type broken struct{ text string }

func (b *broken) Read(p []byte) (int, error) {
	if b.text == "" {
		return 0, io.ErrUnexpectedEOF
	}
	n := copy(p, b.text)
	b.text = b.text[n:]
	return n, nil
}

func TestAFailedWriteLeavesNothing(t *testing.T) {
	both(t, func(t *testing.T, root *files.Root, dir string, at func(string) string) {
		put(t, filepath.Join(dir, "f"), "old")
		for _, name := range []string{"f", "new", "deep/er/new"} {
			_, err := root.Write(t.Context(), at(name), &broken{"half"}, files.WriteOptions{})
			fails(t, err, io.ErrUnexpectedEOF)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := root.Write(ctx, at("f"), strings.NewReader("x"), files.WriteOptions{})
		fails(t, err, context.Canceled)
		only(t, dir, "f")
		if got := content(t, filepath.Join(dir, "f")); got != "old" {
			t.Errorf("got %q", got)
		}
	})
}

func TestWriteMatchesVersions(t *testing.T) {
	both(t, func(t *testing.T, root *files.Root, dir string, at func(string) string) {
		none := func(etag string) bool { return etag == "" }
		w, err := write(t, root, at("f"), "1", files.WriteOptions{Match: none})
		must(t, err)
		_, err = write(t, root, at("f"), "2", files.WriteOptions{Match: none})
		fails(t, err, files.ErrChanged)
		is := func(etag string) bool { return etag == w.ETag }
		w2, err := write(t, root, at("f"), "2", files.WriteOptions{Match: is})
		must(t, err)
		_, err = write(t, root, at("f"), "3", files.WriteOptions{Match: is})
		fails(t, err, files.ErrChanged)
		_, err = write(t, root, at("f"), "3", files.WriteOptions{Match: func(etag string) bool { return etag == w2.ETag }})
		must(t, err)

		// Of many that would make the same file, or replace the same version, one does.
		for round := range 3 {
			before := ""
			if round > 0 {
				f, err := root.Open(at("race"))
				must(t, err)
				before = f.ETag
				f.Close()
			}
			var work sync.WaitGroup
			won := make(chan int, 16)
			for i := range cap(won) {
				work.Go(func() {
					_, err := root.Write(t.Context(), at("race"), strings.NewReader(fmt.Sprint(i)), files.WriteOptions{
						Match: func(etag string) bool { return etag == before },
					})
					if err == nil {
						won <- i
					} else if !errors.Is(err, files.ErrChanged) {
						t.Error(err)
					}
				})
			}
			work.Wait()
			close(won)
			if winner := <-won; content(t, filepath.Join(dir, "race")) != fmt.Sprint(winner) || len(won) > 0 {
				t.Errorf("%d won, and %d more; the file has %s", winner, len(won), content(t, filepath.Join(dir, "race")))
			}
		}
	})
}

func TestReadersSeeWholeVersions(t *testing.T) {
	b := newBox(t)
	version := func(i int) string { return strings.Repeat(fmt.Sprint(i%10), 300_000+i) }
	put(t, filepath.Join(b.dir, "f"), version(0))
	stop := make(chan struct{})
	var writers, readers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := range 15 {
				if _, err := write(t, b.confined, "/f", version(w*15+i), files.WriteOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				got := readAll(t, b.confined, "/f")
				if got != version(len(got)-300_000) {
					t.Errorf("a mix of %d bytes", len(got))
					return
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	only(t, b.dir, "f")
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

// TestAFailedWriteTakesNoDirectoryFromAnother that is under way in it.
func TestAFailedWriteTakesNoDirectoryFromAnother(t *testing.T) {
	both(t, func(t *testing.T, root *files.Root, dir string, at func(string) string) {
		begun, failed, good := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		_, err := root.Write(t.Context(), at("new/dir/bad"), reading(func() error {
			go func() {
				_, err := root.Write(t.Context(), at("new/dir/good"), reading(func() error {
					close(begun)
					<-failed
					return io.EOF
				}), files.WriteOptions{})
				good <- err
			}()
			<-begun
			return io.ErrUnexpectedEOF
		}), files.WriteOptions{})
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("got %v", err)
		}
		close(failed)
		must(t, <-good)
		only(t, filepath.Join(dir, "new", "dir"), "good")
	})
}

// reading is a body that asks what to say when it is read.
type reading func() error

func (r reading) Read([]byte) (int, error) { return 0, r() }
