package files_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/files"
)

// A file that is new is made in sight: a watch tells of it as of what other programs write, and
// knows all of it as soon as it is there. One that is replaced is replaced in one step.
func TestWriteInSight(t *testing.T) {
	both(t, func(t *testing.T, root *files.Root, dir string, at func(string) string) {
		w, err := root.Watch(t.Context(), at(""), false)
		must(t, err)
		defer w.Close()
		after := int64(0)
		told := func() (all []string) {
			t.Helper()
			newest := w.Newest(t.Context())
			for line, err := range w.Lines(t.Context(), after) {
				must(t, err)
				var s seen
				must(t, json.Unmarshal(line.JSON, &s))
				all = append(all, string(s.Type)+" "+filepath.Base(s.Path))
				if after = line.Seq; after >= newest {
					break
				}
			}
			return all
		}
		for i := range 20 {
			name := fmt.Sprintf("f%d", i)
			written, err := write(t, root, at(name), "content", files.WriteOptions{InSight: true})
			must(t, err)
			if !written.Created || written.Entry.Size != 7 || content(t, filepath.Join(dir, name)) != "content" {
				t.Errorf("written %+v", written)
			}
			if got := told(); !slices.Equal(got, []string{"created " + name, "attributes " + name, "modified " + name}) {
				t.Errorf("a new file: %v", got)
			}
			written, err = write(t, root, at(name), "other", files.WriteOptions{InSight: true})
			must(t, err)
			if written.Created || content(t, filepath.Join(dir, name)) != "other" {
				t.Errorf("written %+v", written)
			}
			if got := told(); !slices.Equal(got, []string{"modified " + name}) {
				t.Errorf("a file that was there: %v", got)
			}
		}
	})
}

func TestAFailedWriteInSightLeavesNothing(t *testing.T) {
	both(t, func(t *testing.T, root *files.Root, dir string, at func(string) string) {
		failed := errors.New("broken off")
		_, err := root.Write(t.Context(), at("a/f"), io.MultiReader(strings.NewReader("half"), reading(func() error { return failed })), files.WriteOptions{InSight: true})
		if !errors.Is(err, failed) {
			t.Errorf("error %v", err)
		}
		only(t, dir)
		// What came in its place in the meantime is somebody else's.
		_, err = root.Write(t.Context(), at("f"), reading(func() error {
			must(t, os.WriteFile(filepath.Join(dir, "other"), []byte("theirs"), 0o644))
			must(t, os.Rename(filepath.Join(dir, "other"), filepath.Join(dir, "f")))
			return failed
		}), files.WriteOptions{InSight: true})
		if !errors.Is(err, failed) || content(t, filepath.Join(dir, "f")) != "theirs" {
			t.Errorf("error %v", err)
		}
	})
}

func TestAttributes(t *testing.T) {
	both(t, func(t *testing.T, root *files.Root, dir string, at func(string) string) {
		for _, inSight := range []bool{true, true, false, false} { // new and not, in both ways
			given := map[string]string{"user.k2.a": "1", "user.k2.b": fmt.Sprint(inSight)}
			_, err := write(t, root, at(fmt.Sprint(inSight)), "x", files.WriteOptions{Attributes: given, InSight: inSight})
			must(t, err)
			got, err := root.Attributes(at(fmt.Sprint(inSight)), "user.k2.")
			must(t, err)
			if len(got) != 2 || got["a"] != "1" || got["b"] != fmt.Sprint(inSight) {
				t.Errorf("given %v, has %v", given, got)
			}
		}
		_, err := write(t, root, at("true"), "x", files.WriteOptions{})
		must(t, err)
		must(t, os.Symlink("false", filepath.Join(dir, "link")))
		for name, want := range map[string]int{"true": 0, "false": 2, "link": 2} {
			if got, err := root.Attributes(at(name), "user.k2."); err != nil || len(got) != want {
				t.Errorf("%s has %v, %v", name, got, err)
			}
		}
		_, err = root.Attributes(at("nothing"), "user.")
		fails(t, err, files.ErrNotExist)
	})
}

func TestStatTarget(t *testing.T) {
	both(t, func(t *testing.T, root *files.Root, dir string, at func(string) string) {
		put(t, filepath.Join(dir, "real/f"), "content")
		must(t, os.Symlink("real/f", filepath.Join(dir, "one")))
		must(t, os.Symlink("one", filepath.Join(dir, "two")))
		must(t, os.Symlink("nowhere", filepath.Join(dir, "dangling")))
		for _, name := range []string{"two", "one", "real/f"} {
			if e, err := root.StatTarget(at(name)); err != nil || e.Type != files.Regular || e.Path != at("real/f") || e.Size != 7 {
				t.Errorf("%s leads to %+v, %v", name, e, err)
			}
		}
		_, err := root.StatTarget(at("dangling"))
		fails(t, err, files.ErrNotExist)
	})
}

// Who asks for the newest event has all that happened before, and does not wait for what will.
func TestNewestEvent(t *testing.T) {
	b := newBox(t)
	w, err := b.whole.Watch(t.Context(), b.dir, true)
	must(t, err)
	last := w.Newest(t.Context())
	for i := range 50 {
		put(t, filepath.Join(b.dir, fmt.Sprintf("d%d", i), "f"), "x")
		must(t, os.Rename(filepath.Join(b.dir, fmt.Sprintf("d%d", i)), filepath.Join(b.dir, fmt.Sprintf("e%d", i))))
		newest := w.Newest(t.Context())
		if newest < last+2 {
			t.Errorf("after %d comes %d", last, newest)
		}
		if again := w.Newest(t.Context()); again != newest {
			t.Errorf("after nothing %d becomes %d", newest, again)
		}
		last = newest
	}
	w.Close()
	if end := w.Newest(context.Background()); end != last+1 {
		t.Errorf("the end is %d after %d", end, last)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	w.Newest(gone)
}
