package fleet

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Backup writes a copy of the registry as it is at this moment, while all goes on, and returns its bytes. Put into the
// directory as registry.db, before a fleet is opened, it is the registry again. It has the secret that access tokens are
// made of. A slow writer keeps the registry from using old pages again, and nothing else.
func (f *Fleet) Backup(w io.Writer) (int64, error) { return f.registry.backup(w) }

// Backup is Fleet.Backup of a directory whose fleet is not open. ErrInUse where it is.
func Backup(dir string, w io.Writer) (int64, error) {
	file := filepath.Join(dir, "registry.db")
	db, err := bolt.Open(file, 0o600, &bolt.Options{Timeout: time.Millisecond, ReadOnly: true})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return 0, fmt.Errorf("%s: %w", file, ErrInUse)
	}
	if err != nil {
		return 0, fmt.Errorf("cannot open the registry %s: %w", file, err)
	}
	r := registry{db: db}
	n, err := r.backup(w)
	return n, errors.Join(err, db.Close())
}

// ErrInUse says that a fleet has the registry open.
var ErrInUse = errors.New("the registry is in use")

func (r *registry) backup(w io.Writer) (n int64, err error) {
	err = r.view(func(tx *bolt.Tx) error {
		n, err = tx.WriteTo(w)
		return err
	})
	if err != nil {
		err = fmt.Errorf("cannot copy the registry: %w", err)
	}
	return n, err
}
