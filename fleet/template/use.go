package template

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// User is who makes sandboxes of templates: a server, by the directory that it keeps them in.
type User struct {
	store     *Store
	name, dir string
}

// dirFile names the directory of a User. Where that is gone, so are the sandboxes.
const dirFile = ".dir"

// User returns the one of a directory, whose name in the store is given.
func (s *Store) User(name, dir string) *User { return &User{s, name, dir} }

// Hold keeps the layers of a template until Release: a sandbox of that name is made of them. It fails with ErrNotFound where the template
// has been removed.
func (u *User) Hold(ctx context.Context, sandbox string, t Template) error {
	release, err := u.store.share(ctx)
	if err != nil {
		return err
	}
	defer release()
	var layers strings.Builder
	for _, l := range t.Layers {
		if !exists(u.store.FS(l)) {
			return fmt.Errorf("%w: %.255q has been removed", ErrNotFound, t.Name)
		}
		layers.WriteString(hexOf(l.DiffID) + "\n")
	}
	uses := u.store.path("uses", u.name)
	err = os.MkdirAll(uses, 0o700)
	if err == nil && !exists(filepath.Join(uses, dirFile)) {
		err = write(filepath.Join(uses, dirFile), []byte(u.dir))
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(uses, sandbox), []byte(layers.String()), 0o600)
	}
	if err != nil {
		return fmt.Errorf("cannot use template %s: %w", t.Name, err)
	}
	return nil
}

// Release ends Hold. Layers that nothing uses go then.
func (u *User) Release(sandbox string) error {
	err := os.Remove(u.store.path("uses", u.name, sandbox))
	if errors.Is(err, fs.ErrNotExist) { // it was not made of a template
		return nil
	}
	return errors.Join(err, u.store.Collect())
}

// Keep releases all sandboxes but those.
func (u *User) Keep(sandboxes map[string]bool) error {
	entries, err := os.ReadDir(u.store.path("uses", u.name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.Name() != dirFile && !sandboxes[e.Name()] {
			err = errors.Join(err, u.Release(e.Name()))
		}
	}
	return err
}

// Collect removes the layers that neither a template nor a sandbox uses, and what is left of attempts that were killed. While somebody adds
// to the store, or collects, it leaves that to them.
func (s *Store) Collect() error {
	if !exists(s.path("lock")) { // nothing was ever added
		return nil
	}
	if err := os.WriteFile(s.path(collectFile), nil, 0o600); err != nil {
		return err
	}
	return s.collect()
}

// collectFile says that somebody wants to collect. Who has the lock looks for it once it is free again.
const collectFile = "collect"

// collect collects until nobody wants it any more, or somebody else has the lock.
func (s *Store) collect() error {
	for {
		done, err := s.collectOnce()
		if err != nil || !done || !exists(s.path(collectFile)) {
			return err
		}
	}
}

// collectOnce reports whether it had the lock.
func (s *Store) collectOnce() (done bool, err error) {
	now, cancel := context.WithCancel(context.Background())
	cancel() // waits for nobody
	release, err := lock(now, s.path("lock"), unix.LOCK_EX)
	if errors.Is(err, context.Canceled) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err = os.Remove(s.path(collectFile)); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	err = errors.Join(err, s.discard())
	release()
	return true, errors.Join(err, emptyDir(s.path("trash")))
}

// discard moves what nobody uses into the trash.
func (s *Store) discard() error {
	used, err := s.used()
	if err != nil {
		return err
	}
	var failed error
	for _, dir := range []string{"layers", "work"} {
		entries, err := os.ReadDir(s.path(dir))
		failed = errors.Join(failed, err)
		for _, e := range entries {
			if dir == "layers" && used[e.Name()] {
				continue
			}
			failed = errors.Join(failed, os.Rename(s.path(dir, e.Name()), s.path("trash", rand.Text())))
		}
	}
	return failed
}

// used returns the layers that are, by the names of their directories.
func (s *Store) used() (map[string]bool, error) {
	templates, err := s.List()
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, t := range templates {
		for _, l := range t.Layers {
			used[hexOf(l.DiffID)] = true
		}
	}
	users, err := os.ReadDir(s.path("uses"))
	if err != nil {
		return nil, err
	}
	for _, user := range users {
		if err := s.usedBy(user.Name(), used); err != nil {
			return nil, err
		}
	}
	return used, nil
}

func (s *Store) usedBy(user string, used map[string]bool) error {
	dir, err := os.ReadFile(s.path("uses", user, dirFile))
	if err == nil && !exists(string(dir)) {
		return os.RemoveAll(s.path("uses", user))
	}
	sandboxes, err := os.ReadDir(s.path("uses", user))
	if err != nil {
		return err
	}
	for _, sandbox := range sandboxes {
		text, err := os.ReadFile(s.path("uses", user, sandbox.Name()))
		if errors.Is(err, fs.ErrNotExist) { // released meanwhile
			continue
		}
		if err != nil {
			return err
		}
		for layer := range strings.Lines(string(text)) {
			used[strings.TrimSpace(layer)] = true
		}
	}
	return nil
}

func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}
