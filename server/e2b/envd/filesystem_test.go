package envd_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const fs = "filesystem.Filesystem/"

func TestStat(t *testing.T) {
	write(t, "stat/file.txt", "test")
	e := at(call(t, fs+"Stat", object{"path": "stat/file.txt"}), "entry")
	for key, want := range map[string]any{
		"name": "file.txt", "type": "FILE_TYPE_FILE", "path": home + "/stat/file.txt", "size": "4", "mode": 420.0,
		"permissions": "-rw-r--r--", "owner": "user", "group": "user", "symlinkTarget": nil, "metadata": nil, "isSymlink": nil,
	} {
		if got := at(e, key); got != want {
			t.Errorf("%s is %v, want %v", key, got, want)
		}
	}
	if at(e, "modifiedTime") == nil {
		t.Error("no time")
	}
	for _, path := range []string{home + "/stat", "~/stat", "./stat/../stat"} {
		e := at(call(t, fs+"Stat", object{"path": path}), "entry")
		if at(e, "type") != "FILE_TYPE_DIRECTORY" || at(e, "permissions") != "drwxr-xr-x" || at(e, "path") != home+"/stat" {
			t.Errorf("%s is %v", path, e)
		}
	}
	for _, path := range []string{"", "~"} {
		if e := call(t, fs+"Stat", object{"path": path}); at(e, "entry", "path") != home {
			t.Errorf("%q is %v", path, e)
		}
	}
	refused(t, http.StatusNotFound, "not_found", fs+"Stat", object{"path": "stat/nothing"})
	refused(t, http.StatusBadRequest, "invalid_argument", fs+"Stat", object{"path": "stat/file.txt/below"})
	refused(t, http.StatusBadRequest, "invalid_argument", fs+"Stat", object{"path": "~other/x"})
	refused(t, http.StatusBadRequest, "invalid_argument", fs+"Stat", object{"path": "a\x00b"})
	refused(t, http.StatusBadRequest, "invalid_argument", fs+"Stat", object{"path": "/../../x"})
	refused(t, http.StatusBadRequest, "invalid_argument", fs+"Stat", object{"path": strings.Repeat("x", 300)})
	refused(t, http.StatusBadRequest, "invalid_argument", fs+"Stat", object{"path": strings.Repeat("x/", 3000)})
}

// Of a link, type and mode are those of what it leads to in the end.
func TestStatLink(t *testing.T) {
	clean(t, "links")
	write(t, "links/real/file", "x")
	for link, to := range map[string]string{"one": "real/file", "two": "one", "dir": "real", "dangling": "nowhere", "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(home, "links", link)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string][3]any{
		"one": {"FILE_TYPE_FILE", "links/real/file", 420.0}, "two": {"FILE_TYPE_FILE", "links/real/file", 420.0},
		"dir": {"FILE_TYPE_DIRECTORY", "links/real", 493.0}, "dangling": {"FILE_TYPE_SYMLINK", "links/dangling", 0.0},
		"loop": {"FILE_TYPE_SYMLINK", "links/loop", 0.0},
	} {
		e := at(call(t, fs+"Stat", object{"path": "links/" + name}), "entry")
		if at(e, "type") != want[0] || at(e, "symlinkTarget") != home+"/"+want[1].(string) || at(e, "mode") != want[2] || at(e, "isSymlink") != true ||
			at(e, "permissions") != "Lrwxrwxrwx" || at(e, "path") != home+"/links/"+name {
			t.Errorf("%s is %v", name, e)
		}
	}
}

func TestMakeDir(t *testing.T) {
	clean(t, "made")
	e := at(call(t, fs+"MakeDir", object{"path": "made/a/b"}), "entry")
	if at(e, "path") != home+"/made/a/b" || at(e, "type") != "FILE_TYPE_DIRECTORY" || at(e, "mode") != 493.0 {
		t.Errorf("made %v", e)
	}
	refused(t, http.StatusConflict, "already_exists", fs+"MakeDir", object{"path": "made/a"})
	write(t, "made/file", "x")
	refused(t, http.StatusBadRequest, "invalid_argument", fs+"MakeDir", object{"path": "made/file"})
	refused(t, http.StatusBadRequest, "invalid_argument", fs+"MakeDir", object{"path": "made/file/b"})
}

func TestMove(t *testing.T) {
	clean(t, "move")
	write(t, "move/from", "content")
	write(t, "move/there", "old")
	if e := call(t, fs+"Move", object{"source": "move/from", "destination": "move/new/to"}); at(e, "entry", "path") != home+"/move/new/to" {
		t.Errorf("moved %v", e)
	}
	call(t, fs+"Move", object{"source": "move/new/to", "destination": "move/there"})
	if got := content(t, "move/there"); got != "content" {
		t.Errorf("there is %q", got)
	}
	refused(t, http.StatusNotFound, "not_found", fs+"Move", object{"source": "move/from", "destination": "move/x"})
	refused(t, http.StatusBadRequest, "failed_precondition", fs+"Move", object{"source": "move", "destination": "move/new/x"})
}

func TestRemove(t *testing.T) {
	write(t, "remove/a/b/file", "x")
	for range 2 {
		if a := call(t, fs+"Remove", object{"path": "remove"}); len(a) != 0 {
			t.Errorf("answer %v", a)
		}
	}
	refused(t, http.StatusNotFound, "not_found", fs+"Stat", object{"path": "remove"})
	refused(t, http.StatusBadRequest, "failed_precondition", fs+"Remove", object{"path": "/"})
	write(t, "remove/file", "x")
	refused(t, http.StatusBadRequest, "invalid_argument", fs+"Remove", object{"path": ""})
	refused(t, http.StatusBadRequest, "invalid_argument", fs+"Remove", object{})
	if got := content(t, "remove/file"); got != "x" {
		t.Errorf("a path that is missing removed the home directory: %q", got)
	}
}

func TestListDir(t *testing.T) {
	clean(t, "list")
	for _, name := range []string{"file1.txt", "subdir1/subdir1_1/deep", "subdir1/subdir1_2/x", "subdir2/y"} {
		write(t, "list/"+name, "Hello")
	}
	if err := os.Symlink("subdir1", filepath.Join(home, "list/to1")); err != nil {
		t.Fatal(err)
	}
	names := func(message object) string {
		var all []string
		for _, e := range call(t, fs+"ListDir", message)["entries"].([]any) {
			all = append(all, strings.TrimPrefix(at(e, "path").(string), home+"/list/"))
		}
		return strings.Join(all, " ")
	}
	const top = "file1.txt subdir1 subdir2 to1"
	const two = "file1.txt subdir1 subdir1/subdir1_1 subdir1/subdir1_2 subdir2 subdir2/y to1"
	for want, depths := range map[string][]any{top: {nil, 0, 1, "1"}, two: {2, 2.0}} {
		for _, depth := range depths {
			if got := names(object{"path": "list", "depth": depth}); got != want {
				t.Errorf("depth %v: %s", depth, got)
			}
		}
	}
	if got := names(object{"path": "list", "depth": 4_000_000_000}); !strings.Contains(got, "subdir1/subdir1_1/deep") {
		t.Errorf("all: %s", got)
	}
	if got := names(object{"path": "list/to1"}); got != "to1/subdir1_1 to1/subdir1_2" {
		t.Errorf("through a link: %s", got)
	}
	if err := os.Mkdir(filepath.Join(home, "list/none"), 0o755); err != nil {
		t.Fatal(err)
	}
	if a := call(t, fs+"ListDir", object{"path": "list/none"}); a["entries"] == nil {
		t.Errorf("of nothing: %v", a)
	}
	refused(t, http.StatusNotFound, "not_found", fs+"ListDir", object{"path": "list/nothing"})
	refused(t, http.StatusBadRequest, "invalid_argument", fs+"ListDir", object{"path": "list/file1.txt"})
	for _, depth := range []any{-1, 1.5, "x", 5_000_000_000, true} {
		refused(t, http.StatusBadRequest, "invalid_argument", fs+"ListDir", object{"path": "list", "depth": depth})
	}
}

// Attributes that code in the sandbox sets are metadata, too, but for what is no text.
func TestMetadataFromInside(t *testing.T) {
	clean(t, "meta")
	write(t, "meta/file", "x")
	path := filepath.Join(home, "meta/file")
	for name, value := range map[string]string{"user.e2b.author": "mish", "user.other": "x", "user.e2b.binary": "\xff"} {
		if err := unix.Setxattr(path, name, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	want := func(e any) {
		t.Helper()
		if m, _ := at(e, "metadata").(object); len(m) != 1 || m["author"] != "mish" {
			t.Errorf("metadata %v", at(e, "metadata"))
		}
	}
	want(at(call(t, fs+"Stat", object{"path": "meta/file"}), "entry"))
	want(call(t, fs+"ListDir", object{"path": "meta"})["entries"].([]any)[0])
	want(at(call(t, fs+"Move", object{"source": "meta/file", "destination": "meta/moved"}), "entry"))
}
