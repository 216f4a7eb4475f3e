package imagetest

import (
	"io"
	"log"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Debian returns the file of an image of a small Debian that debootstrap made. It has no Python; in /srv/packages, from which alone its
// apt-get installs, are those of a python3-ipykernel and a python3-pip.
func Debian(t testing.TB) string {
	t.Helper()
	file := os.Getenv("K2_TEST_DEBIAN")
	if _, err := os.Stat(file); err != nil {
		t.Fatalf("K2_TEST_DEBIAN is no image of Debian (%v): make debian makes one and sets it", err)
	}
	return file
}

// Serve has a registry on loopback with the image of a file until the test ends. It returns what the image is called there.
func Serve(t testing.TB, file, repository string) string {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	img, err := tarball.ImageFromPath(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	reference, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/" + repository)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(reference, img, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
	return reference.Name()
}
