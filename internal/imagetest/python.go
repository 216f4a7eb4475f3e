package imagetest

import (
	"archive/tar"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// look tells what a virtual environment's ipykernel consists of, and the Python that it was made from.
const look = `
import importlib.metadata, json, os, re, subprocess, sys, sysconfig
wanted, names = {"ipykernel"}, set()
seen = {"debugpy"}  # without which it works
while wanted - seen:
    name = (wanted - seen).pop()
    seen.add(name)
    try:
        found = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:  # of other platforms
        continue
    names |= {f.parts[0] for f in found.files or []} - {"..", "__pycache__"}
    wanted |= {re.match(r"[\w.-]+", r)[0] for r in found.requires or [] if "extra ==" not in r}
program = os.path.realpath(sys.executable)
prefix = os.path.dirname(os.path.dirname(program))
sites = json.loads(subprocess.check_output([program, "-I", "-c", "import json, site; print(json.dumps(site.getsitepackages()))"]))
print(json.dumps({"program": program, "stdlib": sysconfig.get_path("stdlib"), "from": sysconfig.get_path("purelib"), "names": sorted(names),
    "to": next(s for s in sites if s.startswith(prefix + "/lib/"))}))`

// Python adds the Python that a virtual environment of the host was made from, with the environment's ipykernel among its own packages. It
// returns the folder of its python3, too.
func (l Layer) Python(t testing.TB, interpreter string) (Layer, string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), interpreter, "-I", "-c", look).Output()
	if err != nil {
		t.Fatal(err)
	}
	var found struct {
		Program, Stdlib, From, To string
		Names                     []string
	}
	if err := json.Unmarshal(out, &found); err != nil {
		t.Fatal(err)
	}
	l.Program(t, found.Program)
	bin := filepath.Dir(found.Program)
	libraries, _ := filepath.Glob(filepath.Join(bin, "../lib/libpython*.so*")) // where it is in one
	for _, file := range libraries {
		if info, err := os.Lstat(file); err == nil && info.Mode().IsRegular() {
			l.Program(t, file)
		}
	}
	l[bin+"/python3"] = tar.Header{Typeflag: tar.TypeSymlink, Linkname: filepath.Base(found.Program)}
	l.tree(t, found.Stdlib, found.Stdlib)
	for _, name := range found.Names {
		l.tree(t, filepath.Join(found.From, name), filepath.Join(found.To, name))
	}
	return l, bin
}

// needless are folders of Python that no kernel needs.
var needless = map[string]bool{
	"test": true, "tests": true, "idlelib": true, "lib2to3": true, "tkinter": true, "ensurepip": true, "turtledemo": true,
	"site-packages": true, "dist-packages": true, "third_party": true,
}

// tree adds the files of a folder of Python's, and what they are linked with.
func (l Layer) tree(t testing.TB, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != from && (needless[d.Name()] || strings.HasPrefix(d.Name(), "config-")):
			return fs.SkipDir
		case !d.Type().IsRegular() || strings.Contains(d.Name(), ".opt-") || strings.HasSuffix(d.Name(), ".a"):
			return nil
		}
		at := to + strings.TrimPrefix(path, from)
		if strings.Contains(d.Name(), ".so") {
			l.Program(t, path)
			l[at] = l[path]
			if at != path {
				delete(l, path)
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		l[at] = tar.Header{Typeflag: tar.TypeReg, Mode: 0o644, ModTime: info.ModTime(), Linkname: string(text)} // by which bytecode is known to be of its source
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
