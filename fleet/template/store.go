// Package template keeps what sandboxes are made from: images of the Open Container Initiative (OCI) and of Docker, unpacked once into
// a store that all sandboxes share, with no daemon. An image is hostile until the opposite is shown: what is read of it is bounded
// and checked, and what is written of it lies below the directory of its layer.
package template

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Limits bound what one image may be; 0 is the package's own.
type Limits struct {
	Layers int   // in an image
	Size   int64 // bytes of all files of an image, unpacked
	Files  int64 // files, directories and links of an image
	Depth  int   // directories above a file
}

// Defaults are the limits where none are given.
var Defaults = Limits{Layers: 127, Size: 32 << 30, Files: 2_000_000, Depth: 255}

// Store is a directory of templates and of the layers that they are made of. Any number of processes may use it at a time; its
// methods are safe for concurrent use.
//
//	names/NAME.json       a Template
//	layers/DIFFID/        the files of a layer, as overlayfs takes them (fs), and what is known of it (layer.json)
//	work/                 layers on their way, each below the lock of its own
//	uses/OWNER/SANDBOX    the layers that a sandbox is made of
//	trash/                what is about to be removed
//	lock                  shared by those who add and use, exclusive to who collects
//	collect               somebody wants layers to be collected
type Store struct {
	dir    string
	limits Limits
}

// Errors that callers act on.
var (
	ErrNotFound = errors.New("no such template")
	ErrRefused  = errors.New("refused") // the image asks for what it may not
)

// Open returns the store in a directory. It is made when something is added; only its owner may enter it.
func Open(dir string, l Limits) *Store {
	if l.Layers == 0 {
		l.Layers = Defaults.Layers
	}
	if l.Size == 0 {
		l.Size = Defaults.Size
	}
	if l.Files == 0 {
		l.Files = Defaults.Files
	}
	if l.Depth == 0 {
		l.Depth = Defaults.Depth
	}
	return &Store{dir: dir, limits: l}
}

// make makes the store's directories.
func (s *Store) make() error {
	for _, name := range []string{"names", "layers", "work", "uses", "trash"} {
		if err := os.MkdirAll(s.path(name), 0o700); err != nil {
			return fmt.Errorf("cannot make the store of templates: %w", err)
		}
	}
	if err := os.Chmod(s.dir, 0o700); err != nil {
		return fmt.Errorf("cannot close the store of templates to others: %w", err)
	}
	return nil
}

func (s *Store) path(names ...string) string {
	return filepath.Join(append([]string{s.dir}, names...)...)
}

// share keeps those out who collect, until release is called.
func (s *Store) share(ctx context.Context) (release func(), err error) {
	if err := s.make(); err != nil {
		return nil, err
	}
	unlock, err := lock(ctx, s.path("lock"), unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	return func() {
		unlock()
		if exists(s.path(collectFile)) { // somebody wanted to meanwhile
			_ = s.collect()
		}
	}, nil
}

// lockPause is how often a lock that somebody else has is asked for.
const lockPause = 50 * time.Millisecond

// lock takes the lock of a file, which ends with the process that has it.
func lock(ctx context.Context, path string, how int) (release func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("cannot lock %s: %w", path, err)
		}
		select {
		case <-time.After(lockPause):
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		}
	}
}

// write writes a file as a whole or not at all.
func write(path string, text []byte) error {
	part, err := os.CreateTemp(filepath.Dir(path), ".part-")
	if err != nil {
		return err
	}
	_, err = part.Write(text)
	err = errors.Join(err, part.Sync(), part.Close())
	if err == nil {
		err = os.Rename(part.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(part.Name()))
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
