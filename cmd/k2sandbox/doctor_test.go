package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDoctorWhereAllIsWell(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	got := run(t, call{args: []string{"doctor"}, env: []string{"HOME=" + home, "XDG_DATA_HOME="}})
	if got.status != 0 || !strings.Contains(got.stdout, "ok    data folder  "+home+"/.local/share/k2sandbox\n") {
		t.Errorf("status %d: %s%s", got.status, got.stdout, got.stderr)
	}
	if left, _ := os.ReadDir(home); len(left) > 0 {
		t.Errorf("doctor left %v in HOME", left)
	}
}

func TestDoctorNamesTheCure(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	oldPython := filepath.Join(dir, "python3")
	if err := os.WriteFile(oldPython, []byte("#!/bin/sh\necho '{\"version\": \"3.8.10\", \"minor\": 8}'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][]string{
		"/nowhere": {"fail  python       cannot find python3", "apt install python3"},
		dir:        {"fail  python       ", oldPython, "too old", "apt install python3"},
	} {
		got := run(t, call{args: []string{"doctor"}, env: []string{"PATH=" + path}})
		if got.status != 1 {
			t.Errorf("PATH=%s: status %d", path, got.status)
		}
		for _, part := range want {
			if !strings.Contains(got.stdout, part) {
				t.Errorf("PATH=%s: %q not in\n%s", path, part, got.stdout)
			}
		}
	}
}

func TestDataFolderWithoutHome(t *testing.T) {
	t.Parallel()
	got := run(t, call{args: []string{"doctor", "--data-dir", "/proc/nowhere"}, env: []string{"HOME="}})
	if got.status != 1 || !strings.Contains(got.stdout, "fail  data folder  /proc/nowhere") {
		t.Errorf("status %d: %s", got.status, got.stdout)
	}
	base := t.TempDir()
	got = run(t, call{args: []string{"doctor"}, env: []string{"HOME=", "XDG_DATA_HOME=" + base}})
	if !strings.Contains(got.stdout, "ok    data folder  "+base+"/k2sandbox\n") {
		t.Errorf("status %d: %s", got.status, got.stdout)
	}
}
