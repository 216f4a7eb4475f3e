package main_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/internal/imagetest"
)

// An image without Python is a sandbox with the server's, whose kernel runs where the image says, as its user.
func TestTemplates(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	template := func(args ...string) result {
		t.Helper()
		return run(t, call{args: append(append([]string{"template"}, args...), "--data-dir", data)})
	}
	template("list").expect(t, 0, "NAME  AGE  SIZE  LAYERS  LIBC  PYTHON\n")
	image := imagetest.Write(t, imagetest.Config{User: "ada", WorkingDir: "/srv/app", Env: []string{"GREETING=hello"}}, imagetest.Shell(t).File("usr/share/mine", "an image's file"))
	template("import", image).expect(t, 0, "test/image:1\n")
	if got := template("inspect", "test/image:1"); got.status != 0 || !strings.Contains(got.stdout, `"user": "ada"`) {
		t.Errorf("inspect: %+v", got)
	}
	template("inspect", "none").complains(t, "no such template", "none")

	h := openHouse(t, "--data-dir", data)
	var all api.Templates
	if h.ask(t, "GET", "/v1/templates", "", 200, &all); len(all.Templates) != 2 || all.Templates[1].Template != "test/image:1" {
		t.Errorf("templates %+v", all)
	}
	if all.Templates[1].Unavailable != "" { // nothing confines sandboxes here
		h.ask(t, "POST", "/v1/sandboxes", `{"template":"test/image:1"}`, 422, nil)
		return
	}
	var box api.Sandbox
	h.ask(t, "POST", "/v1/sandboxes", `{"template":"test/image:1"}`, 201, &box)
	if box.Template != "test/image:1" || box.Cwd != "/srv/app" {
		t.Errorf("got %+v", box)
	}
	const code = `
import os, subprocess, ssl, sqlite3, ctypes, lzma, bz2
print(os.getuid(), os.getcwd(), os.environ["HOME"], os.environ["GREETING"], open("/usr/share/mine").read())
print(subprocess.run("id -un; ls /usr/share; python3 -c 'print(6*7)'; echo x > file; cat file", shell=True, capture_output=True, text=True).stdout)`
	if got := h.in(box.SandboxID).printed(t, code); got != "1234 /srv/app /home/ada hello an image's file\nada\nmine\n42\nx\n\n" {
		t.Errorf("got %q", got)
	}
	template("remove", "test/image:1").expect(t, 0, "test/image:1\n")
	if got := h.in(box.SandboxID).printed(t, `print(open("/usr/share/mine").read())`); got != "an image's file\n" {
		t.Errorf("got %q", got)
	}
	h.ask(t, "POST", "/v1/sandboxes", `{"template":"test/image:1"}`, 422, nil)
	h.stopped(t)
	if left, err := filepath.Glob(filepath.Join(data, "templates", "layers", "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
