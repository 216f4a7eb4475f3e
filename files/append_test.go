package files_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/k2sandbox/k2sandbox/files"
)

func TestAppendAddsToAFileThatIsThere(t *testing.T) {
	dir := t.TempDir()
	root, err := files.Open(dir, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	name := func(of string) string { return filepath.Join(dir, of) }
	if err := errors.Join(os.WriteFile(name("file"), []byte("one"), 0o600), os.Symlink("file", name("link")), os.Mkdir(name("dir"), 0o700),
		os.Symlink("/etc/passwd", name("out")), syscall.Mkfifo(name("fifo"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"file", "/link"} {
		if err := root.Append(t.Context(), path, strings.NewReader("+"+path)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(name("file")); string(got) != "one+file+/link" {
		t.Errorf("%q %v", got, err)
	}
	for path, want := range map[string]error{"gone": files.ErrNotExist, "dir": files.ErrIsDir, "fifo": files.ErrNotFile, "out": files.ErrOutside, "../file": files.ErrPath} {
		if err := root.Append(t.Context(), path, strings.NewReader("x")); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
}
