package packages_test

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/packages"
)

// wheel puts a wheel, which is a zip file, into the folder.
func wheel(t *testing.T, dir, name, version string, files map[string]string, requires ...string) {
	t.Helper()
	base := strings.ReplaceAll(name, "-", "_") + "-" + version
	info := base + ".dist-info/"
	all := maps.Clone(files)
	all[info+"METADATA"] = fmt.Sprintf("Metadata-Version: 2.1\nName: %s\nVersion: %s\n", name, version)
	for _, r := range requires {
		all[info+"METADATA"] += "Requires-Dist: " + r + "\n"
	}
	all[info+"WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
	record := info + "RECORD,,\n"
	for file := range all {
		record += file + ",,\n"
	}
	all[info+"RECORD"] = record
	f, err := os.Create(filepath.Join(dir, base+"-py3-none-any.whl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z := zip.NewWriter(f)
	for _, file := range slices.Sorted(maps.Keys(all)) {
		w, err := z.Create(file)
		if err == nil {
			_, err = w.Write([]byte(all[file]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
}

// wheels returns a folder of wheels: two versions of alpha, which needs beta and has
// a command, and a packaging that is newer than any other.
func wheels(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, v := range []string{"1.0", "2.0"} {
		wheel(t, dir, "k2-alpha", v, map[string]string{
			"k2_alpha/__init__.py":                          "version = '" + v + "'\ndef main():\n    print('alpha', version)\n",
			"k2_alpha-" + v + ".dist-info/entry_points.txt": "[console_scripts]\nk2-alpha = k2_alpha:main\n",
		}, "k2-beta>=0.1")
	}
	wheel(t, dir, "k2-beta", "0.1", map[string]string{"k2_beta.py": "x = 1\n"})
	wheel(t, dir, "packaging", "99.0", map[string]string{"packaging/__init__.py": "__version__ = '99.0'\n"})
	wheel(t, dir, "k2-needs-more", "1.0", map[string]string{"k2_needs_more.py": ""}, "k2-nowhere")
	return dir
}

func interpreter(t *testing.T) string {
	t.Helper()
	python := os.Getenv("K2_TEST_PYTHON")
	if python == "" {
		t.Fatal("K2_TEST_PYTHON names no interpreter: run make test")
	}
	return python
}

func environ() []string { return kernel.DefaultEnviron(os.Environ()) }

func environment(t *testing.T, python string, o packages.Options) *packages.Environment {
	t.Helper()
	parent := t.TempDir()
	e, err := packages.New(t.Context(), python, parent, environ(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if left, _ := os.ReadDir(parent); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	if err := e.Wait(); err != nil {
		t.Fatal(err)
	}
	return e
}

func install(t *testing.T, e *packages.Environment, upgrade bool, names ...string) (packages.Change, string, error) {
	t.Helper()
	var said bytes.Buffer
	r := packages.Request{Upgrade: upgrade, Stderr: &said}
	for _, name := range names {
		one, err := packages.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		r.Requirements = append(r.Requirements, one)
	}
	change, err := e.Install(t.Context(), r)
	return change, said.String(), err
}

// run runs code in an interpreter and returns what it prints.
func run(t *testing.T, python, code string) string {
	t.Helper()
	cmd := exec.Command(python, "-c", code)
	cmd.Env, cmd.Dir = environ(), t.TempDir()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func version(e *packages.Environment, name string) string {
	for _, d := range e.List() {
		if d.Name == name {
			return d.Version
		}
	}
	return ""
}

// state is all files of a folder, with size and time.
func state(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "__pycache__" {
			return fs.SkipDir // who imports from it fills that
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			fmt.Fprintln(&b, path, info.Size(), info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestEnvironmentIsOverASharedOne(t *testing.T) {
	python := interpreter(t)
	shared := filepath.Dir(filepath.Dir(python))
	before := state(t, shared)
	for _, installer := range []string{packages.UV, packages.Pip} {
		t.Run(installer, func(t *testing.T) {
			o := packages.Options{Installer: installer, FindLinks: []string{wheels(t)}, NoIndex: true}
			e, other := environment(t, python, o), environment(t, python, o)
			had := version(e, "packaging")
			change, said, err := install(t, e, false, "k2-alpha==1.0", "packaging")
			if err != nil {
				t.Fatalf("%v\n%s", err, said)
			}
			if fmt.Sprint(change.Installed) != "[{k2-alpha 1.0 "+infoOf(e, "k2_alpha-1.0")+"} {k2-beta 0.1 "+infoOf(e, "k2_beta-0.1")+"}]" || len(change.Changed)+len(change.Removed) > 0 {
				t.Errorf("got %+v", change)
			}
			if got := run(t, e.Python(), "import k2_alpha, k2_beta, ipykernel; k2_alpha.main()"); got != "alpha 1.0" {
				t.Errorf("got %q", got)
			}
			command := filepath.Join(filepath.Dir(e.Python()), "k2-alpha")
			if out, err := exec.Command(command).CombinedOutput(); err != nil || string(out) != "alpha 1.0\n" {
				t.Errorf("%v: %s", err, out)
			}
			change, _, err = install(t, e, false, "k2-alpha", "packaging==99.0")
			if err != nil || fmt.Sprint(change.Changed) != "[{packaging "+had+" 99.0}]" || len(change.Installed)+len(change.Removed) > 0 {
				t.Errorf("%v: %+v", err, change)
			}
			if fmt.Sprint(change.Modules) != "[packaging]" {
				t.Errorf("modules %v", change.Modules)
			}
			if got := run(t, e.Python(), "import packaging; print(packaging.__version__)"); got != "99.0" {
				t.Errorf("packaging %s: the shared one hides the newer", got)
			}
			change, _, err = install(t, e, true, "k2-alpha")
			if err != nil || fmt.Sprint(change.Changed) != "[{k2-alpha 1.0 2.0}]" || fmt.Sprint(change.Modules) != "[k2_alpha]" {
				t.Errorf("%v: %+v", err, change)
			}
			if got := run(t, e.Python(), "import k2_alpha; k2_alpha.main()"); got != "alpha 2.0" {
				t.Errorf("got %q", got)
			}
			if version(other, "k2-alpha") != "" || version(other, "packaging") != had {
				t.Error("another environment sees it")
			}
			if got, want := list(e), run(t, e.Python(), listing); got != want {
				t.Errorf("List says\n%s\nPython says\n%s", got, want)
			}
		})
	}
	if state(t, shared) != before {
		t.Error("the shared environment was written to")
	}
}

func infoOf(e *packages.Environment, base string) string {
	found, _ := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(e.Python())), "lib", "*", "site-packages", base+".dist-info"))
	return strings.Join(found, " ")
}

const listing = `
from importlib.metadata import distributions
import re
found = {}
for d in distributions():
    found.setdefault(re.sub("[-_.]+", "-", d.metadata["Name"]).lower(), d.metadata["Name"] + " " + d.version)
print("\n".join(found[k] for k in sorted(found)))
`

func list(e *packages.Environment) string {
	var lines []string
	for _, d := range e.List() {
		lines = append(lines, d.Name+" "+d.Version)
	}
	return strings.Join(lines, "\n")
}

func TestFailedInstallationsLeaveNothing(t *testing.T) {
	for _, installer := range []string{packages.UV, packages.Pip} {
		e := environment(t, interpreter(t), packages.Options{Installer: installer, FindLinks: []string{wheels(t)}, NoIndex: true})
		before := list(e)
		stages := func() []string {
			found, _ := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(e.Python())), "stage"))
			return found
		}
		var failed *packages.Failed
		_, said, err := install(t, e, false, "k2-beta", "k2-needs-more")
		if !errors.As(err, &failed) || !strings.Contains(err.Error(), "k2-nowhere") || !strings.Contains(said, "k2-nowhere") {
			t.Errorf("%s: %v\n%s", installer, err, said)
		}
		if list(e) != before || len(stages()) > 0 {
			t.Errorf("%s: it left %s, %v", installer, list(e), stages())
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		one, _ := packages.Parse("k2-beta")
		if _, err := e.Install(ctx, packages.Request{Requirements: []packages.Requirement{one}}); !errors.Is(err, context.Canceled) || list(e) != before {
			t.Errorf("%s, cancelled: %v", installer, err)
		}
	}
}

func TestListsHoldForWhatIsNeededToo(t *testing.T) {
	for _, installer := range []string{packages.UV, packages.Pip} {
		e := environment(t, interpreter(t), packages.Options{Installer: installer, FindLinks: []string{wheels(t)}, NoIndex: true, Deny: []string{"K2_beta"}})
		before := list(e)
		var refused *packages.Refused
		if _, _, err := install(t, e, false, "k2-alpha"); !errors.As(err, &refused) || refused.Name != "k2-beta" || refused.Index != -1 {
			t.Errorf("%s: %v", installer, err)
		}
		if _, _, err := install(t, e, false, "packaging", "k2.beta"); !errors.As(err, &refused) || refused.Name != "k2.beta" || refused.Index != 1 {
			t.Errorf("%s: %v", installer, err)
		}
		if list(e) != before {
			t.Errorf("%s: it left %s", installer, list(e))
		}
	}
	e := environment(t, interpreter(t), packages.Options{FindLinks: []string{wheels(t)}, NoIndex: true, Allow: []string{"k2-beta"}})
	if _, said, err := install(t, e, false, "k2-beta"); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
	var refused *packages.Refused
	if _, _, err := install(t, e, false, "k2-alpha"); !errors.As(err, &refused) {
		t.Errorf("not on the list: %v", err)
	}
	var url *packages.URLRefused
	if _, _, err := install(t, e, false, "k2-beta @ https://localhost/k2_beta.whl"); !errors.As(err, &url) {
		t.Errorf("a URL: %v", err)
	}
}

func TestURLsWhereTheyAreAllowed(t *testing.T) {
	dir := wheels(t)
	e := environment(t, interpreter(t), packages.Options{NoIndex: true, URLs: true, Deny: []string{"k2-alpha"}})
	if change, said, err := install(t, e, false, "k2-beta @ file://"+dir+"/k2_beta-0.1-py3-none-any.whl"); err != nil || len(change.Installed) != 1 {
		t.Errorf("%v: %+v\n%s", err, change, said)
	}
	var refused *packages.Refused
	if _, _, err := install(t, e, false, "k2-alpha @ file://"+dir+"/k2_alpha-1.0-py3-none-any.whl"); !errors.As(err, &refused) {
		t.Errorf("a name that is denied: %v", err)
	}
}

// What code in a sandbox leaves in its environment holds up nobody.
func TestStrangeFilesInAnEnvironment(t *testing.T) {
	e := environment(t, interpreter(t), packages.Options{FindLinks: []string{wheels(t)}, NoIndex: true})
	found, _ := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(e.Python())), "lib", "*", "site-packages"))
	site := found[0]
	for name, metadata := range map[string]string{
		"no-name.dist-info": "Version: 1\n\nName: x\n", "odd.dist-info": "Name: ../../odd\nVersion: 1\n", "odder.dist-info": "Name: odder\nVersion: /etc/passwd\n",
		"k2_beta-0.0.dist-info": "Name: k2-beta\nVersion: 0.0\n",
	} {
		if err := os.Mkdir(filepath.Join(site, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(site, name, "METADATA"), []byte(metadata), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	record := strings.Repeat("../", 30) + strings.TrimPrefix(outside, "/") + ",,\n" + outside + ",,\nk2_beta.py,,\n"
	if err := os.WriteFile(filepath.Join(site, "k2_beta-0.0.dist-info", "RECORD"), []byte(record), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, fifo := range []string{"fifo.pth", "fifo.egg-info", "no-name.dist-info/RECORD"} {
		if err := syscall.Mkfifo(filepath.Join(site, fifo), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	change, said, err := install(t, e, false, "k2-beta==0.1")
	if err != nil || fmt.Sprint(change.Changed) != "[{k2-beta 0.0 0.1}]" {
		t.Errorf("%v: %+v\n%s", err, change, said)
	}
	if _, err := os.Stat(outside); err != nil {
		t.Errorf("a file outside of the environment: %v", err)
	}
}

// An environment of the system's Python, or another that is no virtual environment.
func TestEnvironmentOverAnInstallation(t *testing.T) {
	python, err := filepath.EvalSymlinks(interpreter(t))
	if err != nil {
		t.Fatal(err)
	}
	e := environment(t, python, packages.Options{Installer: packages.UV, FindLinks: []string{wheels(t)}, NoIndex: true})
	if _, err := e.Installer(); err != nil {
		e = environment(t, python, packages.Options{FindLinks: []string{wheels(t)}, NoIndex: true})
	}
	if got, want := list(e), run(t, e.Python(), listing); got != want {
		t.Errorf("List says\n%s\nPython says\n%s", got, want)
	}
	if _, said, err := install(t, e, false, "k2-alpha"); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	if got := run(t, e.Python(), "import k2_alpha; k2_alpha.main()"); got != "alpha 2.0" {
		t.Errorf("got %q", got)
	}
}

func TestEnvironmentThatCodeHasRemoved(t *testing.T) {
	e := environment(t, interpreter(t), packages.Options{FindLinks: []string{wheels(t)}, NoIndex: true})
	for range 2 {
		if err := os.RemoveAll(filepath.Dir(filepath.Dir(e.Python()))); err != nil {
			t.Fatal(err)
		}
		if version(e, "ipykernel") == "" {
			t.Error("the list lacks what is still there")
		}
		if change, said, err := install(t, e, false, "k2-beta"); err != nil || len(change.Installed) != 1 {
			t.Errorf("%v: %+v\n%s", err, change, said)
		}
	}
	if got := run(t, e.Python(), "import k2_beta, ipykernel; print(k2_beta.x)"); got != "1" {
		t.Errorf("got %q", got)
	}
}

// pip as code calls it installs into the environment too, and the List has that.
func TestPipOfTheEnvironment(t *testing.T) {
	e := environment(t, interpreter(t), packages.Options{})
	cmd := exec.Command(filepath.Join(filepath.Dir(e.Python()), "pip"), "install", "--no-index", "--find-links", wheels(t), "k2-beta")
	cmd.Env = environ()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if version(e, "k2-beta") != "0.1" {
		t.Error("List does not have it")
	}
}

// A folder that pip is set up to look at, and that is not there, fails nothing.
func TestFoldersThatAreNotThere(t *testing.T) {
	dir := wheels(t)
	given := append(environ(), "PIP_NO_INDEX=1", "PIP_FIND_LINKS="+filepath.Join(dir, "nowhere")+" "+dir)
	e, err := packages.New(t.Context(), interpreter(t), t.TempDir(), given, packages.Options{Installer: packages.UV}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if change, said, err := install(t, e, false, "k2-beta"); err != nil || len(change.Installed) != 1 {
		t.Errorf("%v: %+v\n%s", err, change, said)
	}
}
