//go:build debian

package main_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/internal/imagetest"
)

// Of a Debian by debootstrap, from a registry, sandboxes are made with the server's Python and, where apt-get has installed it in a
// build, with Debian's own, whose ipykernel is years old.
func TestTemplateOfDebian(t *testing.T) {
	t.Parallel()
	data, wheels := t.TempDir(), filepath.Join(t.TempDir(), "wheels")
	template := func(args ...string) result {
		t.Helper()
		return run(t, call{args: append(append([]string{"template"}, args...), "--data-dir", data)})
	}
	template("pull", imagetest.Serve(t, imagetest.Debian(t), "some/debian:1"), "--name", "debian").expect(t, 0, "debian\n")
	h := openHouse(t, "--data-dir", data)
	var can api.ServerCapabilities
	if h.ask(t, "GET", "/v1/capabilities", "", 200, &can); can.Isolation.Level != "namespace" {
		t.Fatalf("there are no sandboxes of images here: %+v", can.Isolation)
	}
	in := func(template string) *endpoint {
		t.Helper()
		var box api.Sandbox
		h.ask(t, "POST", "/v1/sandboxes", `{"template":"`+template+`"}`, 201, &box)
		return h.in(box.SandboxID)
	}
	const look = `
import os, subprocess
def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
installed = run("dpkg-query", "-W", "-f", "${Package}\n").split()
`
	debian := in("debian")
	if got := debian.printed(t, look+`
print(os.path.exists("/etc/debian_version"), {"apt", "base-files", "dash", "libc6"} <= set(installed), "python3" in installed, os.path.exists("/usr/bin/python3"))
print(run("dpkg", "-S", "/etc/debian_version"), run("dpkg", "--audit"), run("apt-get", "--version")[:4], os.getuid(), run("sh", "-c", "echo $HOME; python3 -c 'print(6*7)'"))
`); got != "True True False False\nbase-files: /etc/debian_version\n  apt  1000 /home/user\n42\n\n" {
		t.Errorf("got %q", got)
	}
	if err := os.Mkdir(wheels, 0o755); err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(data, "requirements.txt")
	for name, text := range map[string]string{"k2one": "answer = 42", "k2two": "import k2one; twice = 2 * k2one.answer", "k2three": "import k2two; half = k2two.twice // 4"} {
		wheel(t, wheels, name, text)
	}
	if err := os.WriteFile(list, []byte("k2one\nk2two\nk2three\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	build := func(name string, args ...string) {
		t.Helper()
		template(append([]string{"build", name, "--python", interpreter, "--network", "none", "--package-find-links", wheels, "--package-no-index"}, args...)...).expect(t, 0, name+"\n")
	}
	build("own", "--from", "debian", "--env", "DEBIAN_FRONTEND=noninteractive", "--run", "apt-get -q update && apt-get -qy install --no-install-recommends python3-ipykernel python3-pip")
	build("science", "--from", "own", "--requirements", list)
	if got := in("science").printed(t, look+`
import gc, sys, ipykernel, k2three
print({"python3", "python3-ipykernel"} <= set(installed), run("dpkg", "--audit"), run("dpkg", "-S", ipykernel.__file__))
print(sys.base_prefix, k2three.half, run("/usr/bin/python3", "-c", "import k2three; print(k2three.half)"), os.environ["DEBIAN_FRONTEND"], os.getuid())
`); got != "True  python3-ipykernel: /usr/lib/python3/dist-packages/ipykernel/__init__.py\n\n/usr 21 21\n noninteractive 1000\n" {
		t.Errorf("got %q", got)
	}
	if got := debian.printed(t, `print(os.path.exists("/usr/bin/python3"))`); got != "False\n" {
		t.Errorf("got %q", got)
	}
	h.stopped(t)
}
