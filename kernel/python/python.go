// Package python holds what k2sandbox brings to Python: the launcher that starts
// an IPython kernel, and the managed environment that it runs in where the user
// names no interpreter.
package python

import (
	"context"
	"crypto/sha256"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Launcher is a program, launcher.py and the files that it loads when it needs them,
// that starts ipykernel 6.17 or later for a supervisor:
//
//	python launcher.py -f CONNECTION_FILE [traitlets arguments]
//
// Its kernel loses no output when iopub is read slowly, honours the run options of
// an execute_request (wire.RunOptions), tells of its variables (wire.Variables), and
// describes tables and charts in JSON.
//
//go:embed launcher.py outlet.py stream.py channel.py session.py cells.py plain.py formatters.py run_options.py signals.py forks.py table.py chart.py variables.py e2b.py images.py
var Launcher embed.FS

// zygote is what the launcher's kernels are forked by.
//
//go:embed zygote.py confine.py fresh.py ready.py
var zygote embed.FS

// ZygoteProgram is what Python runs (-c) to be a zygote, whose protocol zygote.py tells. Descriptor 3 is
// its socket, and descriptor 4 holds ZygoteFiles as JSON.
const ZygoteProgram = `import json; files = json.load(open(4)); exec(files.pop("zygote.py"))`

// InsideProgram is what a zygote runs that is in its sandbox from the start, and of that one alone.
const InsideProgram = "inside = True; " + ZygoteProgram

// ZygoteFiles returns the texts of a zygote's files, by name.
func ZygoteFiles() map[string]string {
	files := map[string]string{}
	for _, dir := range []embed.FS{Launcher, zygote} {
		entries, _ := dir.ReadDir(".")
		for _, e := range entries {
			text, _ := dir.ReadFile(e.Name())
			files[e.Name()] = string(text)
		}
	}
	return files
}

// The packages of the managed environments, pinned by version and hash.
var (
	//go:embed requirements.txt
	requirements string
	//go:embed lab.txt
	labRequirements string
)

// set is what an environment holds.
type set struct {
	folder       string // below the data directory
	requirements string
	try          string // a program that proves that it works
}

var (
	forCode = set{"python", requirements, firstUse}
	forLab  = set{"lab", labRequirements, "import jupyterlab.labapp, jupyter_server_terminals"}
)

// Options of Ensure. The zero value takes the first suitable Python on PATH and reports nothing.
type Options struct {
	Python string         // the base interpreter, a name on PATH or a path; empty: see Find
	Lab    bool           // the environment of JupyterLab, in place of the one that code runs in
	Report func(Progress) // called from the goroutine of Ensure or of its installer, never concurrently
}

// Progress says what Ensure is doing. Done and Total count packages; Total is 0 while it is unknown.
type Progress struct {
	Step        string
	Done, Total int64
}

// Ensure returns the interpreter of the managed environment under dataDir, which it makes first
// if it is not there. That takes seconds to minutes and needs the package index.
//
// An environment is for one set of requirements and one Python ABI, and is used only when complete:
// Ensure may be called by many processes at once, and be killed at any point. One of them builds,
// the others wait for it. Cancelling ctx ends what Ensure started. The error says what is missing.
func Ensure(ctx context.Context, dataDir string, o Options) (interpreter string, err error) {
	dataDir, err = filepath.Abs(dataDir)
	if err != nil {
		return "", fmt.Errorf("cannot find the data directory: %w", err)
	}
	holds := forCode
	if o.Lab {
		holds = forLab
	}
	if o.Python == "" {
		if interpreter, ok := holds.lookup(dataDir); ok {
			return interpreter, nil
		}
	}
	base, err := Find(ctx, o.Python)
	if err != nil {
		return "", err
	}
	env := environment{holds, filepath.Join(dataDir, holds.folder, holds.hash()+"-"+base.abi)}
	if env.complete() {
		return env.interpreter(), nil
	}
	if o.Report == nil {
		o.Report = func(Progress) {}
	}
	if err := env.make(ctx, base, o.Report); err != nil {
		return "", fmt.Errorf("cannot make the Python environment %s: %w", env.dir, err)
	}
	return env.interpreter(), nil
}

// Lookup returns the interpreter of a complete managed environment under dataDir, that code runs in, if there is one.
// It starts no process.
func Lookup(dataDir string) (interpreter string, ok bool) { return forCode.lookup(dataDir) }

func (s set) lookup(dataDir string) (interpreter string, ok bool) {
	dirs, _ := filepath.Glob(filepath.Join(dataDir, s.folder, s.hash()+"-*"))
	for i := len(dirs) - 1; i >= 0; i-- {
		if env := (environment{s, dirs[i]}); env.complete() {
			return env.interpreter(), true
		}
	}
	return "", false
}

func (s set) hash() string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s.requirements)))[:12] }

// environment is a virtual environment. Its scripts name its directory, so it is built where it
// will be used, and complete once it holds the marker that is written last.
type environment struct {
	set
	dir string
}

func (e environment) interpreter() string { return filepath.Join(e.dir, "bin", "python") }
func (e environment) marker() string      { return filepath.Join(e.dir, "k2sandbox-complete") }

// complete also notices that the Python which the environment was made from has gone.
func (e environment) complete() bool {
	for _, path := range []string{e.marker(), e.interpreter()} {
		if _, err := os.Stat(path); err != nil {
			return false
		}
	}
	return true
}

func (e environment) make(ctx context.Context, base Base, report func(Progress)) error {
	if err := os.MkdirAll(filepath.Dir(e.dir), 0o755); err != nil {
		return err
	}
	lock, err := lockFile(ctx, e.dir+".lock", func() {
		report(Progress{Step: "Waiting for another process that makes the Python environment"})
	})
	if err != nil {
		return err
	}
	defer lock.Close()
	if e.complete() {
		return nil
	}
	if err := os.RemoveAll(e.dir); err != nil { // half made, by a process that was killed
		return err
	}
	if err := (&installer{environment: e, lock: lock, report: report}).install(ctx, base); err != nil {
		os.RemoveAll(e.dir)
		return err
	}
	if err := Share(e.dir); err != nil {
		return err
	}
	return os.WriteFile(e.marker(), []byte(base.Version+"\n"), 0o644)
}

// Share lets all users read what is in a directory, and execute what its owner may, whatever the umask was that
// it was made under: code in sandboxes runs as other users.
func Share(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type() == fs.ModeSymlink {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		owner := info.Mode() & 0o500
		if mode := info.Mode() | owner>>3 | owner>>6; mode != info.Mode() {
			return os.Chmod(path, mode)
		}
		return nil
	})
}
