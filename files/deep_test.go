package files_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/k2sandbox/k2sandbox/files"
)

// TestTreesDeeperThanAnyPath: code can make them, a step at a time.
func TestTreesDeeperThanAnyPath(t *testing.T) {
	const depth = 3000
	b := newBox(t)
	at, err := syscall.Open(b.dir, syscall.O_DIRECTORY, 0)
	must(t, err)
	for range depth {
		must(t, syscall.Mkdirat(at, "d", 0o755))
		next, err := syscall.Openat(at, "d", syscall.O_DIRECTORY, 0)
		must(t, err)
		syscall.Close(at)
		at = next
	}
	syscall.Close(at)
	put(t, filepath.Join(b.dir, "f"), "x")

	page, err := b.whole.List(t.Context(), b.dir, files.ListOptions{Depth: files.MaxDepth})
	if err != nil || len(page.Entries) != files.MaxDepth+1 {
		t.Errorf("%d entries, %v", len(page.Entries), err)
	}
	write, err := b.whole.Pack(b.dir)
	must(t, err)
	_, err = write(context.Background(), io.Discard)
	fails(t, err, files.ErrTooDeep)
	_, err = b.whole.Watch(t.Context(), b.dir, true)
	fails(t, err, files.ErrTooDeep)
	must(t, b.whole.Remove(b.dir+"/d", true))
	only(t, b.dir, "f")
	if _, err := os.Stat(b.dir); err != nil {
		t.Error(err)
	}
}
