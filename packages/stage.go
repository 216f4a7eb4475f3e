package packages

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// stage is a folder, laid out like the environment, that uv installs into. In it each
// distribution has a shadow: metadata without files, so that uv sees what is there, and
// replaces nothing but shadows. What was installed is then moved in one go: whatever
// happens to an installer, no half of its work is in the environment. A stage is used
// again, as to make all shadows takes longer than uv does.
type stage struct {
	e       *Environment
	dir     string
	shadows map[string]Distribution // by the name of their folder
}

// prepare returns the stage, with a shadow for each distribution.
func (e *Environment) prepare(before []Distribution) (*stage, error) {
	s := e.stage
	if s == nil {
		s = &stage{e, filepath.Join(e.dir, "stage"), map[string]Distribution{}}
		if err := errors.Join(s.remove(), os.MkdirAll(e.site(s.dir), 0o755)); err != nil {
			return nil, err
		}
	}
	e.stage = nil // until all went well
	wanted := map[string]Distribution{}
	for _, d := range before {
		if ParseName(d.Name) == nil && version().MatchString(d.Version) { // uv would stumble over others
			wanted[strings.ReplaceAll(Normalize(d.Name), "-", "_")+"-"+d.Version+".dist-info"] = d
		}
	}
	for base, d := range s.shadows {
		if wanted[base].info != d.info {
			delete(s.shadows, base)
			if err := os.RemoveAll(filepath.Join(e.site(s.dir), base)); err != nil {
				return nil, err
			}
		}
	}
	for base, d := range wanted {
		if _, ok := s.shadows[base]; ok {
			continue
		}
		if err := s.shadow(base, d); err != nil {
			return nil, fmt.Errorf("%s: %w", d.Name, err)
		}
	}
	return s, nil
}

func (s *stage) remove() error { return os.RemoveAll(s.dir) }

// shadow makes a shadow. Its metadata is a link, which is how it is known for one.
func (s *stage) shadow(base string, d Distribution) error {
	s.shadows[base] = d
	info := filepath.Join(s.e.site(s.dir), base)
	record := base + "/METADATA,,\n" + base + "/RECORD,,\n"
	return errors.Join(
		os.Mkdir(info, 0o755),
		os.Symlink(d.metadata(), filepath.Join(info, "METADATA")),
		os.WriteFile(filepath.Join(info, "RECORD"), []byte(record), 0o644))
}

// replaced returns the distributions whose shadows were replaced.
func (s *stage) replaced() []Distribution {
	var replaced []Distribution
	for base, d := range s.shadows {
		stat, err := os.Lstat(filepath.Join(s.e.site(s.dir), base, "METADATA"))
		if err != nil || stat.Mode()&fs.ModeSymlink == 0 {
			replaced = append(replaced, d)
			delete(s.shadows, base)
		}
	}
	return replaced
}

// new returns the distributions that were installed.
func (s *stage) new() []Distribution {
	return slices.DeleteFunc(scan([]string{s.e.site(s.dir)}), func(d Distribution) bool {
		_, shadow := s.shadows[filepath.Base(d.info)]
		return shadow
	})
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
	if err := s.adopt(); err != nil {
		return err
	}
	return s.move(s.dir, s.e.dir)
}

// adopt has the scripts that were installed run in the environment: they name the
// interpreter that uv was told of.
func (s *stage) adopt() error {
	theirs := regexp.MustCompile(regexp.QuoteMeta(filepath.Dir(s.e.lower.Interpreter)) + `/python[0-9.]*`)
	bin := filepath.Join(s.dir, "bin")
	entries, _ := os.ReadDir(bin) // there may be none
	for _, entry := range entries {
		file := filepath.Join(bin, entry.Name())
		if stat, err := entry.Info(); err != nil || !stat.Mode().IsRegular() || stat.Size() > largestScript {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if !bytes.HasPrefix(text, []byte("#!")) {
			continue
		}
		head := min(len(text), shebang)
		text = append(theirs.ReplaceAllLiteral(text[:head:head], []byte(s.e.Python())), text[head:]...)
		if err := os.WriteFile(file, text, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// shebang is how far into a script its interpreter is named: where the path is long it
// is in a line of shell.
const shebang = 1 << 10

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

// move moves what is in one folder into another, but for shadows, and merges folders
// that are in both.
func (s *stage) move(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if _, shadow := s.shadows[entry.Name()]; shadow {
			continue
		}
		source, target := filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())
		there, err := os.Lstat(target)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case entry.IsDir() && there.IsDir():
			if err := s.move(source, target); err != nil {
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
