package template

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// Options of what is added to a store.
type Options struct {
	Name   string // of the template; "" is what the image calls itself
	Report func(Progress)
}

// Progress tells how far an image is.
type Progress struct {
	Layer, Layers int    // the first layer is 1
	DiffID        string // of it
	Bytes         int64  // of it, read so far
	Total         int64  // of it, where that is known; else 0
	Done          bool   // it is in the store
}

// maxDocument bounds manifests and configurations, in bytes.
const maxDocument = 8 << 20

// add unpacks an image's layers that are not there, and makes a template of it. The store is shared meanwhile, so that what one
// attempt has unpacked is there for the next.
func (s *Store) add(ctx context.Context, img v1.Image, t Template, report func(Progress), open func(v1.Layer) (io.ReadCloser, error)) (Template, error) {
	config, layers, err := s.check(img)
	if err != nil {
		return t, err
	}
	id, _ := img.ConfigName() // which check has read
	t.ID, t.Created = id.String(), time.Now().UTC()
	t.Env, t.User = config.Config.Env, config.Config.User
	t.Workdir = strings.TrimSuffix(path.Clean("/"+config.Config.WorkingDir), "/") // "/" is what BuildKit says for none
	left := s.limits
	for i, layer := range layers {
		told := Progress{Layer: i + 1, Layers: len(layers), DiffID: config.RootFS.DiffIDs[i].String()}
		told.Total, _ = layer.Size()
		got, err := s.layer(ctx, told, left, func() (io.ReadCloser, error) { return open(layer) }, report)
		if errors.Is(err, unix.ENOSPC) {
			err = fmt.Errorf("the disk is full: %w", err)
		}
		if err != nil {
			return t, fmt.Errorf("layer %d of %d, %s: %w", i+1, len(layers), told.DiffID, err)
		}
		left.Size, left.Files = left.Size-got.Size, left.Files-got.Files
		if left.Size < 0 || left.Files < 0 { // of layers that were there
			return t, fmt.Errorf("%w: the image has more than %d bytes or %d files", ErrRefused, s.limits.Size, s.limits.Files)
		}
		t.Layers = append(t.Layers, got)
	}
	if err := s.look(&t); err != nil {
		return t, err
	}
	return t, s.save(t)
}

// check returns an image's configuration and layers, lowest first, where they are what this machine can run and what their
// digests say.
func (s *Store) check(img v1.Image) (*v1.ConfigFile, []v1.Layer, error) {
	m, err := img.Manifest()
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the manifest: %w", err)
	}
	switch {
	case m.Config.Size > maxDocument:
		return nil, nil, fmt.Errorf("%w: its configuration has more than %d bytes", ErrRefused, maxDocument)
	case len(m.Layers) == 0:
		return nil, nil, fmt.Errorf("%w: it has no layers", ErrRefused)
	case len(m.Layers) > s.limits.Layers:
		return nil, nil, fmt.Errorf("%w: it has more layers than %d", ErrRefused, s.limits.Layers)
	}
	for _, l := range m.Layers {
		if len(l.URLs) > 0 {
			return nil, nil, fmt.Errorf("%w: layer %s is kept by others than the registry", ErrRefused, l.Digest)
		}
	}
	text, err := img.RawConfigFile()
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the configuration: %w", err)
	}
	if got, _, err := v1.SHA256(bytes.NewReader(text)); err != nil || got != m.Config.Digest {
		return nil, nil, fmt.Errorf("%w: its configuration is not %s", ErrRefused, m.Config.Digest)
	}
	var config v1.ConfigFile
	if err := json.Unmarshal(text, &config); err != nil {
		return nil, nil, fmt.Errorf("%w: cannot read its configuration: %w", ErrRefused, err)
	}
	if err := suits(&config); err != nil {
		return nil, nil, err
	}
	if len(config.RootFS.DiffIDs) != len(m.Layers) {
		return nil, nil, fmt.Errorf("%w: its configuration tells of %d layers, and its manifest of %d", ErrRefused, len(config.RootFS.DiffIDs), len(m.Layers))
	}
	for _, id := range config.RootFS.DiffIDs {
		if id.Algorithm != "sha256" {
			return nil, nil, fmt.Errorf("%w: layer %s is named by no SHA-256", ErrRefused, id)
		}
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the layers: %w", err)
	}
	return &config, layers, nil
}

// suits checks that this machine runs the image's programs, and that its configuration makes sense.
func suits(c *v1.ConfigFile) error {
	if c.OS != "" && c.OS != "linux" || c.Architecture != "" && c.Architecture != runtime.GOARCH {
		return fmt.Errorf("the image is for %s/%s, and this machine is linux/%s", c.OS, c.Architecture, runtime.GOARCH)
	}
	total := 0
	for _, v := range c.Config.Env {
		name, _, ok := strings.Cut(v, "=")
		if !ok || name == "" || strings.ContainsRune(v, 0) {
			return fmt.Errorf("%w: %.100q is no variable of an environment", ErrRefused, v)
		}
		total += len(v)
	}
	if total > maxEnv || len(c.Config.WorkingDir) > maxPath || strings.ContainsRune(c.Config.WorkingDir, 0) || len(c.Config.User) > maxName {
		return fmt.Errorf("%w: its environment, directory or user is too long", ErrRefused)
	}
	return nil
}

// maxEnv bounds an image's environment, in bytes.
const maxEnv = 64 << 10
