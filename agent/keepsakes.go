package agent

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/k2sandbox/k2sandbox/files"
)

// keepsakes is the directory of files that are made for clients, in the one for what the sandbox itself makes. It ends with the
// sandbox.
type keepsakes struct {
	mu    sync.Mutex
	root  *files.Root // out of which no link leads that code has made; nil: nothing was kept yet
	dir   string      // in the root
	above string      // where the root is
}

// Keep writes a file that code can read, unless it is there, and returns its path. name is relative, without dots.
// It is gone when the sandbox is.
func (s *Sandbox) Keep(ctx context.Context, name string, content []byte) (string, error) {
	k := &s.keepsakes
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.root == nil {
		s.mu.Lock()
		closed := s.closed
		s.mu.Unlock()
		if closed {
			return "", ErrClosed
		}
		k.above = cmp.Or(s.o.Start.RunDir, os.TempDir())
		root, err := files.Open(k.above, k.above)
		if err != nil {
			return "", err
		}
		k.root, k.dir = root, "/k2-outputs-"+strings.ToLower(rand.Text()[:12])
	}
	at := k.dir + "/" + name
	_, err := k.root.Write(ctx, at, bytes.NewReader(content), files.WriteOptions{Match: func(etag string) bool { return etag == "" }})
	if err != nil && !errors.Is(err, files.ErrChanged) {
		return "", err
	}
	return filepath.Join(k.above, at), nil
}

// close removes all.
func (k *keepsakes) close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.root == nil {
		return nil
	}
	err := k.root.Remove(k.dir, true)
	if errors.Is(err, files.ErrNotExist) {
		err = nil // code has removed it
	}
	return errors.Join(err, k.root.Close())
}
