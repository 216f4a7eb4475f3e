package main_test

import (
	"archive/zip"
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
	if err := os.WriteFile(filepath.Join(wheels, "secret"), nil, 0o600); err != nil { // the host's root's, and of no sandbox's
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
	app := build("app", "--from", "test/image:1", "--requirements", list, "--run", `pwd > here; python3 -c "import os; os.remove(os.environ['HOME'] + '/gone')"`)
	app.expect(t, 0, "app\n")
	// This machine may not let builds have root: that takes root, control groups and disks.
	missing, disk := can.Isolation.Missing, can.Isolation.Enforced["disk"]
	whole := os.Geteuid() == 0 && missing["memory"] == "" && missing["pids"] == "" && disk == "ext4 file system"
	if asUser := strings.Contains(app.stderr, "commands run as the template's user"); os.Geteuid() == 0 && asUser == whole {
		t.Errorf("as the template's user: %t, where disks are %q and this is missing: %q: %s", asUser, disk, missing, app.stderr)
	}
	if whole { // then all that they change is kept
		build("whole", "--from", "test/image:1", "--requirements", list, "--run", "id -u > /usr/share/who; rm /usr/share/mine; rm /usr/share/who/no 2>/dev/null; echo x > /etc/hosts; echo x > /tmp/x; cat /etc/passwd > /usr/share/users; if cat "+wheels+"/secret; then exit 9; fi",
			"--run", `python3 -c "import os, random, k2two; status = open('/proc/self/status').read(); assert all(s in status for s in ['CapEff:\t00000000800004fb', 'CapBnd:\t00000000800004fb', 'NoNewPrivs:\t1', 'Seccomp:\t2']), status; os.makedirs('/opt/deep'); os.chown('/opt/deep', 77, 78); os.link('/usr/share/who', '/usr/share/same'); open('/srv/app/made', 'w')"`).expect(t, 0, "whole\n")
		build("wholer", "--from", "whole", "--run", "cat /usr/share/who > /usr/share/again; rm /usr/share/same").expect(t, 0, "wholer\n")
	}
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
	if whole {
		var box api.Sandbox
		h.ask(t, "POST", "/v1/sandboxes", `{"template":"wholer"}`, 201, &box)
		const look = `import os, k2two
print(open("/usr/share/who").read(), open("/usr/share/again").read(), sorted(os.listdir("/usr/share")), os.stat("/usr/share/who").st_uid, os.stat("/opt/deep").st_uid, os.stat("/opt/deep").st_gid, os.path.exists("/tmp/x"), open("/etc/hosts").read() == "x\n",
	os.getuid(), os.stat("/srv/app/made").st_uid, os.access("/usr/share", os.W_OK), k2two.twice)`
		if got := h.in(box.SandboxID).printed(t, look); got != "0\n 0\n ['again', 'users', 'who'] 0 77 78 False False 1234 1234 False 84\n" {
			t.Errorf("got %q", got)
		}
		for _, name := range []string{"whole", "wholer"} {
			run(t, call{args: []string{"template", "remove", name, "--data-dir", data}}).expect(t, 0, name+"\n")
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

// What a build has left that was killed goes at the start of the next one, with all that runs in its sandbox; one that lives keeps what it has.
func TestTemplateBuildThatIsKilled(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	c := call{args: []string{"template", "build", "mine", "--data-dir", data, "--python", interpreter, "--run", "echo has begun; exec sleep 1000"}}
	cmd := c.command(t)
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	words := ""
	for lines := bufio.NewScanner(said); !strings.HasSuffix(words, "\nhas begun\n") && lines.Scan(); {
		words += lines.Text() + "\n"
	}
	if strings.Contains(words, "cannot confine sandboxes") { // nothing is built here
		_ = cmd.Wait()
		return
	}
	other := func(name string) { // in the same folder
		t.Helper()
		run(t, call{args: []string{"template", "build", name, "--data-dir", data, "--python", interpreter, "--run", "echo " + name}, env: []string{"TMPDIR=" + c.temp}}).expect(t, 0, name+"\n")
	}
	inside := descendants(cmd.Process.Pid)
	var sleeps []int
	for range 1000 { // within execve it has no name yet
		for pid := range inside {
			if line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); bytes.Contains(bytes.ReplaceAll(line, []byte{0}, []byte(" ")), []byte("sleep 1000")) {
				sleeps = append(sleeps, pid)
			}
		}
		if len(sleeps) > 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
		inside = descendants(cmd.Process.Pid)
	}
	other("first")
	if len(sleeps) == 0 || started(sleeps[0]) != inside[sleeps[0]] {
		t.Errorf("processes %v of a build that lives have gone", sleeps)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
	other("second")
	for pid, since := range inside {
		if started(pid) == since {
			t.Errorf("process %d still runs", pid)
		}
	}
	nothingLeft(t, c.temp)
}
