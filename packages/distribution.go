package packages

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/k2sandbox/k2sandbox/internal/lazy"
)

// Distribution is an installed distribution package.
type Distribution struct {
	Name    string `json:"name"`
	Version string `json:"version"`

	info string // its .dist-info or .egg-info
}

// Changed is a distribution whose version is another one now.
type Changed struct {
	Name string `json:"name"`
	From string `json:"from"`
	To   string `json:"to"`
}

// Change is what an installation made of an environment.
type Change struct {
	Installed []Distribution
	Changed   []Changed
	Removed   []Distribution

	Modules []string // top-level modules of what was there before and is not any more
}

// scan returns the distributions in the folders, by name; the first folder that has
// a name wins, as it does for import.
func scan(folders []string) []Distribution {
	var all []Distribution
	seen := map[string]bool{}
	for _, folder := range folders {
		entries, _ := os.ReadDir(folder) // one that is gone has nothing
		for _, entry := range entries {
			d, ok := readDistribution(filepath.Join(folder, entry.Name()))
			if ok && !seen[Normalize(d.Name)] {
				seen[Normalize(d.Name)] = true
				all = append(all, d)
			}
		}
	}
	slices.SortFunc(all, func(a, b Distribution) int { return cmp.Compare(Normalize(a.Name), Normalize(b.Name)) })
	return all
}

// metadata returns the file with the distribution's metadata.
func (d Distribution) metadata() string {
	if filepath.Ext(d.info) == ".dist-info" {
		return filepath.Join(d.info, "METADATA")
	}
	if stat, err := os.Stat(d.info); err == nil && stat.IsDir() {
		return filepath.Join(d.info, "PKG-INFO")
	}
	return d.info
}

// readDistribution reads the metadata of a .dist-info folder, or of an .egg-info
// folder or file.
func readDistribution(info string) (d Distribution, ok bool) {
	if ext := filepath.Ext(info); ext != ".dist-info" && ext != ".egg-info" {
		return d, false
	}
	d.info = info
	text, err := readFile(d.metadata(), 1<<20)
	if err != nil {
		return d, false
	}
	for line := range strings.Lines(string(text)) {
		header, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if header == "" || d.Name != "" && d.Version != "" {
			break
		}
		switch strings.ToLower(header) {
		case "name":
			d.Name = strings.TrimSpace(value)
		case "version":
			d.Version = strings.TrimSpace(value)
		}
	}
	return d, d.Name != ""
}

// compare tells what became of an environment.
func compare(before, after []Distribution) Change {
	change := Change{Installed: []Distribution{}, Changed: []Changed{}, Removed: []Distribution{}}
	old := map[string]Distribution{}
	for _, d := range before {
		old[Normalize(d.Name)] = d
	}
	for _, d := range after {
		was, ok := old[Normalize(d.Name)]
		delete(old, Normalize(d.Name))
		switch {
		case !ok:
			change.Installed = append(change.Installed, d)
		case was.Version != d.Version:
			change.Changed = append(change.Changed, Changed{d.Name, was.Version, d.Version})
		}
	}
	for _, d := range before {
		if _, gone := old[Normalize(d.Name)]; gone {
			change.Removed = append(change.Removed, d)
		}
	}
	return change
}

// files returns what the distribution installed, as paths relative to the folder
// that it is in. The list may be anybody's: paths can lead anywhere.
func (d Distribution) files() []string {
	text, err := readFile(filepath.Join(d.info, "RECORD"), 64<<20)
	if err != nil {
		return nil
	}
	record := csv.NewReader(bytes.NewReader(text))
	record.FieldsPerRecord = -1
	record.LazyQuotes = true
	var files []string
	for {
		row, err := record.Read()
		if err != nil {
			return files
		}
		files = append(files, path.Clean(row[0]))
	}
}

var identifier = lazy.Regexp(`^[A-Za-z_][A-Za-z0-9_]*$`)

// modules returns the modules that the distribution brings: packages and single
// files at the top, and below namespace packages.
func (d Distribution) modules() []string {
	packages, modules := map[string]bool{}, map[string]bool{}
	files := d.files()
	for _, file := range files {
		if dir, base := path.Split(file); strings.HasPrefix(base, "__init__.") {
			packages[strings.TrimSuffix(dir, "/")] = true
		}
	}
	for _, file := range files {
		ext := path.Ext(file)
		if ext != ".py" && ext != ".so" && ext != ".pyd" {
			continue
		}
		module, _, _ := strings.Cut(file, ".")
		parts := strings.Split(module, "/")
		for i := range parts {
			if packages[strings.Join(parts[:i+1], "/")] {
				parts = parts[:i+1]
				break
			}
		}
		if !slices.ContainsFunc(parts, func(s string) bool { return !identifier().MatchString(s) }) {
			modules[strings.Join(parts, ".")] = true
		}
	}
	var all []string
	for module := range modules {
		all = append(all, module)
	}
	slices.Sort(all)
	return all
}

// readFile reads a file that code in the sandbox may have put there: up to a limit, and
// only one that can be read without waiting.
func readFile(name string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if stat, err := f.Stat(); err != nil || !stat.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s is no regular file", name))
	}
	return io.ReadAll(io.LimitReader(f, limit))
}
