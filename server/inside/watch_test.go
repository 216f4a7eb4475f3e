package inside_test

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/files"
)

// TestAWatchThatComesBack tells that it has missed something.
func TestAWatchThatComesBack(t *testing.T) {
	dir := t.TempDir()
	resp := call(t, "GET", fileURL("/watch", dir), nil, "Accept", "text/event-stream", "Last-Event-ID", "7")
	lines := bufio.NewScanner(resp.Body)
	for _, want := range []string{"id: 0", `data: {"seq":0,"type":"overflow",`} {
		if lines.Scan(); !strings.HasPrefix(lines.Text(), want) {
			t.Errorf("got %q, want %s", lines.Text(), want)
		}
	}
}

func TestWatchOverHTTP(t *testing.T) {
	dir := t.TempDir()
	watched := filepath.Join(dir, "watched")
	if err := os.Mkdir(watched, 0o755); err != nil {
		t.Fatal(err)
	}
	doc := document(t)
	schema := doc.at(doc, "components", "schemas", "FileEvent")
	resp := call(t, "GET", fileURL("/watch", watched, "recursive", "true"), nil)
	lines := bufio.NewScanner(resp.Body)
	next := func() (e struct {
		files.Event
		Type string
	}) {
		t.Helper()
		for e.Type == "" || e.Type == "ping" || e.Type == "attributes" || e.Type == "modified" {
			if !lines.Scan() {
				t.Fatalf("the stream was cut: %v", lines.Err())
			}
			if err := check(doc, schema, lines.Text()); err != nil {
				t.Errorf("%v: %s", err, lines.Text())
			}
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				t.Fatal(err)
			}
		}
		return e
	}
	call(t, "PUT", fileURL("", watched+"/new/f"), "x")
	quick(t, "import os; os.rename("+pyString(watched+"/new/f")+", "+pyString(watched+"/new/g")+")")
	if e := next(); e.Type != "created" || e.Path != watched+"/new" || !e.IsDir {
		t.Errorf("got %+v", e)
	}
	if e := next(); e.Type != "created" || e.Path != watched+"/new/f" {
		t.Errorf("got %+v", e)
	}
	if e := next(); e.Type != "renamed" || e.Path != watched+"/new/g" || e.From != watched+"/new/f" {
		t.Errorf("got %+v", e)
	}
	call(t, "DELETE", fileURL("", watched, "recursive", "true"), nil)
	for e := next(); ; e = next() {
		if e.Type == "end" {
			if e.Reason != "removed" || e.Status != "ok" {
				t.Errorf("got %+v", e)
			}
			break
		}
	}
	if lines.Scan() {
		t.Errorf("%s after the end", lines.Text())
	}

	// A client that leaves takes its watch along: there is room for the next.
	for range 200 {
		status := 0
		for status != 200 { // 429 while the watches of those that left are ending
			ctx, leave := context.WithCancel(t.Context())
			resp := callCtx(ctx, t, "GET", fileURL("/watch", dir), nil, "Accept", "text/event-stream")
			if status = resp.StatusCode; status != 200 {
				refused(t, resp, 429, api.LimitReached)
			}
			leave()
		}
	}
}
