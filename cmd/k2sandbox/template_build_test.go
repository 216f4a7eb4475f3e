package main_test

import (
	"archive/zip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/internal/imagetest"
)

// wheel writes a package of Python into a folder.
func wheel(t *testing.T, dir, name, text string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, name+"-1.0-py3-none-any.whl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z := zip.NewWriter(f)
	info := name + "-1.0.dist-info/"
	for file, text := range map[string]string{
		name + ".py":      text,
		info + "METADATA": "Metadata-Version: 2.1\nName: " + name + "\nVersion: 1.0\n",
		info + "WHEEL":    "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
		info + "RECORD":   name + ".py,,\n" + info + "METADATA,,\n" + info + "WHEEL,,\n" + info + "RECORD,,\n",
	} {
		w, err := z.Create(file)
		if err == nil {
			_, err = w.Write([]byte(text))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
}

// A template that was built has the packages and files that were put into it, whatever it was built from, and is built once.
func TestTemplateBuild(t *testing.T) {
	t.Parallel()
	data, wheels := t.TempDir(), filepath.Join(t.TempDir(), "wheels")
	if err := os.Mkdir(wheels, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"k2one": "answer = 42", "k2two": "import k2one; twice = 2 * k2one.answer", "k2three": "name = __name__", "random": `raise SystemExit("in the way of the standard library")`} {
		wheel(t, wheels, name, text)
	}
	list := filepath.Join(data, "requirements.txt")
	if err := os.WriteFile(list, []byte("k2one\nk2two==1.0\n# and\nk2three\nrandom\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	build := func(name string, args ...string) result {
		t.Helper()
		all := append([]string{"template", "build", name, "--data-dir", data, "--python", interpreter, "--package-find-links", wheels, "--package-no-index"}, args...)
		return run(t, call{args: all})
	}
	image := imagetest.Write(t, imagetest.Config{User: "ada", WorkingDir: "/srv/app"}, imagetest.Shell(t).File("usr/share/mine", "an image's file").File("home/ada/gone", "x"))
	run(t, call{args: []string{"template", "import", image, "--data-dir", data}}).expect(t, 0, "test/image:1\n")
	h := openHouse(t, "--data-dir", data, "--package-find-links", wheels)
	var can api.ServerCapabilities
	if h.ask(t, "GET", "/v1/capabilities", "", 200, &can); can.Isolation.Level != "namespace" {
		if got := build("science", "--run", "true"); got.status == 0 {
			t.Errorf("built where nothing confines: %+v", got)
		}
		return
	}

	first := build("science", "--requirements", list, "--run", "echo $COLOUR > $HOME/file; mkdir $HOME/dir", "--run", "python3 -c 'import random, k2two; print(k2two.twice)' > $HOME/dir/twice", "--env", "COLOUR=blue")
	first.expect(t, 0, "science\n")
	again := build("again", "--requirements", list, "--run", "echo $COLOUR > $HOME/file; mkdir $HOME/dir", "--run", "python3 -c 'import random, k2two; print(k2two.twice)' > $HOME/dir/twice", "--env", "COLOUR=blue")
	again.expect(t, 0, "again\n")
	again.complains(t, "built before")
	build("more", "--from", "science", "--run", "echo more >> $HOME/file").expect(t, 0, "more\n")
	build("app", "--from", "test/image:1", "--requirements", list, "--run", `pwd > here; python3 -c "import os; os.remove(os.environ['HOME'] + '/gone')"`).expect(t, 0, "app\n")
	build("bad", "--run", "echo before; exit 3").complains(t, "exit 3: exit status 3", "before")
	build("bad", "--from", "none", "--run", "true").complains(t, "no such template")
	build("k2sandbox/x", "--run", "true").complains(t, "is taken")
	build("bad", "--requirements", list+".none").complains(t, "--requirements")
	build("bad", "--network", "some").complains(t, "mode")

	const look = `import os, random, k2two, k2three
print(k2two.twice, k2three.name, os.getcwd(), os.environ.get("COLOUR"), open(os.environ["HOME"] + "/file").read().split() if os.path.exists(os.environ["HOME"] + "/file") else os.path.exists(os.environ["HOME"] + "/gone"))`
	for name, want := range map[string]string{
		"science": "84 k2three /home/user blue ['blue']\n",
		"again":   "84 k2three /home/user blue ['blue']\n",
		"more":    "84 k2three /home/user blue ['blue', 'more']\n",
		"app":     "84 k2three /srv/app None False\n",
	} {
		var box api.Sandbox
		h.ask(t, "POST", "/v1/sandboxes", `{"template":"`+name+`"}`, 201, &box)
		if got := h.in(box.SandboxID).printed(t, look); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
		if name == "app" {
			if got := h.in(box.SandboxID).printed(t, `print(open("/srv/app/here").read(), open("/usr/share/mine").read())`); !strings.Contains(got, "/srv/app\n an image's file") {
				t.Errorf("got %q", got)
			}
		}
	}
	h.stopped(t)
	for _, name := range []string{"science", "again", "more", "app", "test/image:1"} {
		run(t, call{args: []string{"template", "remove", name, "--data-dir", data}}).expect(t, 0, name+"\n")
	}
	for _, dir := range []string{"layers", "work", "trash"} {
		if left, err := filepath.Glob(filepath.Join(data, "templates", dir, "*")); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}
