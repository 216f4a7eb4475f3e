package local_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/fleet/local"
)

// names lists a directory.
func names(t *testing.T, path ...string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// Layers stay as long as a sandbox is made from them, and no longer.
func TestOldTemplatesAreSwept(t *testing.T) {
	dir := t.TempDir()
	first := open(t, func(o *local.Options) { o.Dir = dir })
	m := start(t, first, fleet.Spec{ID: "sb_old"})
	old := names(t, dir, "templates")
	if len(old) != 1 {
		t.Fatalf("there are %v", old)
	}
	if err := os.Mkdir(filepath.Join(dir, "templates", ".part-1"), 0o700); err != nil { // of a server that was killed
		t.Fatal(err)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, []byte("ca"), 0o644); err != nil {
		t.Fatal(err)
	}
	second, err := local.New(t.Context(), local.Options{Dir: dir, Program: program, Level: "namespace", Environ: []string{"SSL_CERT_FILE=" + ca}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := second.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := second.Sweep(func(string) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir, "templates"); len(got) != 2 {
		t.Errorf("while one is in use there are %v", got)
	}
	wants(t, m, "head -c 4 /etc/passwd", "root")
	if err := m.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := second.Sweep(func(string) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir, "templates"); len(got) != 1 || got[0] == old[0] {
		t.Errorf("there are %v", got)
	}
}

// However many sizes of disks are asked for, few images of them are kept.
func TestImagesOfDisksAreBounded(t *testing.T) {
	dir := t.TempDir()
	r := open(t, func(o *local.Options) { o.Dir = dir })
	if r.Isolation().Missing["disk"] != "" {
		return // there are none
	}
	for i := range int64(20) {
		m, err := r.Start(t.Context(), fleet.Spec{ID: fmt.Sprintf("sb_%d", i), Limits: fleet.Limits{Disk: (64 + i) << 20}})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	if got := names(t, dir, "disks"); len(got) > 16 {
		t.Errorf("there are %d", len(got))
	}
}
