package envd_test

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// upload writes a file as E2B's clients do.
func upload(t *testing.T, path, content string) {
	t.Helper()
	resp := request(t, "POST", "/files?path="+path, strings.NewReader(content), "Content-Type", "application/octet-stream")
	if body := read(t, resp); resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s", resp.Status, body)
	}
}

func create(t *testing.T, message object) string {
	t.Helper()
	id, ok := call(t, fs+"CreateWatcher", message)["watcherId"].(string)
	if !ok {
		t.Fatal("no id")
	}
	return id
}

// seen returns the events of a watcher, as "TYPE name".
func seen(t *testing.T, id string) []string {
	t.Helper()
	all := []string{}
	for _, e := range call(t, fs+"GetWatcherEvents", object{"watcherId": id})["events"].([]any) {
		all = append(all, short(e))
	}
	return all
}

func short(event any) string {
	typ, _ := at(event, "type").(string)
	name, _ := at(event, "name").(string)
	return strings.TrimPrefix(typ, "EVENT_TYPE_") + " " + name
}

func mkdir(t *testing.T, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(home, name), 0o755); err != nil {
		t.Fatal(err)
	}
}

// A file that is written for the first time is three events, which are there as soon as it is.
func TestWatcher(t *testing.T) {
	clean(t, "watched")
	mkdir(t, "watched")
	id := create(t, object{"path": "watched"})
	upload(t, "watched/new.txt", "This file will be watched.")
	if got := strings.Join(seen(t, id), ", "); got != "CREATE new.txt, CHMOD new.txt, WRITE new.txt" {
		t.Errorf("a new file: %s", got)
	}
	upload(t, "watched/new.txt", "This file has been modified.")
	if got := strings.Join(seen(t, id), ", "); !strings.Contains(got, "WRITE new.txt") {
		t.Errorf("a file that was there: %s", got)
	}
	call(t, fs+"Move", object{"source": "watched/new.txt", "destination": "watched/moved.txt"})
	if got := strings.Join(seen(t, id), ", "); got != "RENAME new.txt, CREATE moved.txt" {
		t.Errorf("a move: %s", got)
	}
	call(t, fs+"Remove", object{"path": "watched/moved.txt"})
	if got := strings.Join(seen(t, id), ", "); got != "REMOVE moved.txt" {
		t.Errorf("a removal: %s", got)
	}
	mkdir(t, "watched/sub")
	write(t, "watched/sub/file", "x")
	if got := strings.Join(seen(t, id), ", "); got != "CREATE sub" {
		t.Errorf("a directory: %s", got)
	}
	if got := seen(t, id); len(got) != 0 {
		t.Errorf("once more: %v", got)
	}
	call(t, fs+"RemoveWatcher", object{"watcherId": id})
	for _, method := range []string{"RemoveWatcher", "GetWatcherEvents"} {
		refused(t, http.StatusNotFound, "not_found", fs+method, object{"watcherId": id})
	}
}

func TestRecursiveWatcher(t *testing.T) {
	clean(t, "deep")
	mkdir(t, "deep/nested")
	id := create(t, object{"path": "deep", "recursive": true})
	upload(t, "deep/nested/file", "x")
	if got := strings.Join(seen(t, id), ", "); got != "CREATE nested/file, CHMOD nested/file, WRITE nested/file" {
		t.Errorf("below: %s", got)
	}
	call(t, fs+"MakeDir", object{"path": "deep/new"})
	upload(t, "deep/new/file", "x")
	got := strings.Join(seen(t, id), ", ")
	if !strings.HasPrefix(got, "CREATE new, CREATE new/file") {
		t.Errorf("in a new directory: %s", got)
	}
	call(t, fs+"RemoveWatcher", object{"watcherId": id})
}

func TestWatcherWithEntries(t *testing.T) {
	clean(t, "entries")
	mkdir(t, "entries")
	id := create(t, object{"path": "~/entries/", "includeEntry": true, "allowNetworkMounts": true})
	upload(t, "entries/file", "four")
	upload(t, "entries/gone", "x")
	call(t, fs+"Remove", object{"path": "entries/gone"})
	for _, e := range call(t, fs+"GetWatcherEvents", object{"watcherId": id})["events"].([]any) {
		entry := at(e, "entry")
		if at(e, "name") == "gone" && entry != nil {
			t.Errorf("of what is gone: %v", e)
		}
		if at(e, "name") == "file" && (at(entry, "path") != home+"/entries/file" || at(entry, "size") != "4" || at(entry, "type") != "FILE_TYPE_FILE") {
			t.Errorf("of what is there: %v", e)
		}
	}
	call(t, fs+"RemoveWatcher", object{"watcherId": id})
}

func TestWatchDir(t *testing.T) {
	clean(t, "flow")
	mkdir(t, "flow")
	f := stream(t, fs+"WatchDir", object{"path": "flow", "recursive": true, "includeEntry": true}, "Keepalive-Ping-Interval", "50")
	if m := f.next(t); m["start"] == nil {
		t.Fatalf("first comes %v", m)
	}
	upload(t, "flow/file", "x")
	for _, want := range []string{"CREATE file", "CHMOD file", "WRITE file"} {
		m := f.next(t)
		if got := short(m["filesystem"]); got != want || at(m, "filesystem", "entry", "path") != home+"/flow/file" {
			t.Errorf("got %v, want %s", m, want)
		}
	}
	call(t, fs+"Remove", object{"path": "flow"})
	var got []string
	for _, m := range f.rest(t) { // it ends with the directory
		got = append(got, short(m["filesystem"]))
	}
	if all := strings.Join(got, ", "); all != "REMOVE file, REMOVE ." {
		t.Errorf("got %s", all)
	}
	f.endedBy(t, "")
}

func TestWatchDirIsSilent(t *testing.T) {
	mkdir(t, "silent")
	f := stream(t, fs+"WatchDir", object{"path": "silent"}, "Keepalive-Ping-Interval", "1", "Connect-Timeout-Ms", "3500")
	var got []string
	for _, m := range f.rest(t) {
		for name := range m {
			got = append(got, name)
		}
	}
	if len(got) < 2 || got[0] != "start" || slices.ContainsFunc(got[1:], func(name string) bool { return name != "keepalive" }) {
		t.Errorf("got %v", got)
	}
	f.endedBy(t, "deadline_exceeded")
}

func TestWatchNothing(t *testing.T) {
	write(t, "a-file", "x")
	for path, want := range map[string]struct {
		status int
		code   string
	}{"nowhere": {404, "not_found"}, "a-file": {400, "invalid_argument"}, "~x": {400, "invalid_argument"}} {
		refused(t, want.status, want.code, fs+"CreateWatcher", object{"path": path})
		stream(t, fs+"WatchDir", object{"path": path}).failed(t, want.code)
	}
}

// There are as many watchers as there can be, and no more; what was there goes on.
func TestTooManyWatchers(t *testing.T) {
	mkdir(t, "many")
	var all []string
	for {
		status, answer := try(t, fs+"CreateWatcher", object{"path": "many"})
		if status != http.StatusOK {
			if status != http.StatusTooManyRequests || answer["code"] != "resource_exhausted" {
				t.Errorf("%d %v", status, answer)
			}
			break
		}
		all = append(all, answer["watcherId"].(string))
	}
	if len(all) != 32 {
		t.Errorf("%d watchers", len(all))
	}
	for _, id := range all {
		call(t, fs+"RemoveWatcher", object{"watcherId": id})
	}
}
