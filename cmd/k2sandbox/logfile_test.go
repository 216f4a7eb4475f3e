package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Of two processes that log to one file none keeps it away that the other one has just begun, or has kept.
func TestTwoRotateOneLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	var logs []*logFile
	for range 2 {
		l, err := openLog(path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { l.file.Close() }()
		logs = append(logs, l)
	}
	first := bytes.Repeat([]byte("first\n"), logFileSize/6+1)
	for _, text := range [][]byte{first, []byte("second\n")} {
		if _, err := logs[0].Write(text); err != nil {
			t.Fatal(err)
		}
	}
	logs[1].size = logFileSize
	if _, err := logs[1].Write([]byte("third\n")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]byte{path: []byte("second\nthird\n"), path + ".1": first} {
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s has %d bytes, want %d (%v)", filepath.Base(name), len(got), len(want), err)
		}
	}
}

// Where a log cannot be rotated no line is lost and nobody waits, and once it can be, it is.
func TestLogThatCannotRotate(t *testing.T) {
	for name, prevent := range map[string]func(t *testing.T, path string) (allow func()){
		"no folder": func(t *testing.T, path string) func() {
			moved := filepath.Dir(path) + ".moved"
			must(t, os.Rename(filepath.Dir(path), moved))
			return func() { must(t, os.Rename(moved, filepath.Dir(path))) }
		},
		"no FILE.1": func(t *testing.T, path string) func() {
			must(t, os.Mkdir(path+".1", 0o700))
			return func() { must(t, os.Remove(path+".1")) }
		},
		"locked": func(t *testing.T, path string) func() {
			other, err := os.Open(path)
			must(t, err)
			must(t, unix.Flock(int(other.Fd()), unix.LOCK_EX))
			return func() { must(t, other.Close()) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "folder", "log")
			must(t, os.Mkdir(filepath.Dir(path), 0o700))
			l, err := openLog(path)
			must(t, err)
			defer func() { l.file.Close() }()
			full := bytes.Repeat([]byte("first\n"), logFileSize/6+1)
			write := func(text string) {
				t.Helper()
				if n, err := l.Write([]byte(text)); err != nil || n != len(text) {
					t.Errorf("%d bytes written: %v", n, err)
				}
			}
			write(string(full))
			allow := prevent(t, path)
			write("second\n")
			l.looked = time.Time{} // long ago
			write("third\n")
			allow()
			l.looked = time.Time{}
			write("fourth\n")
			for name, want := range map[string][]byte{path: []byte("fourth\n"), path + ".1": append(full, "second\nthird\n"...)} {
				if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s has %d bytes, want %d (%v)", filepath.Base(name), len(got), len(want), err)
				}
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
