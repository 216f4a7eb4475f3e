package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
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
