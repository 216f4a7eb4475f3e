package template

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/internal/lazy"
)

// Template is an image in the store, by a name.
type Template struct {
	Name    string    `json:"name"`
	ID      string    `json:"id"`     // "sha256:…", the digest of the image's configuration
	Source  string    `json:"source"` // where it is from: a reference with its digest, or a path
	Created time.Time `json:"created"`
	Layers  []Layer   `json:"layers"` // the lowest first

	Env     []string `json:"env"` // "NAME=value"
	User    string   `json:"user,omitempty"`
	Workdir string   `json:"workdir,omitempty"` // an absolute path; "" is the user's home

	UID    int    `json:"uid"` // of code; 0 where the image asks for root or for nobody
	GID    int    `json:"gid"`
	Home   string `json:"home,omitempty"`   // of that user, an absolute path
	Libc   Libc   `json:"libc"`             // that its programs run with
	Python string `json:"python,omitempty"` // its own interpreter that has ipykernel, an absolute path

	Build *Build `json:"build,omitempty"` // nil: it is an image as it was
}

// Layer is one of a template's layers.
type Layer struct {
	DiffID  string  `json:"diff_id"` // "sha256:…", of its uncompressed archive
	Size    int64   `json:"size"`    // bytes of its files
	Files   int64   `json:"files"`   // files, directories and links
	LeftOut LeftOut `json:"left_out"`
}

// LeftOut counts what an archive has and its layer has not.
type LeftOut struct {
	Devices int64 `json:"devices,omitempty"` // below /dev, and FIFOs and sockets
	SetID   int64 `json:"set_id,omitempty"`  // set-user-ID and set-group-ID bits
	Xattrs  int64 `json:"xattrs,omitempty"`  // extended attributes, among them capabilities of files
	Owners  int64 `json:"owners,omitempty"`  // owners beyond 65535, who are nobody
}

func (l *LeftOut) add(m LeftOut) {
	l.Devices += m.Devices
	l.SetID += m.SetID
	l.Xattrs += m.Xattrs
	l.Owners += m.Owners
}

// Size returns the bytes of all files of the template's layers.
func (t *Template) Size() (n int64) {
	for _, l := range t.Layers {
		n += l.Size
	}
	return n
}

// LeftOut returns what none of the template's layers has of what their archives have.
func (t *Template) LeftOut() (all LeftOut) {
	for _, l := range t.Layers {
		all.add(l.LeftOut)
	}
	return all
}

var goodName = lazy.Regexp(`^[A-Za-z0-9][A-Za-z0-9._/:@+-]{0,254}$`)

// CheckName returns why a template cannot have a name: those of the server's own templates are taken.
func CheckName(name string) error {
	switch {
	case !goodName().MatchString(name):
		return fmt.Errorf("%.260q is no name of a template: want at most 255 letters, digits and . _ / : @ + -", name)
	case name == "default" || name == "host" || name == "base" || name == "code-interpreter-v1" || strings.HasPrefix(name, "k2sandbox/"):
		return fmt.Errorf("the name %s is taken by a template of the server's own", name)
	}
	return nil
}

// file returns the file of a template's name.
func (s *Store) file(name string) string {
	sum := sha256.Sum256([]byte(name))
	return s.path("names", hex.EncodeToString(sum[:16])+".json")
}

// Get returns the template of a name; one that ends in ":latest" goes without it, too. It fails with ErrNotFound.
func (s *Store) Get(name string) (Template, error) {
	t, err := s.load(s.file(name))
	if errors.Is(err, fs.ErrNotExist) {
		t, err = s.load(s.file(name + ":latest"))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return t, fmt.Errorf("%w: %.255q", ErrNotFound, name)
	}
	return t, err
}

func (s *Store) load(path string) (t Template, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return t, err
	}
	if err := json.Unmarshal(text, &t); err != nil {
		return t, fmt.Errorf("cannot read template %s: %w", path, err)
	}
	return t, nil
}

// List returns all templates by name.
func (s *Store) List() ([]Template, error) {
	entries, err := os.ReadDir(s.path("names"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot list templates: %w", err)
	}
	all := []Template{}
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".json" {
			continue
		}
		t, err := s.load(s.path("names", e.Name()))
		if errors.Is(err, fs.ErrNotExist) { // removed meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b Template) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

// save gives a template its name. Its layers are there, and the store is shared.
func (s *Store) save(t Template) error {
	text, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return err
	}
	if err := write(s.file(t.Name), text); err != nil {
		return fmt.Errorf("cannot save template %s: %w", t.Name, err)
	}
	return nil
}

// Remove removes the template of a name. Its layers go when nothing uses them: no other template, and no sandbox.
func (s *Store) Remove(ctx context.Context, name string) error {
	t, err := s.Get(name)
	if err != nil {
		return err
	}
	if err := os.Remove(s.file(t.Name)); err != nil {
		return fmt.Errorf("cannot remove template %s: %w", t.Name, err)
	}
	return s.Collect()
}

// FS returns the directory of a layer's files.
func (s *Store) FS(l Layer) string { return s.path("layers", hexOf(l.DiffID), "fs") }

func hexOf(digest string) string { return strings.TrimPrefix(digest, "sha256:") }
