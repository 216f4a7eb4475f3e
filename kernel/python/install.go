package python

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/k2sandbox/k2sandbox/internal/lazy"
)

// installer makes one environment, step by step.
type installer struct {
	environment
	lock   *os.File
	report func(Progress)
}

// firstUse proves that the environment works, and leaves behind the bytecode and the font cache that
// the first cells would otherwise wait for. To compile all of it would take ten times as long.
const firstUse = `
import io
import ipykernel.debugger, ipykernel.kernelapp, jedi, matplotlib_inline.backend_inline
import matplotlib
matplotlib.use("agg")
import matplotlib.pyplot, numpy, pandas, PIL.Image
pandas.DataFrame({"a": [1.5]})._repr_html_()
pandas.DataFrame({"a": [1.5]}).plot()
matplotlib.pyplot.savefig(io.BytesIO(), format="png")
`

func (i *installer) install(ctx context.Context, base Base) error {
	i.report(Progress{Step: "Making a virtual environment with Python " + base.Version})
	if err := i.run(ctx, nil, nil, base.Path, "-I", "-m", "venv", i.dir); err != nil {
		return fmt.Errorf("%s -m venv failed: %w", base.Path, err)
	}
	lock, uvOnly := filepath.Join(i.dir, "requirements.txt"), filepath.Join(i.dir, "requirements-uv.txt")
	if err := errors.Join(
		os.WriteFile(lock, []byte(i.requirements), 0o644),
		os.WriteFile(uvOnly, []byte(i.requirement("uv")), 0o644)); err != nil {
		return err
	}
	i.report(Progress{Step: "Installing uv"})
	if err := i.pip(ctx, nil, "--no-deps", "-r", uvOnly); err != nil {
		return fmt.Errorf("pip cannot install uv: %w", err)
	}
	if err := i.packages(ctx, lock); err != nil {
		return err
	}
	i.report(Progress{Step: "Trying the environment"})
	if err := i.run(ctx, nil, nil, i.interpreter(), "-I", "-c", i.try); err != nil {
		return fmt.Errorf("the packages are installed, but do not work: %w", err)
	}
	return nil
}

// packages installs all that lock names with uv, or with pip where uv cannot, as behind an index
// that only pip is configured for.
func (i *installer) packages(ctx context.Context, lock string) error {
	i.report(Progress{Step: "Installing packages"})
	// A cache of its own, on the same disk: files are linked, not copied, and no cache
	// that the user shares between projects is linked to what sandboxed code may write.
	cache := filepath.Join(i.dir, "uv-cache")
	defer os.RemoveAll(cache)
	uvErr := i.run(ctx, i.uvProgress(), i.pipSettings(ctx), filepath.Join(i.dir, "bin", "uv"), "pip", "install",
		"--python", i.interpreter(), "--cache-dir", cache, "--require-hashes", "-r", lock)
	if uvErr == nil || ctx.Err() != nil || errors.Is(uvErr, errDiskFull) {
		return uvErr
	}
	i.report(Progress{Step: "Installing packages with pip, as uv cannot"})
	if err := i.pip(ctx, i.pipProgress(), "-r", lock); err != nil {
		return fmt.Errorf("uv cannot install packages: %w\nnor can pip: %w", uvErr, err)
	}
	return nil
}

func (i *installer) pip(ctx context.Context, line func(string), args ...string) error {
	pip := []string{"-I", "-m", "pip", "install", "--disable-pip-version-check", "--no-input",
		"--no-cache-dir", "--progress-bar", "off", "--require-hashes"}
	return i.run(ctx, line, nil, i.interpreter(), append(pip, args...)...)
}

var uvLine = lazy.Regexp(`^\s*(Resolved|Downloading|Downloaded|Prepared|Installed) (\S+)`)

// uvProgress counts the packages that are there. uv names only the large ones as they come.
func (i *installer) uvProgress() func(string) {
	var total, coming int64
	return func(line string) {
		m := uvLine().FindStringSubmatch(line)
		if m == nil {
			return
		}
		switch m[1] {
		case "Resolved":
			total, _ = strconv.ParseInt(m[2], 10, 64)
		case "Downloading":
			coming++
			return
		case "Downloaded":
			coming--
		case "Prepared", "Installed":
			coming = 0
		}
		if m[1] != "Resolved" {
			i.report(Progress{Step: "Installing packages", Done: max(0, total-coming), Total: total})
		}
	}
}

func (i *installer) pipProgress() func(string) {
	var done int64
	return func(line string) {
		if strings.HasPrefix(line, "Collecting ") {
			done++
			i.report(Progress{Step: "Installing packages with pip", Done: done})
		}
	}
}

// requirement returns the entry of one package in the requirements, with its hashes.
func (s set) requirement(name string) string {
	_, entry, _ := strings.Cut("\n"+s.requirements, "\n"+name+"==")
	lines := strings.SplitAfter(name+"=="+entry, "\n")
	end := slices.IndexFunc(lines, func(line string) bool { return !strings.HasSuffix(line, "\\\n") })
	return strings.Join(lines[:end+1], "")
}

// run runs one program of the installation with env added to its environment, hands each line that it prints to line, and puts the
// last of them into the error. The program inherits the lock: should this process be killed,
// nobody else builds here until it too has ended.
func (i *installer) run(ctx context.Context, line func(string), env []string, name string, args ...string) error {
	words := &tail{line: line}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = filepath.Dir(i.dir)
	cmd.Env = append(environ(), env...)
	cmd.Stdout, cmd.Stderr = words, words
	cmd.ExtraFiles = []*os.File{i.lock}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return explain(err, words.String())
}

// environ is the environment without what would send packages elsewhere.
func environ() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		switch name {
		case "VIRTUAL_ENV", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_PYTHON", "UV_TARGET", "UV_PREFIX", "UV_SYSTEM_PYTHON":
			return true
		}
		return strings.HasPrefix(name, "PYTHON")
	})
	return append(env, "PIP_USER=0", "NO_COLOR=1", "UV_NO_PROGRESS=1", "PYTHONUTF8=1")
}
