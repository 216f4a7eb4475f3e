package kernel_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/kernel"
)

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}

func TestFind(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	write(t, a+"/share/jupyter/kernels/Python3/kernel.json", `{"argv":["python","-f","{connection_file}"],"display_name":"First",
		"language":"python","env":{"A":"${HOME}"},"metadata":{"debugger":true},"kernel_protocol_version":"5.5","x":1}`)
	write(t, b+"/share/jupyter/kernels/python3/kernel.json", `{"argv":["second"]}`)
	write(t, b+"/share/jupyter/kernels/other/kernel.json", `{"argv":["other"],"interrupt_mode":"message"}`)
	write(t, b+"/share/jupyter/kernels/broken/kernel.json", `{"argv":"x"}`)
	write(t, b+"/share/jupyter/kernels/none/readme", "")
	path := kernel.SearchPath{"/no/such", a + "/share/jupyter/kernels", b + "/share/jupyter/kernels"}

	s, err := kernel.Find("PYTHON3", path)
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != "python3" || s.DisplayName != "First" || s.InterruptMode != "signal" || s.Env["A"] != "${HOME}" ||
		s.Prefix != a || s.ResourceDir != path[1]+"/Python3" || !strings.Contains(string(s.Raw), `"x":1`) || string(s.Metadata) != `{"debugger":true}` {
		t.Errorf("%+v", s)
	}
	if s, err := kernel.Find("other", path); err != nil || s.InterruptMode != "message" {
		t.Errorf("%+v %v", s, err)
	}
	if _, err := kernel.Find("none", path); !errors.Is(err, kernel.ErrNotFound) || !strings.Contains(err.Error(), a) {
		t.Error(err)
	}
	for name, want := range map[string]string{"broken": "argv", "../x": "../x", "": "kernel name"} {
		if _, err := kernel.Find(name, path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", name, err)
		}
	}
	specs, errs := kernel.List(path)
	if len(specs) != 2 || specs[0].DisplayName != "First" || specs[1].Name != "other" || len(errs) != 1 {
		t.Error(specs, errs)
	}
}

func TestReadSpecErrors(t *testing.T) {
	for text, want := range map[string]string{
		`{`: "unexpected end", `{}`: "argv", `{"argv":[""]}`: "argv", `{"argv":["x",1]}`: "argv",
		`{"argv":["x"],"interrupt_mode":"shout"}`: "interrupt_mode", `{"argv":["x"],"env":{"A":1}}`: "env",
	} {
		dir := t.TempDir()
		write(t, dir+"/kernel.json", text)
		if _, err := kernel.ReadSpec(dir); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestDefaultSearchPath(t *testing.T) {
	path := func(vars map[string]string, prefixes ...string) string {
		return strings.Join(kernel.DefaultSearchPath(func(n string) string { return vars[n] }, prefixes...), " ")
	}
	const system = " /usr/local/share/jupyter/kernels /usr/share/jupyter/kernels"
	for _, c := range [][2]string{
		{path(map[string]string{"HOME": "/h"}, "/p"), "/h/.local/share/jupyter/kernels /p/share/jupyter/kernels" + system + " /h/.ipython/kernels"},
		{path(map[string]string{"HOME": "/h", "VIRTUAL_ENV": "/v", "XDG_DATA_HOME": "/x"}), "/v/share/jupyter/kernels /x/jupyter/kernels" + system + " /h/.ipython/kernels"},
		{path(map[string]string{"JUPYTER_PATH": "/a:/b", "JUPYTER_DATA_DIR": "/d"}), "/a/kernels /b/kernels /d/kernels" + system},
	} {
		if c[0] != c[1] {
			t.Errorf("got  %s\nwant %s", c[0], c[1])
		}
	}
}

// A spec is run as Jupyter would: the arguments and the environment that its
// process sees come out of the failed start.
func TestCommandAndEnvironment(t *testing.T) {
	prefix := t.TempDir()
	dir := prefix + "/share/jupyter/kernels/echo"
	write(t, prefix+"/bin/python", "#!/bin/sh\nfor a; do echo \"arg $a\"; done; env; exit 1\n")
	write(t, prefix+"/pyvenv.cfg", "")
	write(t, dir+"/kernel.json", `{"argv":["python3","{connection_file}","{resource_dir}/x","{prefix}","{other}","~/y","~z"],
		"env":{"A":"${BASE}-${NO}-$$-$BASE","ENVS":"spec"}}`)
	s, err := kernel.ReadSpec(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = kernel.Start(t.Context(), kernel.Options{
		Spec: s, RunDir: runDir(t), Envs: map[string]string{"ENVS": "caller", "EMPTY": ""},
		Environ: []string{"BASE=b", "HOME=/h", "PATH=/usr/bin:/bin", "JPY_PARENT_PID=1", "PYTHONEXECUTABLE=x", "K2_MARK=forged"},
	})
	if err == nil {
		t.Fatal("it started")
	}
	lines := strings.Split(err.Error(), "\n")
	for _, want := range []string{"arg " + dir + "/x", "arg " + prefix, "arg {other}", "arg /h/y", "arg ~z",
		"A=b-${NO}-$-b", "ENVS=caller", "EMPTY=", "PATH=" + prefix + "/bin:/usr/bin:/bin", "VIRTUAL_ENV=" + prefix, "LINES=24"} {
		if !slices.Contains(lines, want) {
			t.Errorf("no line %q in\n%v", want, err)
		}
	}
	for _, bad := range []string{"JPY_PARENT_PID", "PYTHONEXECUTABLE", "forged"} {
		if strings.Contains(err.Error(), bad) {
			t.Errorf("%s in\n%v", bad, err)
		}
	}
}

func TestDefaultEnviron(t *testing.T) {
	got := kernel.DefaultEnviron([]string{"PATH=/bin", "LC_ALL=C", "LC=x", "K2_API_KEY=s", "AWS_SECRET_ACCESS_KEY=s", "JUPYTER_TOKEN=s", "https_proxy=p", "HOME=a=b"})
	if want := []string{"PATH=/bin", "LC_ALL=C", "https_proxy=p", "HOME=a=b"}; !slices.Equal(got, want) {
		t.Error(got)
	}
}
