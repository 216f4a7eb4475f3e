package template

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"
)

// Import makes a template of an image in a file or directory: what "docker save" writes, compressed or not, or an image layout of the
// Open Container Initiative, as a directory or an archive. It has to hold one image for this machine.
func (s *Store) Import(ctx context.Context, file string, o Options) (Template, error) {
	file, err := filepath.Abs(file)
	if err != nil {
		return Template{}, err
	}
	if o.Name != "" {
		if err := CheckName(o.Name); err != nil {
			return Template{}, err
		}
	}
	release, err := s.share(ctx)
	if err != nil {
		return Template{}, err
	}
	t, err := s.importFrom(ctx, file, Template{Name: o.Name, Source: file}, o.Report)
	release()
	if err != nil {
		return t, fmt.Errorf("cannot import %s: %w", file, err)
	}
	return t, s.Collect()
}

func (s *Store) importFrom(ctx context.Context, file string, t Template, report func(Progress)) (Template, error) {
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return t, err
	case info.IsDir():
		return s.importLayout(ctx, file, t, report)
	case !info.Mode().IsRegular():
		return t, errors.New("it is neither a file nor a directory")
	}
	found, err := scan(file)
	if err != nil {
		return t, err
	}
	switch {
	case found.has("manifest.json"):
		return s.importDocker(ctx, file, found, t, report)
	case found.has("index.json"):
		return s.importArchive(ctx, file, t, report)
	}
	return t, errors.New("it is no image: there is neither manifest.json nor index.json in it")
}

// importDocker makes a template of what "docker save" has written.
func (s *Store) importDocker(ctx context.Context, file string, found contents, t Template, report func(Progress)) (Template, error) {
	if !found.document("manifest.json") {
		return t, fmt.Errorf("%w: manifest.json is no file of at most %d bytes", ErrRefused, maxDocument)
	}
	opener := func() (io.ReadCloser, error) { return openArchive(file) }
	m, err := tarball.LoadManifest(opener)
	if err != nil {
		return t, fmt.Errorf("cannot read manifest.json: %w", err)
	}
	if len(m) != 1 {
		return t, fmt.Errorf("it has %d images: want one", len(m))
	}
	if !found.document(m[0].Config) {
		return t, fmt.Errorf("%w: its configuration %.256q is no file of at most %d bytes", ErrRefused, m[0].Config, maxDocument)
	}
	if len(m[0].Layers) > s.limits.Layers { // each of which is opened to make a manifest
		return t, fmt.Errorf("%w: it has more layers than %d", ErrRefused, s.limits.Layers)
	}
	if t.Name == "" && len(m[0].RepoTags) > 0 {
		t.Name = m[0].RepoTags[0]
	}
	if err := named(t); err != nil {
		return t, err
	}
	img, err := tarball.Image(opener, nil)
	if err != nil {
		return t, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return t, fmt.Errorf("cannot read the configuration: %w", err)
	}
	if got := len(config.RootFS.DiffIDs); got != len(m[0].Layers) {
		return t, fmt.Errorf("%w: its configuration tells of %d layers, and its manifest of %d", ErrRefused, got, len(m[0].Layers))
	}
	return s.add(ctx, img, t, report, v1.Layer.Uncompressed)
}

// named checks the name of a template that may have it from its image.
func named(t Template) error {
	if t.Name == "" {
		return errors.New("the image has no name: give one")
	}
	return CheckName(t.Name)
}

// importArchive makes a template of an image layout in an archive, which is unpacked as layers are: it is as hostile.
func (s *Store) importArchive(ctx context.Context, file string, t Template, report func(Progress)) (Template, error) {
	dir := s.path("work", "layout-"+rand.Text())
	if err := os.Mkdir(dir, 0o700); err != nil {
		return t, err
	}
	defer os.RemoveAll(dir)
	f, err := openArchive(file)
	if err != nil {
		return t, err
	}
	defer f.Close()
	if _, err := unpack(ctx, f, dir, s.limits); err != nil {
		return t, err
	}
	return s.importLayout(ctx, dir, t, report)
}

func (s *Store) importLayout(ctx context.Context, dir string, t Template, report func(Progress)) (Template, error) {
	if _, err := document(filepath.Join(dir, "index.json")); err != nil {
		return t, fmt.Errorf("it is no image layout: %w", err)
	}
	l := layout.Path(dir)
	index, err := l.ImageIndex()
	if err != nil {
		return t, fmt.Errorf("it is no image layout: %w", err)
	}
	img, name, err := choose(l, index, 0)
	if err != nil {
		return t, err
	}
	t.Name = cmp.Or(t.Name, name)
	if err := named(t); err != nil {
		return t, err
	}
	return s.add(ctx, img, t, report, checked)
}

// maxNesting bounds how many indexes lead to an image.
const maxNesting = 4

// choose returns the image of an index that this machine runs, of which there has to be one, and its name, if it has any.
func choose(l layout.Path, index v1.ImageIndex, depth int) (v1.Image, string, error) {
	d, err := fit(index)
	if err != nil {
		return nil, "", err
	}
	name := cmp.Or(d.Annotations["io.containerd.image.name"], d.Annotations["org.opencontainers.image.ref.name"])
	text, err := blob(l, d.Digest)
	switch {
	case err != nil:
		return nil, "", err
	case d.MediaType.IsIndex() && depth == maxNesting:
		return nil, "", fmt.Errorf("%w: its indexes are nested more than %d deep", ErrRefused, maxNesting)
	case d.MediaType.IsIndex():
		inner, err := index.ImageIndex(d.Digest)
		if err != nil {
			return nil, "", err
		}
		img, own, err := choose(l, inner, depth+1)
		return img, cmp.Or(own, name), err
	}
	m, err := v1.ParseManifest(bytes.NewReader(text))
	if err != nil {
		return nil, "", fmt.Errorf("cannot read the manifest: %w", err)
	}
	if _, err := blob(l, m.Config.Digest); err != nil {
		return nil, "", err
	}
	img, err := index.Image(d.Digest)
	return img, name, err
}

// fit returns the image or index that is for this machine.
func fit(index v1.ImageIndex) (v1.Descriptor, error) {
	m, err := index.IndexManifest()
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("cannot read the index: %w", err)
	}
	fits := slices.DeleteFunc(m.Manifests, func(d v1.Descriptor) bool {
		p := d.Platform
		return p != nil && (p.OS != "" && p.OS != "linux" || p.Architecture != "" && p.Architecture != runtime.GOARCH)
	})
	if len(fits) != 1 {
		return v1.Descriptor{}, fmt.Errorf("it has %d images for linux/%s: want one", len(fits), runtime.GOARCH)
	}
	return fits[0], nil
}

// blob returns a small blob of a layout, which is what its digest says.
func blob(l layout.Path, h v1.Hash) ([]byte, error) {
	text, err := document(filepath.Join(string(l), "blobs", h.Algorithm, h.Hex))
	if err != nil {
		return nil, err
	}
	if got, _, err := v1.SHA256(bytes.NewReader(text)); err != nil || got != h {
		return nil, fmt.Errorf("%w: blob %s is another one", ErrRefused, h)
	}
	return text, nil
}

// document reads a file of bounded size, which is no link.
func document(file string) ([]byte, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > maxDocument {
		return nil, fmt.Errorf("%w: %s is no file of at most %d bytes", ErrRefused, filepath.Base(file), maxDocument)
	}
	return io.ReadAll(io.LimitReader(f, maxDocument))
}

// contents are the files of an archive, by name, and their sizes.
type contents map[string]int64

func (c contents) has(name string) bool { _, ok := c[name]; return ok }

// document reports whether there is a file of that name that can be read as a whole.
func (c contents) document(name string) bool {
	size, ok := c[path.Clean(name)]
	return ok && size <= maxDocument
}

// maxEntries bounds the files of an archive that holds an image's layers.
const maxEntries = 10_000

// scan reads what an archive of an image has in it.
func scan(file string) (contents, error) {
	f, err := openArchive(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	found := contents{}
	entries := tar.NewReader(f)
	for n := 0; ; n++ {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the archive: %w", err)
		}
		name := path.Clean(h.Name)
		switch {
		case n > maxEntries:
			return nil, fmt.Errorf("%w: it has more files than %d", ErrRefused, maxEntries)
		case len(h.Name) > maxPath:
			return nil, fmt.Errorf("%w: a name in it is longer than %d bytes", ErrRefused, maxPath)
		case h.Typeflag == tar.TypeDir || h.Typeflag == tar.TypeXGlobalHeader:
		case strings.HasSuffix(name, "manifest.json") && h.Size > maxDocument:
			return nil, fmt.Errorf("%w: %s is larger than %d bytes", ErrRefused, name, maxDocument)
		case found.has(name):
			return nil, fmt.Errorf("%w: it has %.256q twice", ErrRefused, name)
		case h.Typeflag != tar.TypeReg: // a link, say: what is read of it may be larger than it is
			found[name] = math.MaxInt64
		default:
			found[name] = h.Size
		}
	}
	return found, nil
}

// openArchive opens an archive, compressed or not.
func openArchive(file string) (io.ReadCloser, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	plain, closed, err := decompress(buffer(f))
	if err != nil {
		f.Close()
		return nil, err
	}
	return &archive{plain, func() error { closed(); return f.Close() }}, nil
}

type archive struct {
	io.Reader
	end func() error
}

func (a *archive) Close() error { return a.end() }

// checked returns a layer as it is kept, and fails at its end where its digest is another.
func checked(l v1.Layer) (io.ReadCloser, error) {
	want, err := l.Digest()
	if err != nil {
		return nil, err
	}
	r, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	return &verified{ReadCloser: r, want: want, sum: sha256.New()}, nil
}

// verified is a stream whose end is an error where its digest is not the one that it is to have.
type verified struct {
	io.ReadCloser
	want v1.Hash
	sum  hash.Hash
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.ReadCloser.Read(p)
	v.sum.Write(p[:n])
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	if v.want.Algorithm != "sha256" || hex.EncodeToString(v.sum.Sum(nil)) != v.want.Hex {
		return n, fmt.Errorf("%w: blob %s is another one", ErrRefused, v.want)
	}
	return n, err
}
