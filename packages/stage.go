package packages

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// stage is a folder, laid out like the environment, that uv installs into. At first it
// has a shadow of every distribution: metadata without files, so that uv sees what
// is there, and replaces nothing but shadows. What was installed is then moved in
// one go: whatever happens to an installer, no half of its work is in the environment.
type stage struct {
	e       *Environment
	dir     string
	shadows map[string]Distribution // by the name of their folder
}

// shadowMark is a file that only shadows have.
const shadowMark = "K2_SHADOW"

func (e *Environment) newStage(before []Distribution) (*stage, error) {
	dir, err := os.MkdirTemp(e.dir, "stage-")
	if err != nil {
		return nil, err
	}
	s := &stage{e, dir, map[string]Distribution{}}
	if err := os.MkdirAll(e.site(dir), 0o755); err != nil {
		return nil, err
	}
	for _, d := range before {
		if ParseName(d.Name) != nil || !version.MatchString(d.Version) {
			continue // uv would stumble over it
		}
		if err := s.shadow(d); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", d.Name, err), s.remove())
		}
	}
	return s, nil
}

func (s *stage) remove() error { return os.RemoveAll(s.dir) }

func (s *stage) shadow(d Distribution) error {
	metadata := filepath.Join(d.info, "METADATA")
	if strings.HasSuffix(d.info, ".egg-info") {
		metadata = d.info
		if stat, err := os.Stat(d.info); err == nil && stat.IsDir() {
			metadata = filepath.Join(d.info, "PKG-INFO")
		}
	}
	base := strings.ReplaceAll(Normalize(d.Name), "-", "_") + "-" + d.Version + ".dist-info"
	s.shadows[base] = d
	info := filepath.Join(s.e.site(s.dir), base)
	record := ""
	for _, file := range []string{"METADATA", shadowMark, "RECORD"} {
		record += base + "/" + file + ",,\n"
	}
	return errors.Join(
		os.Mkdir(info, 0o755),
		os.Symlink(metadata, filepath.Join(info, "METADATA")),
		os.WriteFile(filepath.Join(info, shadowMark), nil, 0o644),
		os.WriteFile(filepath.Join(info, "RECORD"), []byte(record), 0o644))
}

// settle takes the shadows away again and returns those that were replaced.
func (s *stage) settle() ([]Distribution, error) {
	var replaced []Distribution
	for base, d := range s.shadows {
		info := filepath.Join(s.e.site(s.dir), base)
		if _, err := os.Lstat(filepath.Join(info, shadowMark)); err != nil {
			replaced = append(replaced, d)
			continue
		}
		if err := os.RemoveAll(info); err != nil {
			return nil, err
		}
	}
	return replaced, nil
}

// land moves what was installed into the environment, in place of the distributions
// that it replaces.
func (s *stage) land(replaced []Distribution) error {
	for _, d := range replaced {
		if s.e.owns(d) {
			if err := s.e.uninstall(d); err != nil {
				return err
			}
		}
	}
	return move(s.dir, s.e.dir)
}

// uninstall removes the files of a distribution of the upper environment, and with
// them bytecode that might be taken for that of the files that come.
func (e *Environment) uninstall(d Distribution) error {
	root, err := os.OpenRoot(e.dir) // a record may name any file
	if err != nil {
		return err
	}
	defer root.Close()
	site, _ := filepath.Rel(e.dir, filepath.Dir(d.info))
	folders := map[string]bool{path.Join(site, filepath.Base(d.info)): true}
	for _, file := range d.files() {
		file = path.Join(site, file)
		_ = root.Remove(file) // what is left is overwritten
		for dir := path.Dir(file); strings.HasPrefix(dir, site+"/"); dir = path.Dir(dir) {
			folders[dir] = true
		}
		folders[path.Dir(file)] = true
	}
	deepest := slices.SortedFunc(maps.Keys(folders), func(a, b string) int { return len(b) - len(a) })
	for _, dir := range deepest {
		_ = root.RemoveAll(path.Join(dir, "__pycache__"))
		_ = root.Remove(dir) // where nothing else is in it
	}
	return root.RemoveAll(path.Join(site, filepath.Base(d.info)))
}

// move moves what is in one folder into another, and merges folders that are in both.
func move(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		source, target := filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())
		there, err := os.Lstat(target)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case entry.IsDir() && there.IsDir():
			if err := move(source, target); err != nil {
				return err
			}
			continue
		case entry.IsDir() || there.IsDir():
			if err := os.RemoveAll(target); err != nil {
				return err
			}
		}
		if err := os.Rename(source, target); err != nil {
			return err
		}
	}
	return nil
}
