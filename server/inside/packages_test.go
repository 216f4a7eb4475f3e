package inside_test

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/client"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/packages"
)

// wheels makes a folder of wheels, which are zip files.
func wheels() (string, error) {
	dir, err := os.MkdirTemp("", "wheels")
	if err != nil {
		return "", err
	}
	for _, w := range [][3]string{
		{"cowsay", "6.1", ""}, {"k2_one", "1.0", ""}, {"k2_one", "2.0", ""}, {"k2_two", "1.0", "k2-nowhere"},
		{"k2_denied", "1.0", ""}, {"k2_three", "1.0", "k2-denied"},
	} {
		if err := wheel(dir, w[0], w[1], w[2]); err != nil {
			return dir, err
		}
	}
	return dir, slow(dir)
}

// slow makes a source distribution that takes for ever to build.
func slow(dir string) error {
	f, err := os.Create(filepath.Join(dir, "k2_slow-1.0.tar.gz"))
	if err != nil {
		return err
	}
	defer f.Close()
	packed := gzip.NewWriter(f)
	archive := tar.NewWriter(packed)
	for _, file := range [][2]string{
		{"PKG-INFO", "Metadata-Version: 2.2\nName: k2-slow\nVersion: 1.0\n"},
		{"pyproject.toml", "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n[project]\nname = 'k2-slow'\nversion = '1.0'\n"},
		{"backend.py", "import time\ndef build_wheel(*args, **kwargs):\n    time.sleep(600)\n"},
	} {
		err := archive.WriteHeader(&tar.Header{Name: "k2_slow-1.0/" + file[0], Size: int64(len(file[1])), Mode: 0o644})
		if err == nil {
			_, err = archive.Write([]byte(file[1]))
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), packed.Close())
}

// wheel makes one with a module of the distribution's name, which tells its version.
func wheel(dir, name, version, needs string) error {
	f, err := os.Create(filepath.Join(dir, name+"-"+version+"-py3-none-any.whl"))
	if err != nil {
		return err
	}
	defer f.Close()
	info := name + "-" + version + ".dist-info/"
	metadata := fmt.Sprintf("Metadata-Version: 2.1\nName: %s\nVersion: %s\n", strings.ReplaceAll(name, "_", "-"), version)
	if needs != "" {
		metadata += "Requires-Dist: " + needs + "\n"
	}
	z := zip.NewWriter(f)
	for _, file := range [][2]string{
		{name + ".py", "version = '" + version + "'\n"},
		{info + "METADATA", metadata},
		{info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
		{info + "RECORD", name + ".py,,\n" + info + "METADATA,,\n" + info + "WHEEL,,\n" + info + "RECORD,,\n"},
	} {
		w, err := z.Create(file[0])
		if err == nil {
			_, err = w.Write([]byte(file[1]))
		}
		if err != nil {
			return err
		}
	}
	return z.Close()
}

// installed reads the stream of an installation to its end, and returns that and
// what the installer said.
func installed(t *testing.T, events iter.Seq2[client.InstallEvent, error]) (api.InstallEnd, string) {
	t.Helper()
	var said strings.Builder
	var last client.InstallEvent
	for e, err := range events {
		if err != nil {
			t.Fatal(err)
		}
		if e.Seq != last.Seq+1 || e.Time.IsZero() {
			t.Errorf("%+v after %d", e, last.Seq)
		}
		said.WriteString(e.Text)
		last = e
	}
	return last.InstallEnd, said.String()
}

func post(t *testing.T, names ...string) (api.InstallEnd, string) {
	t.Helper()
	return installed(t, c.InstallPackages(t.Context(), api.PackagesRequest{Packages: names}))
}

// submit queues an installation of one package.
func submit(t *testing.T, name string) api.Install {
	t.Helper()
	return must[api.Install](t)(c.SubmitInstall(t.Context(), api.PackagesRequest{Packages: []string{name}}))
}

func has(t *testing.T, name string) string {
	t.Helper()
	for _, d := range must[[]packages.Distribution](t)(c.Packages(t.Context())) {
		if d.Name == name {
			return d.Version
		}
	}
	return ""
}

func TestInstallInRunningKernels(t *testing.T) {
	if has(t, "ipykernel") == "" || has(t, "k2-one") != "" {
		t.Fatal("the list is wrong before anything was installed")
	}
	count := quick(t, "1")[0].ExecutionCount
	end, said := post(t, "k2-one==1.0")
	if end.Status != executor.OK || fmt.Sprint(end.Installed) != "[{k2-one 1.0 }]" || len(end.NeedsReset) > 0 || len(end.Unchecked) > 0 {
		t.Fatalf("got %+v\n%s", end, said)
	}
	if next := quick(t, "import k2_one; assert k2_one.version == '1.0'")[0].ExecutionCount; *next != *count+1 {
		t.Errorf("the kernel counts %d after %d", *next, *count)
	}
	end, _ = post(t, "K2.One >= 1")
	if fmt.Sprint(end.Unchanged) != "[{k2-one 1.0 }]" || len(end.Installed) > 0 {
		t.Errorf("got %+v", end)
	}
	end, said = post(t, "k2-one==2.0")
	if fmt.Sprint(end.Changed) != "[{k2-one 1.0 2.0}]" || !slices.Equal(end.NeedsReset, []string{"k2_one"}) || !slices.Equal(end.Contexts, []string{"default"}) {
		t.Errorf("got %+v\n%s", end, said)
	}
	must[api.Context](t)(c.Reset(t.Context()))
	quick(t, "import k2_one; assert k2_one.version == '2.0'")
	quick(t, "import subprocess, sys; subprocess.run(['python', '-c', 'import k2_one'], check=True)")
	if has(t, "k2-one") != "2.0" {
		t.Error("the list has not the newest")
	}
	for e, err := range c.Timeline(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Type == api.PackagesChanged && slices.Equal(e.Packages, []string{"k2-one"}) {
			break // or the test ends without
		}
	}
}

func TestFailedInstallIsNeverOK(t *testing.T) {
	for names, word := range map[string]string{"k2-no-such": "k2-no-such", "k2-two": "k2-nowhere"} {
		end, said := post(t, names)
		if end.Status != executor.Failed || end.Error == nil || !strings.Contains(end.Error.Message, word) || !strings.Contains(said, word) {
			t.Errorf("got %+v\n%s", end, said)
		}
	}
	end, _ := post(t, "k2-three") // which needs what is denied
	if end.Status != executor.Failed || end.Error.Code != api.Forbidden || end.Error.Details["package"] != "k2-denied" || has(t, "k2-three") != "" {
		t.Errorf("got %+v", end)
	}
	e := refused(t, call(t, "POST", "/v1/packages", api.PackagesRequest{Packages: []string{"cowsay", "K2_denied>=1"}}), 403, api.Forbidden)
	if e.Details["package"] != "K2_denied" || e.Details["field"] != "packages[1]" {
		t.Errorf("got %+v", e)
	}
}

func TestInstallRefusesWhatIsNoPackage(t *testing.T) {
	for _, name := range []string{
		"", "--index-url=https://localhost/", "-rlist.txt", "./x", "/x.whl", "https://localhost/x.whl", "x @ https://localhost/x.whl",
		"x --pre", "x\n--pre", "x==", "x==1;home=='y'",
	} {
		e := refused(t, call(t, "POST", "/v1/packages", api.PackagesRequest{Packages: []string{"cowsay", name}}), 400, api.InvalidRequest)
		if e.Details["field"] != "packages[1]" {
			t.Errorf("%q: %+v", name, e)
		}
	}
	for body, field := range map[string]string{
		`{}`: "packages", `{"packages":[]}`: "packages", `{"packages":"x"}`: "packages", `{"packages":["x"],"timeout":-1}`: "timeout",
		`{"packages":["x"],"index":"y"}`: "index",
	} {
		if e := refused(t, call(t, "POST", "/v1/packages", body), 400, api.InvalidRequest); e.Details["field"] != field {
			t.Errorf("%s: %+v", body, e)
		}
	}
}

func TestInstallGoesOnWithoutItsClient(t *testing.T) {
	resp := call(t, "POST", "/v1/packages", api.PackagesRequest{Packages: []string{"cowsay"}, Detach: true})
	i := get[api.Install](t, resp, http.StatusAccepted)
	where, err := resp.Location()
	if err != nil || resp.Header.Get("X-Install-Id") != i.InstallID {
		t.Fatal(err, resp.Header)
	}
	if where.Path != "/v1/packages/installs/"+i.InstallID {
		t.Errorf("Location %s", where)
	}
	end, _ := installed(t, c.InstallEvents(t.Context(), i.InstallID, 0))
	if end.Status != executor.OK {
		t.Errorf("got %+v", end)
	}
	if i := must[api.Install](t)(c.Install(t.Context(), i.InstallID)); i.State != executor.Done || i.Status != executor.OK {
		t.Errorf("got %+v", i)
	}
	_, err = c.InterruptInstall(t.Context(), i.InstallID)
	refuses(t, err, 409, api.Conflict)
	_, err = c.Install(t.Context(), "in_none")
	refuses(t, err, 404, api.NotFound)
}

// An installation that takes too long, or is interrupted, ends with all that it
// started, and changes nothing; the next has its turn then.
func TestInstallCanBeEnded(t *testing.T) {
	end, _ := installed(t, c.InstallPackages(t.Context(), api.PackagesRequest{Packages: []string{"k2-slow"}, Timeout: 0.5}))
	if end.Status != executor.TimedOut || end.Error == nil || len(end.Installed) > 0 {
		t.Errorf("got %+v", end)
	}
	first, second := submit(t, "k2-slow"), submit(t, "k2-slow")
	for _, i := range []api.Install{second, first} {
		must[api.Install](t)(c.InterruptInstall(t.Context(), i.InstallID))
		if end, _ := installed(t, c.InstallEvents(t.Context(), i.InstallID, 0)); end.Status != executor.Interrupted {
			t.Errorf("got %+v", end)
		}
	}
	if has(t, "k2-slow") != "" {
		t.Error("it is installed")
	}
	if end, said := post(t, "cowsay"); end.Status != executor.OK {
		t.Errorf("the next: %+v\n%s", end, said)
	}
}

// A kernel that is busy is not waited for, and told of.
func TestInstallDoesNotWaitForABusyKernel(t *testing.T) {
	s := runs(t, api.RunRequest{Code: "import time; time.sleep(600)"})
	s.until(t, executor.Start)
	end, _ := post(t, "k2-one==1.0")
	if end.Status != executor.OK || !slices.Equal(end.Unchecked, []string{"default"}) {
		t.Errorf("got %+v", end)
	}
	must[executor.Summary](t)(c.InterruptExecution(t.Context(), s.id))
	s.end(t, executor.Interrupted)
	quick(t, "2")
}

// exampleInstall makes the installation that an operation's example is about.
func exampleInstall(t *testing.T, operationID string) string {
	t.Helper()
	if !strings.HasSuffix(operationID, "Install") {
		return ""
	}
	name := "cowsay"
	if operationID == "interruptInstall" {
		name = "k2-slow"
	}
	i := submit(t, name)
	if operationID == "followInstall" {
		installed(t, c.InstallEvents(t.Context(), i.InstallID, 0))
	}
	return i.InstallID
}
