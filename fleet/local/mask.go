package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// mask hides from a root of sandboxes what of the mounted directories not every user of the host can read, as files of the host's
// root are its own: at the places of the directories the layer gets what overlayfs takes for files that were removed. That is
// of what there is now.
func (t *template) mask(ctx context.Context) error {
	for _, dir := range t.binds {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil {
				err = ctx.Err()
			}
			if errors.Is(err, fs.ErrNotExist) || err == nil && d.Type() == fs.ModeSymlink {
				return nil // it has gone meanwhile, or tells nothing
			}
			if err != nil {
				return err
			}
			info, err := d.Info()
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return nil
			case err != nil:
				return err
			case d.IsDir() && info.Mode().Perm()&0o005 == 0o005 || !d.IsDir() && info.Mode().Perm()&0o004 != 0:
				return nil
			case path == dir:
				return fmt.Errorf("not every user can read %s", dir)
			}
			if err := t.hide(path); err != nil {
				return fmt.Errorf("cannot hide %s: %w", path, err)
			}
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// hide hides a file or directory of the host.
func (t *template) hide(path string) error {
	if err := t.like(filepath.Dir(path)); err != nil {
		return err
	}
	return unix.Mknod(filepath.Join(t.dir, path), unix.S_IFCHR, 0) // a whiteout
}

// like makes a directory in the layer, and those on the way, as they are on the host: it is these that are seen.
func (t *template) like(dir string) error {
	to := filepath.Join(t.dir, dir)
	if _, err := os.Lstat(to); err == nil {
		return nil
	}
	if err := t.like(filepath.Dir(dir)); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	return errors.Join(os.Chown(to, int(owner.Uid), int(owner.Gid)), os.Chmod(to, info.Mode()))
}
