package template

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// View shows the layers of a template as sandboxes see them, one over the other. Links are followed within it, as after a chroot; the
// layers themselves never change.
type View struct {
	roots  []string // of the layers, the topmost first
	looked int      // at how many files so far
}

// maxLooked bounds how many files of all layers are looked at, as an image can lead anybody around who follows its links.
const maxLooked = 4 << 20

// View returns the template's.
func (s *Store) View(t Template) *View {
	v := &View{}
	for _, l := range slices.Backward(t.Layers) {
		v.roots = append(v.roots, s.FS(l))
	}
	return v
}

// place is a file of a view: a path without links, and the layers that have it, the topmost first. Only a directory has several.
type place struct {
	path   string // "" is the root
	layers []string
	stat   unix.Stat_t // of the topmost
}

func (p *place) kind() uint32 { return p.stat.Mode & unix.S_IFMT }

// file returns where the topmost is on the host.
func (p *place) file() string { return filepath.Join(p.layers[0], p.path) }

// child returns a file of a directory.
func (v *View) child(dir *place, name string) (*place, error) {
	found := &place{path: path.Join(dir.path, name)}
	for _, layer := range dir.layers {
		file := filepath.Join(layer, found.path)
		if v.looked++; v.looked > maxLooked {
			return nil, &fs.PathError{Op: "lstat", Path: found.path, Err: unix.ELOOP}
		}
		var st unix.Stat_t
		err := unix.Lstat(file, &st)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "lstat", Path: found.path, Err: err}
		}
		is := st.Mode&unix.S_IFMT == unix.S_IFDIR
		if isWhiteout(&st) || !is && found.layers != nil {
			break
		}
		if found.layers == nil {
			found.stat = st
		}
		found.layers = append(found.layers, layer)
		if _, err := unix.Lgetxattr(file, opaque, make([]byte, 1)); !is || err == nil {
			break
		}
	}
	if found.layers == nil {
		return nil, &fs.PathError{Op: "lstat", Path: found.path, Err: fs.ErrNotExist}
	}
	return found, nil
}

// maxLinks is how many links lead to a file at most, as in Linux.
const maxLinks = 40

// find follows a path from the root.
func (v *View) find(name string) (*place, error) {
	way := []*place{{layers: v.roots, stat: unix.Stat_t{Mode: unix.S_IFDIR}}} // the directories above, the root first
	rest, links := strings.Split(name, "/"), 0
	for len(rest) > 0 {
		step := rest[0]
		rest = rest[1:]
		here := way[len(way)-1]
		switch {
		case step == "" || step == ".":
			continue
		case step == "..":
			way = way[:max(1, len(way)-1)]
			continue
		case here.kind() != unix.S_IFDIR:
			return nil, &fs.PathError{Op: "open", Path: name, Err: unix.ENOTDIR}
		}
		next, err := v.child(here, step)
		if err != nil {
			return nil, err
		}
		if next.kind() != unix.S_IFLNK {
			way = append(way, next)
			continue
		}
		target, err := os.Readlink(next.file())
		if err != nil {
			return nil, err
		}
		if links++; links > maxLinks {
			return nil, &fs.PathError{Op: "open", Path: name, Err: unix.ELOOP}
		}
		if path.IsAbs(target) {
			way = way[:1]
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return way[len(way)-1], nil
}

// Find follows a path from the root, and returns the one without links that it leads to.
func (v *View) Find(name string) (string, error) {
	p, err := v.find(name)
	if err != nil {
		return "", err
	}
	return "/" + p.path, nil
}

// IsDir reports whether a path leads to a directory.
func (v *View) IsDir(name string) bool {
	p, err := v.find(name)
	return err == nil && p.kind() == unix.S_IFDIR
}

// Read returns the beginning of a file, of at most limit bytes.
func (v *View) Read(name string, limit int64) ([]byte, error) {
	p, err := v.find(name)
	if err != nil {
		return nil, err
	}
	if p.kind() != unix.S_IFREG {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("it is no file")}
	}
	f, err := os.OpenFile(p.file(), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// Names returns the names in a directory that begin with a prefix, in order, and no more than limit of them.
func (v *View) Names(dir, prefix string, limit int) []string {
	p, err := v.find(dir)
	if err != nil || p.kind() != unix.S_IFDIR {
		return nil
	}
	found := map[string]bool{}
	for _, layer := range p.layers {
		entries, _ := os.ReadDir(filepath.Join(layer, p.path))
		v.looked += len(entries)
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), prefix) || found[e.Name()] || len(found) == limit {
				continue
			}
			if _, err := v.child(p, e.Name()); err == nil {
				found[e.Name()] = true
			}
		}
	}
	names := make([]string, 0, len(found))
	for name := range found {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
