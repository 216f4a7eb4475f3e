package packages

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/process"
)

// Environment is a virtual environment of one sandbox, over the one that it was made
// from: what is installed goes into the upper one and is found there first; all
// else is found in the lower one, which is never written to. Its methods are safe
// for concurrent use, but for Install.
type Environment struct {
	o       Options
	dir     string
	lower   lower
	environ []string
	on      *process.Thread
	guard   *process.Guard
	stage   *stage // that the last installation has left; nil: none, or it failed

	scripts    sync.WaitGroup // until they are copied
	scriptless error          // why they are not; written before
}

// lower is the environment that others share.
type lower struct {
	Interpreter string   // as it was given
	Executable  string   // of the installation that a virtual environment was made from
	Version     string   // as in 3.12
	Sites       []string // folders of distributions, those that are searched first before the others
}

// New makes an environment in a folder of its own in parent, over that of the
// interpreter. environ, "NAME=value", is what installers see: it has to be without
// secrets, as a package can bring code that is run to install it. Programs are started
// on the thread, which may be nil.
func New(ctx context.Context, interpreter, parent string, environ []string, o Options, on *process.Thread) (*Environment, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	e := &Environment{o: o, environ: environ, on: on}
	var err error
	if e.lower, err = examine(ctx, interpreter, environ, on); err != nil {
		return nil, fmt.Errorf("cannot examine %s: %w", interpreter, err)
	}
	e.lower.Sites = slices.Concat(o.Sites, e.lower.Sites)
	if e.guard, e.dir, err = process.NewGuardedDir(parent, "k2-env-"); err != nil {
		return nil, fmt.Errorf("cannot make environment: %w", err)
	}
	if err := e.furnish(); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot make environment: %w", err), e.Close())
	}
	e.scripts.Go(func() { e.scriptless = e.copyScripts() })
	return e, nil
}

// Wait returns when the scripts of the lower environment are in the upper one, too, which takes a few milliseconds after New
// in which a kernel can start. Nothing is to run before.
func (e *Environment) Wait() error {
	e.scripts.Wait()
	return e.scriptless
}

// Close ends what installations may have left running, and removes the environment.
func (e *Environment) Close() error {
	e.scripts.Wait()
	return e.guard.Close()
}

// mend makes the environment anew where code in the sandbox has removed it, as by
// clearing the folder of temporary files.
func (e *Environment) mend() error {
	if _, err := os.Stat(e.Python()); err == nil {
		return nil
	}
	e.stage = nil
	if err := errors.Join(os.RemoveAll(e.dir), os.Mkdir(e.dir, 0o700)); err != nil {
		return err
	}
	return errors.Join(e.furnish(), e.copyScripts())
}

// Python returns the environment's interpreter.
func (e *Environment) Python() string { return filepath.Join(e.bin(), "python") }

// Lower returns the interpreter that the environment lies over.
func (e *Environment) Lower() string { return e.lower.Interpreter }

// List returns the installed distributions, by name.
func (e *Environment) List() []Distribution { return scan(e.sites()) }

func (e *Environment) bin() string { return filepath.Join(e.dir, "bin") }

// site returns the folder of distributions of an environment in dir.
func (e *Environment) site(dir string) string {
	return filepath.Join(dir, "lib", "python"+e.lower.Version, "site-packages")
}

// sites returns all folders of distributions, in the order of sys.path.
func (e *Environment) sites() []string {
	var sites []string
	for dir := range strings.SplitSeq(process.Variable(e.environ, "PYTHONPATH"), ":") {
		if filepath.IsAbs(dir) {
			sites = append(sites, dir)
		}
	}
	for _, dir := range append([]string{e.site(e.dir)}, e.lower.Sites...) {
		sites = append(append(sites, dir), pathsOf(dir)...)
	}
	return sites
}

// pathsOf returns the folders that the .pth files in a folder add to sys.path.
func pathsOf(site string) []string {
	files, _ := filepath.Glob(filepath.Join(site, "*.pth"))
	var paths []string
	for _, file := range files {
		text, _ := readFile(file, 1<<20) // one that cannot be read adds nothing
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			if line == "" || line[0] == '#' || strings.HasPrefix(line, "import ") {
				continue
			}
			if !filepath.IsAbs(line) {
				line = filepath.Join(site, line)
			}
			if stat, err := os.Stat(line); err == nil && stat.IsDir() {
				paths = append(paths, line)
			}
		}
	}
	return paths
}

// furnish makes what a virtual environment consists of. Its one .pth file puts the
// lower environment behind it.
func (e *Environment) furnish() error {
	home := filepath.Dir(e.lower.Executable)
	config := "home = " + home + "\ninclude-system-site-packages = false\nversion = " + e.lower.Version + "\n"
	var chain strings.Builder
	for _, dir := range e.lower.Sites {
		quoted, _ := json.Marshal(dir) // as Python would quote it
		fmt.Fprintf(&chain, "import site; site.addsitedir(%s)\n", quoted)
	}
	return errors.Join(
		os.MkdirAll(e.site(e.dir), 0o755),
		os.MkdirAll(e.bin(), 0o755),
		os.WriteFile(filepath.Join(e.dir, "pyvenv.cfg"), []byte(config), 0o644),
		os.WriteFile(filepath.Join(e.site(e.dir), "_k2_lower.pth"), []byte(chain.String()), 0o644),
		os.Symlink(e.lower.Executable, e.Python()),
		os.Symlink("python", filepath.Join(e.bin(), "python3")),
		os.Symlink("python", filepath.Join(e.bin(), "python"+e.lower.Version)),
	)
}

// largestScript is how large, in bytes, a file in a bin folder may be to be taken for
// a script.
const largestScript = 64 << 10

// copyScripts makes the lower environment's own scripts, pip among them, run in
// this one: their first line names an interpreter.
func (e *Environment) copyScripts() error {
	from := filepath.Dir(e.lower.Interpreter)
	entries, err := os.ReadDir(from)
	if err != nil || !isVirtual(from) { // in a system's folder there are thousands, few of which are about Python
		return e.pipScripts()
	}
	for _, entry := range entries {
		if stat, err := entry.Info(); err != nil || !stat.Mode().IsRegular() || stat.Size() > largestScript {
			continue
		}
		script, err := os.ReadFile(filepath.Join(from, entry.Name()))
		first, rest, _ := bytes.Cut(script, []byte("\n"))
		if err != nil || !bytes.HasPrefix(first, []byte("#!"+from+"/python")) {
			continue
		}
		text := append([]byte("#!"+e.Python()+"\n"), rest...)
		if err := os.WriteFile(filepath.Join(e.bin(), entry.Name()), text, 0o755); err != nil {
			return err
		}
	}
	return nil
}

func (e *Environment) pipScripts() error {
	if !e.hasPip() {
		return nil
	}
	text := []byte("#!/bin/sh\nexec '" + e.Python() + "' -m pip \"$@\"\n")
	return errors.Join(
		os.WriteFile(filepath.Join(e.bin(), "pip"), text, 0o755),
		os.WriteFile(filepath.Join(e.bin(), "pip3"), text, 0o755))
}

func (e *Environment) hasPip() bool {
	return slices.ContainsFunc(e.sites(), func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, "pip", "__main__.py"))
		return err == nil
	})
}

// isVirtual reports whether a bin folder is a virtual environment's.
func isVirtual(bin string) bool {
	_, err := os.Stat(filepath.Join(filepath.Dir(bin), "pyvenv.cfg"))
	return err == nil
}

// examine finds out what there is to know of an interpreter: from the files of a
// virtual environment, or else by asking it, which takes as long as Python's start.
func examine(ctx context.Context, interpreter string, environ []string, on *process.Thread) (lower, error) {
	if l, ok := examineVirtual(interpreter); ok {
		return l, nil
	}
	const question = `
import json, os, site, sys
sites = site.getsitepackages()
if site.ENABLE_USER_SITE:
    sites.insert(0, site.getusersitepackages())
print(json.dumps({
    "executable": getattr(sys, "_base_executable", None) or sys.executable,
    "version": "%d.%d" % sys.version_info[:2],
    "sites": [s for s in sites if os.path.isdir(s)],
}))
`
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	out, words := process.NewTail(1<<20), &tail{}
	p, err := process.Start(process.Command{
		Args: []string{interpreter, "-c", question}, Dir: "/", Env: without(environ, "PYTHONPATH"), Stdout: out, Stderr: words, KillGroup: true, On: on,
	})
	if err != nil {
		return lower{}, err
	}
	defer p.Close()
	select {
	case <-p.Done():
	case <-ctx.Done():
		return lower{}, ctx.Err()
	}
	if exit := p.Exit(); exit != (process.Exit{}) {
		p.Close() // who writes its words has ended then
		return lower{}, &Failed{interpreter, exit, strings.TrimSpace(words.String())}
	}
	l := lower{Interpreter: interpreter}
	if err := json.Unmarshal([]byte(out.String()), &l); err != nil {
		return lower{}, fmt.Errorf("it does not answer as Python would: %w", err)
	}
	return l, nil
}

// examineVirtual reads what a virtual environment, without its system's
// packages, says of itself.
func examineVirtual(interpreter string) (lower, bool) {
	prefix := filepath.Dir(filepath.Dir(interpreter))
	config, err := os.ReadFile(filepath.Join(prefix, "pyvenv.cfg"))
	sites, _ := filepath.Glob(filepath.Join(prefix, "lib", "python3.*", "site-packages"))
	if err != nil || len(sites) != 1 {
		return lower{}, false
	}
	settings := map[string]string{}
	for line := range strings.Lines(string(config)) {
		key, value, _ := strings.Cut(line, "=")
		settings[strings.ToLower(strings.TrimSpace(key))] = strings.TrimSpace(value)
	}
	version := strings.TrimPrefix(filepath.Base(filepath.Dir(sites[0])), "python")
	executable := filepath.Join(settings["home"], "python"+version)
	if _, err := os.Stat(executable); err != nil || settings["include-system-site-packages"] != "false" {
		return lower{}, false
	}
	return lower{Interpreter: interpreter, Executable: executable, Version: version, Sites: sites}, true
}

// without returns the environment without the variables.
func without(environ []string, names ...string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains(names, name)
	})
}
