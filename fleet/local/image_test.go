package local_test

import (
	"archive/tar"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/fleet/local"
	"github.com/k2sandbox/k2sandbox/fleet/template"
	"github.com/k2sandbox/k2sandbox/internal/imagetest"
)

// imported makes a template of an image in a store.
func imported(t *testing.T, s *template.Store, called string, config imagetest.Config, layers ...imagetest.Layer) {
	t.Helper()
	if _, err := s.Import(t.Context(), imagetest.Write(t, config, layers...), template.Options{Name: called}); err != nil {
		t.Fatal(err)
	}
}

func store(t *testing.T) (*template.Store, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	return template.Open(dir, template.Limits{}), dir
}

func withStore(s *template.Store) func(*local.Options) {
	return func(o *local.Options) { o.Store = s }
}

func TestImage(t *testing.T) {
	s, _ := store(t)
	low, high := imagetest.Shell(t), imagetest.Layer{}
	low.File("low", "low").File("changed", "low").File("gone", "low").File("dir/low", "low").File("home/ada/kept", "hers")
	low["set"] = tar.Header{Typeflag: tar.TypeReg, Mode: 0o4755, Linkname: "x"}
	low["hers"] = tar.Header{Typeflag: tar.TypeReg, Mode: 0o600, Uid: 1234, Gid: 100, Linkname: "private"}
	low["theirs"] = tar.Header{Typeflag: tar.TypeReg, Mode: 0o600, Uid: 77, Gid: 77, Linkname: "private"}
	low["proc"] = tar.Header{Typeflag: tar.TypeSymlink, Linkname: "/etc"} // where the server mounts
	low["out"] = tar.Header{Typeflag: tar.TypeSymlink, Linkname: "/../../../../../.." + t.TempDir()}
	high.File("changed", "high").File(".wh.gone", "").File("dir/high", "high").File("dir/.wh..wh..opq", "")
	imported(t, s, "mine:latest", imagetest.Config{User: "ada", WorkingDir: "/srv/app", Env: []string{"GREETING=hello", "HOME=/root", "PATH=/own/bin:/usr/bin:/bin"}}, low, high)

	r := open(t, withStore(s))
	m := start(t, r, fleet.Spec{ID: "sb_a", Template: "mine"})
	wants(t, m, "pwd; echo $HOME $USER $GREETING $PATH", "/srv/app\n/home/ada ada hello /own/bin:/usr/bin:/bin")
	wants(t, m, "cat /low /changed /dir/high; cat /home/ada/kept; ls /dir; ls /gone /usr/include 2>/dev/null || echo none", "lowhighhighhershigh\nnone")
	wants(t, m, "id -u; id -un; stat -c %a /set; ls -d /proc/self /proc/1; test -e /out || echo no", "1234\nada\n755\n/proc/1\n/proc/self\nno")
	wants(t, m, "id -g; id -gn; id -G; echo x > $HOME/own && stat -c %u:%g $HOME $HOME/own", "100\nusers\n100\n1234:100\n1234:100")
	wants(t, m, "echo x > here && cat here && echo y > $HOME/there && cat $HOME/kept $HOME/there", "x\nhersy")
	if os.Geteuid() == 0 {
		wants(t, m, "cat /hers; cat /theirs 2>/dev/null || echo no; stat -c %u:%g /low /hers /theirs", "privateno\n0:0\n1234:100\n77:77")
		wants(t, m, "echo x 2>/dev/null > /low || echo no; rm -f /bin/cat 2>/dev/null || echo no", "no\nno")
	}
	other := start(t, r, fleet.Spec{ID: "sb_b", Template: "mine:latest"}) // one that has waited, perhaps
	wants(t, other, "ls /srv/app; cat $HOME/kept", "hers")
	plain := start(t, r, fleet.Spec{ID: "sb_c"})
	wants(t, plain, "ls /low 2>/dev/null || echo none; echo $HOME", "none\n/home/user")
}

// An image that names no user, or root, runs code as the usual one, who can write where its work is to be.
func TestImageOfRoot(t *testing.T) {
	s, _ := store(t)
	imported(t, s, "mine", imagetest.Config{User: "root", WorkingDir: "/app"}, imagetest.Shell(t).File("app/main.py", "1"))
	imported(t, s, "agents", imagetest.Config{User: "999"}, imagetest.Shell(t))
	packages := filepath.Join(t.TempDir(), "packages")
	if err := errors.Join(os.Mkdir(packages, 0o755), os.WriteFile(packages+"/a.whl", nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	r := open(t, withStore(s), func(o *local.Options) { o.Environ = append(o.Environ, "PIP_FIND_LINKS="+packages) })
	m := start(t, r, fleet.Spec{ID: "sb_a", Template: "mine"})
	wants(t, m, "ls $PIP_FIND_LINKS", "a.whl")
	wants(t, m, "pwd; id -u; id -un; cat main.py; echo x > new && cat new; echo $HOME", "/app\n1000\nuser\n1x\n/home/user")
	m = start(t, r, fleet.Spec{ID: "sb_b", Template: "agents"})
	wants(t, m, "pwd; id -u; id -un; cat /proc/1/environ 2>/dev/null || echo no", "/home/user\n999\nuser\nno")
}

// A template that is removed while sandboxes are made of it is there for them, and for the server that takes them back; then its layers go.
func TestImageRemovedWhileUsed(t *testing.T) {
	s, dir := store(t)
	imported(t, s, "mine", imagetest.Config{}, imagetest.Shell(t).File("file", "text"))
	count := func(want int) {
		t.Helper()
		if found, err := os.ReadDir(filepath.Join(dir, "layers")); err != nil || len(found) != want {
			t.Errorf("there are %v, %v, want %d", found, err, want)
		}
	}
	state := t.TempDir()
	in := func(o *local.Options) { o.Dir = state }
	first := open(t, withStore(s), in)
	m, err := first.Start(t.Context(), fleet.Spec{ID: "sb_a", Template: "mine"})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Remove(t.Context(), "mine"), first.Close()); err != nil {
		t.Fatal(err)
	}
	count(1)
	wants(t, m, "cat /file", "text")
	if _, err := first.Start(t.Context(), fleet.Spec{ID: "sb_b", Template: "mine"}); !errors.Is(err, fleet.ErrUnknownTemplate) {
		t.Errorf("of what was removed: %v", err)
	}
	second, err := local.New(t.Context(), local.Options{Dir: state, Program: program, Level: "namespace", Store: s})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	again, err := second.Adopt(t.Context(), "sb_a", m.Record())
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Sweep(func(id string) bool { return id == "sb_a" }); err != nil {
		t.Error(err)
	}
	count(1)
	wants(t, again, "cat /file", "text")
	for _, of := range []fleet.Machine{m, again} { // the first has its disk open still, as no server that has ended has
		if err := of.Kill(); err != nil {
			t.Error(err)
		}
	}
	count(0)
}

// What cannot be made of an image is said, and why.
func TestImageThatCannotBe(t *testing.T) {
	s, _ := store(t)
	imported(t, s, "musl", imagetest.Config{}, imagetest.Layer{}.File("lib/ld-musl-x86_64.so.1", "").File("lib/ld-musl-aarch64.so.1", ""))
	imported(t, s, "old", imagetest.Config{}, imagetest.Layer{}.File("lib64/libc.so.6", "GLIBC_2.3"))
	imported(t, s, "empty", imagetest.Config{}, imagetest.Layer{}.File("a", ""))
	python := func(o *local.Options) { o.Interpreter = "/usr/bin/python3" }
	r := open(t, withStore(s), python, func(o *local.Options) { o.Cold = true })
	for template, why := range map[string]string{"musl": "its C library is musl", "old": "its C library is glibc 2.3", "empty": "it has no C library"} {
		if _, err := r.Start(t.Context(), fleet.Spec{ID: "sb_" + template, Template: template}); !errors.Is(err, fleet.ErrUnsupported) || !strings.Contains(fmt.Sprint(err), why) {
			t.Errorf("%s: %v", template, err)
		}
	}
	if _, err := r.Complete(fleet.Spec{Template: "none"}); !errors.Is(err, fleet.ErrUnknownTemplate) {
		t.Errorf("one that is not there: %v", err)
	}
}

func TestImageAtOtherLevels(t *testing.T) {
	s, _ := store(t)
	imported(t, s, "mine", imagetest.Config{}, imagetest.Layer{}.File("a", ""))
	r := open(t, withStore(s), func(o *local.Options) { o.Level = "none" })
	if _, err := r.Complete(fleet.Spec{Template: "mine"}); !errors.Is(err, fleet.ErrUnsupported) {
		t.Errorf("where nothing is confined: %v", err)
	}
}
