package files_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/files"
)

// pages lists page by page and returns the paths, below the directory.
func pages(t *testing.T, root *files.Root, path string, o files.ListOptions) []string {
	t.Helper()
	var all []string
	for {
		page, err := root.List(t.Context(), path, o)
		must(t, err)
		if len(page.Entries) > o.Limit {
			t.Fatalf("%d entries in a page", len(page.Entries))
		}
		for _, e := range page.Entries {
			all = append(all, strings.TrimPrefix(e.Path, strings.TrimSuffix(path, "/")+"/"))
		}
		if page.Next == "" {
			return all
		}
		o.Cursor = page.Next
	}
}

func TestListIsInOrderWhateverThePages(t *testing.T) {
	both(t, func(t *testing.T, root *files.Root, dir string, at func(string) string) {
		for _, name := range []string{"a/x", "a/y/deep", "a-b", "b", "c/d/e/f", "\xff", "a/y/\xfe"} {
			put(t, filepath.Join(dir, name), "")
		}
		must(t, os.Symlink("a", filepath.Join(dir, "link")))
		must(t, os.Mkdir(filepath.Join(dir, "empty"), 0o755))
		all := []string{"a", "a/x", "a/y", "a/y/deep", "a/y/\xfe", "a-b", "b", "c", "c/d", "c/d/e", "c/d/e/f", "empty", "link", "\xff"}
		for depth := 1; depth < 5; depth++ {
			want := slices.DeleteFunc(slices.Clone(all), func(path string) bool { return strings.Count(path, "/") >= depth })
			for limit := 1; limit < 16; limit++ {
				if got := pages(t, root, at(""), files.ListOptions{Depth: depth, Limit: limit}); !slices.Equal(got, want) {
					t.Errorf("depth %d, limit %d: %q, want %q", depth, limit, got, want)
				}
			}
		}
		if got := pages(t, root, at("link"), files.ListOptions{Limit: 10}); !slices.Equal(got, []string{"x", "y"}) {
			t.Errorf("through a link: %q", got)
		}
		_, err := root.List(t.Context(), at("b"), files.ListOptions{})
		fails(t, err, files.ErrNotDir)
		_, err = root.List(t.Context(), at("none"), files.ListOptions{})
		fails(t, err, files.ErrNotExist)
		for _, cursor := range []string{"!", "Lg", "Li4", "YS8vYg"} {
			if _, err := root.List(t.Context(), at(""), files.ListOptions{Cursor: cursor}); err != files.ErrCursor {
				t.Errorf("cursor %q: %v", cursor, err)
			}
		}
	})
}

func TestListOfWhatCannotBeRead(t *testing.T) {
	b := newBox(t)
	put(t, filepath.Join(b.dir, "closed", "f"), "")
	put(t, filepath.Join(b.dir, "open", "f"), "")
	asReader(t, b.dir, func() {
		must(t, os.Chmod(filepath.Join(b.dir, "closed"), 0))
		page, err := b.whole.List(t.Context(), b.dir, files.ListOptions{Depth: 2})
		must(t, err)
		if len(page.Entries) != 3 || !page.Entries[0].Unreadable || page.Entries[1].Unreadable {
			t.Errorf("got %+v", page.Entries)
		}
		if got := pages(t, b.whole, b.dir, files.ListOptions{Depth: 2, Limit: 1}); !slices.Equal(got, []string{"closed", "open", "open/f"}) {
			t.Errorf("page by page: %q", got)
		}
	})
}

func TestListOfManyFilesTakesMemoryForAPage(t *testing.T) {
	const many = 100_000
	dir := quick(t)
	root := openRoot(t, dir, dir)
	for i := range many {
		f, err := os.OpenFile(fmt.Sprintf("%s/%06d-%s", dir, i, "a-name-of-some-length"), os.O_CREATE, 0o644)
		must(t, err)
		f.Close()
	}
	var before, after runtime.MemStats
	seen, cursor, last := 0, "", ""
	for {
		runtime.GC()
		runtime.ReadMemStats(&before)
		page, err := root.List(t.Context(), "/", files.ListOptions{Limit: 10_000, Cursor: cursor})
		must(t, err)
		runtime.GC()
		runtime.ReadMemStats(&after)
		if kept := int64(after.HeapAlloc) - int64(before.HeapAlloc); kept > 16<<20 {
			t.Errorf("a page keeps %d bytes", kept)
		}
		for _, e := range page.Entries {
			if e.Name <= last {
				t.Fatalf("%s after %s", e.Name, last)
			}
			last = e.Name
		}
		seen += len(page.Entries)
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if seen != many {
		t.Errorf("saw %d", seen)
	}
}

// TestDirectoriesOfTheDead: what /proc has of a process that nobody has waited for
// cannot be read, for reasons of its own.
func TestDirectoriesOfTheDead(t *testing.T) {
	b := newBox(t)
	dead := exec.Command("true")
	must(t, dead.Start())
	must(t, unix.Waitid(unix.P_PID, dead.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil))
	defer dead.Wait()
	proc := fmt.Sprintf("/proc/%d", dead.Process.Pid)
	page, err := b.whole.List(t.Context(), proc, files.ListOptions{Depth: 2})
	must(t, err)
	if !slices.ContainsFunc(page.Entries, func(e files.Entry) bool { return e.Name == "net" && e.Unreadable }) {
		t.Error("net can be read")
	}
	w, err := b.whole.Watch(t.Context(), proc, true)
	must(t, err)
	w.Close()
}

// TestListOfLongPaths: a page is bounded in bytes, too.
func TestListOfLongPaths(t *testing.T) {
	b := newBox(t)
	at, err := unix.Open(b.dir, unix.O_DIRECTORY, 0)
	must(t, err)
	for range files.MaxDepth - 1 {
		must(t, unix.Mkdirat(at, strings.Repeat("d", 250), 0o755))
		next, err := unix.Openat(at, strings.Repeat("d", 250), unix.O_DIRECTORY, 0)
		must(t, err)
		unix.Close(at)
		at = next
	}
	const many = 1200
	for i := range many {
		must(t, unix.Mkdirat(at, fmt.Sprint(i), 0o755))
	}
	unix.Close(at)
	o := files.ListOptions{Depth: files.MaxDepth, Limit: 10_000}
	page, err := b.confined.List(t.Context(), "/", o)
	must(t, err)
	if len(page.Entries) > many/2 || page.Next == "" {
		t.Errorf("%d entries in a page", len(page.Entries))
	}
	all := pages(t, b.confined, "/", o)
	if len(all) != files.MaxDepth-1+many || len(slices.Compact(slices.Sorted(slices.Values(all)))) != len(all) {
		t.Errorf("%d entries", len(all))
	}
}
