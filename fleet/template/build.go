package template

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// Build tells what a template was built of.
type Build struct {
	Base string `json:"base"` // the name of the template that it was built from
	Host bool   `json:"host"` // that is the server's own, made of the host's files, and no image
	Key  string `json:"key"`  // names all that went into it

	Packages string `json:"packages,omitempty"` // the directory of its Python packages, an absolute path; "": it has none of its own
}

// Built returns a template that was built of just that, by any name. It fails with ErrNotFound.
func (s *Store) Built(key string) (Template, error) {
	all, err := s.List()
	if err != nil {
		return Template{}, err
	}
	for _, t := range all {
		if t.Build != nil && t.Build.Key == key {
			return t, nil
		}
	}
	return Template{}, fmt.Errorf("%w: none was built of that", ErrNotFound)
}

// Rename gives a template one more name; one that has it is replaced.
func (s *Store) Rename(ctx context.Context, t Template, name string) (Template, error) {
	if err := CheckName(name); err != nil {
		return t, err
	}
	release, err := s.share(ctx)
	if err != nil {
		return t, err
	}
	t.Name = name
	if err = s.whole(t); err == nil {
		err = s.save(t)
	}
	release()
	return t, errors.Join(err, s.Collect())
}

// whole fails where layers of a template are not there any more.
func (s *Store) whole(t Template) error {
	for _, l := range t.Layers {
		if !exists(s.FS(l)) {
			return fmt.Errorf("%w: %.255q has been removed", ErrNotFound, t.Name)
		}
	}
	return nil
}

// Extend makes a template with one more layer: an archive, which is as hostile as any image's.
func (s *Store) Extend(ctx context.Context, t Template, archive io.Reader) (Template, error) {
	if err := CheckName(t.Name); err != nil {
		return t, err
	}
	release, err := s.share(ctx)
	if err != nil {
		return t, err
	}
	t, err = s.extend(ctx, t, archive)
	release()
	if err != nil {
		return t, fmt.Errorf("cannot build template %s: %w", t.Name, err)
	}
	return t, s.Collect()
}

func (s *Store) extend(ctx context.Context, t Template, archive io.Reader) (Template, error) {
	if len(t.Layers) >= s.limits.Layers {
		return t, fmt.Errorf("%w: it has more layers than %d", ErrRefused, s.limits.Layers)
	}
	if err := s.whole(t); err != nil {
		return t, err
	}
	left := s.limits
	for _, l := range t.Layers {
		left.Size, left.Files = left.Size-l.Size, left.Files-l.Files
	}
	spool := s.path("work", "build-"+rand.Text())
	defer os.Remove(spool)
	digest, err := spoolTo(spool, &limited{from: archive, left: left.Size + left.Files*maxHeader, what: fmt.Sprintf("it has more than %d bytes", left.Size)})
	if err != nil {
		return t, err
	}
	told := Progress{Layer: len(t.Layers) + 1, Layers: len(t.Layers) + 1, DiffID: "sha256:" + digest}
	layer, err := s.layer(ctx, told, left, func() (io.ReadCloser, error) { return os.Open(spool) }, nil)
	if err != nil {
		return t, err
	}
	t.Layers = append(t.Layers[:len(t.Layers):len(t.Layers)], layer)
	t.Created = time.Now().UTC()
	sum, err := json.Marshal([]any{t.ID, layer.DiffID, t.Env, t.User, t.Workdir})
	if err != nil {
		return t, err
	}
	id := sha256.Sum256(sum)
	t.ID = "sha256:" + hex.EncodeToString(id[:])
	if t.Build == nil || !t.Build.Host {
		if err := s.look(&t); err != nil {
			return t, err
		}
	}
	return t, s.save(t)
}

// spoolTo writes a stream to a new file, and returns its SHA-256.
func spoolTo(file string, from io.Reader) (string, error) {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	_, err = io.Copy(f, io.TeeReader(from, sum))
	return hex.EncodeToString(sum.Sum(nil)), errors.Join(err, f.Close())
}

// Graft copies an archive of a directory into one of a layer, in which the directory replaces what lies below it, with all of it
// a user's. Times are those of one day, so that what was built twice is the same: the first that a ZIP file can have everywhere.
func Graft(w *tar.Writer, dir string, from io.Reader, uid, gid int) error {
	dir = strings.Trim(path.Clean("/"+dir), "/")
	if dir == "" {
		return fmt.Errorf("%w: the root is no directory of a user's", ErrRefused)
	}
	for _, h := range []*tar.Header{
		{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, Uid: uid, Gid: gid, ModTime: builtAt},
		{Typeflag: tar.TypeReg, Name: path.Join(dir, whiteoutOpaque), Mode: 0o644},
	} {
		if err := w.WriteHeader(h); err != nil {
			return err
		}
	}
	for r := tar.NewReader(from); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot read the archive of %s: %w", dir, err)
		}
		if strings.Contains("/"+h.Name, "/"+whiteoutPrefix) { // which a layer cannot have
			continue
		}
		if err := graft(w, dir, h, r, uid, gid); err != nil {
			return err
		}
	}
}

var builtAt = time.Date(1980, 1, 2, 0, 0, 0, 0, time.UTC)

func graft(w *tar.Writer, dir string, h *tar.Header, content io.Reader, uid, gid int) error {
	if !filepath.IsLocal(h.Name) || h.Typeflag == tar.TypeLink && !filepath.IsLocal(h.Linkname) || h.Size > math.MaxInt64/2 {
		return fmt.Errorf("%w: %.256q leads out of the directory", ErrRefused, h.Name)
	}
	out := &tar.Header{Typeflag: h.Typeflag, Name: path.Join(dir, h.Name), Linkname: h.Linkname, Mode: h.Mode & 0o1777, Size: h.Size, Uid: uid, Gid: gid, ModTime: builtAt}
	switch h.Typeflag {
	case tar.TypeDir:
		out.Name += "/"
	case tar.TypeLink:
		out.Linkname = path.Join(dir, h.Linkname)
	case tar.TypeReg, tar.TypeSymlink:
	default:
		return nil
	}
	if err := w.WriteHeader(out); err != nil {
		return err
	}
	_, err := io.Copy(w, content)
	return err
}
