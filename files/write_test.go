package files_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/k2sandbox/k2sandbox/files"
)

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
