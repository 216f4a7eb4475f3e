package files_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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

// reading is a body that asks what to say when it is read.
type reading func() error

func (r reading) Read([]byte) (int, error) { return 0, r() }
