package local

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/fleet"
)

// trees adds the file trees that the root is made of: those that only the server can map to the
// sandbox's ids as descriptors, else as paths.
func (m *machine) trees(s *setup, given kit) error {
	if m.record.Level != fleet.LevelNamespace {
		return nil
	}
	t := m.template()
	var root, all *os.File
	if os.Geteuid() == 0 {
		var err error
		if root, err = m.runtime.rootOf(m.users.uids[0].HostID); err != nil {
			return err
		}
		if len(t.layers) > 0 { // of which files belong to any user of the sandbox's, as the image says
			if all, err = os.Open(fmt.Sprintf("/proc/%d/ns/user", m.record.PID)); err != nil {
				return err
			}
			defer all.Close()
		}
	}
	ours, err := m.sources([]string{t.dir}, root, given)
	if err != nil {
		return err
	}
	s.Lower = ours[0]
	if m.builds() { // whose root may read there what every user may, and not what is the host's root's
		ours, err = unmapped(t.binds, given)
	} else {
		ours, err = m.sources(t.binds, root, given)
	}
	if err != nil {
		return err
	}
	for i, target := range t.binds {
		s.Binds = append(s.Binds, bind{Source: ours[i], Target: target})
	}
	s.Layers, err = m.sources(t.layers, all, given)
	return err
}

// sources returns trees of files, whose owners are shown by a user namespace where this process can do that.
func (m *machine) sources(paths []string, users *os.File, given kit) ([]source, error) {
	all := make([]source, len(paths))
	for i, path := range paths {
		if users == nil {
			all[i].Path = path
			continue
		}
		f, err := tree(path, users, readOnly)
		if errors.Is(err, unix.EINVAL) && !m.record.Root { // a file system that cannot be mapped
			m.record.Isolation.Missing["owners"] = "root's files show as nobody's: " + err.Error()
			f, err = tree(path, nil, readOnly)
		}
		if err != nil {
			return nil, err
		}
		all[i] = given.tree(f)
	}
	return all, nil
}

// unmapped returns trees of files that are all nobody's inside.
func unmapped(paths []string, given kit) (all []source, err error) {
	for _, path := range paths {
		f, err := tree(path, nil, readOnly)
		if err != nil {
			return nil, err
		}
		all = append(all, given.tree(f))
	}
	return all, nil
}

// kit is what a first process is given, by what it is.
type kit map[string]*os.File

func (k kit) send(c control) error {
	var names []string
	var files []*os.File
	for name, f := range k {
		names, files = append(names, name), append(files, f)
	}
	return c.send(message{Files: names}, files...)
}

// tree adds a tree of files.
func (k kit) tree(f *os.File) source {
	s := source{File: fmt.Sprintf("tree %d", len(k))}
	k[s.File] = f
	return s
}

func (k kit) close() {
	for _, f := range k {
		f.Close()
	}
}
