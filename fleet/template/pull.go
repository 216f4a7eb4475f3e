package template

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Pull makes a template of an image of a registry: "python:3.12-slim", "ghcr.io/owner/name@sha256:…". Credentials are those of Docker's
// configuration. What an attempt that failed has unpacked is not fetched again.
func (s *Store) Pull(ctx context.Context, reference string, o Options) (Template, error) {
	t := Template{Name: o.Name}
	ref, err := name.ParseReference(reference)
	if err != nil {
		return t, fmt.Errorf("%.260q is no reference to an image: %w", reference, err)
	}
	if t.Name == "" {
		t.Name = reference
	}
	if err := CheckName(t.Name); err != nil {
		return t, err
	}
	release, err := s.share(ctx)
	if err != nil {
		return t, err
	}
	got, err := s.pull(ctx, ref, t, o.Report)
	release()
	if err != nil {
		return t, fmt.Errorf("cannot pull %s: %w", reference, err)
	}
	return got, s.Collect() // what the name stood for before
}

func (s *Store) pull(ctx context.Context, ref name.Reference, t Template, report func(Progress)) (Template, error) {
	img, err := remote.Image(ref, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain),
		remote.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}))
	if err != nil {
		return t, err
	}
	digest, err := img.Digest()
	if err != nil {
		return t, err
	}
	t.Source = ref.Context().Digest(digest.String()).Name()
	return s.add(ctx, img, t, report, func(l v1.Layer) (io.ReadCloser, error) {
		r, err := l.Compressed() // whose reader checks size and digest
		if errors.Is(err, context.Canceled) {
			err = ctx.Err()
		}
		return r, err
	})
}
