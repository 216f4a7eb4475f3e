// Package imagetest makes images for tests, as "docker save" writes them.
package imagetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Config says how an image's programs are run.
type Config struct {
	User, WorkingDir string
	Env              []string // "NAME=value"
}

// Layer is what a layer has: its files by their names. Of a header of a file Linkname is the content.
type Layer map[string]tar.Header

// File adds a file.
func (l Layer) File(name, text string) Layer {
	l[name] = tar.Header{Typeflag: tar.TypeReg, Mode: 0o644, Linkname: text}
	return l
}

// Program adds a program of the host's, and what it is linked with.
func (l Layer) Program(t testing.TB, path string) Layer {
	t.Helper()
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(real)
	if err != nil {
		t.Fatal(err)
	}
	l[path] = tar.Header{Typeflag: tar.TypeReg, Mode: 0o755, Linkname: string(text)}
	f, err := elf.NewFile(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	libraries, err := f.ImportedLibraries()
	if err != nil {
		t.Fatal(err)
	}
	if s := f.Section(".interp"); s != nil {
		text, err := s.Data()
		if err != nil {
			t.Fatal(err)
		}
		libraries = append(libraries, strings.TrimRight(string(text), "\x00"))
	}
	for _, name := range libraries {
		for _, dir := range []string{"", "/lib/x86_64-linux-gnu/", "/lib/aarch64-linux-gnu/", "/lib64/", "/usr/lib64/"} {
			if _, err := os.Stat(dir + name); err != nil || dir+name == "" {
				continue
			}
			if _, has := l[dir+name]; !has {
				l.Program(t, dir+name)
			}
			break
		}
	}
	return l
}

// Shell returns a layer with a shell of the host's and some programs, and the users root and ada, who is 1234.
func Shell(t testing.TB) Layer {
	t.Helper()
	l := Layer{}
	for _, path := range []string{"/bin/sh", "/bin/cat", "/bin/ls", "/usr/bin/id", "/usr/bin/stat", "/bin/rm"} {
		l.Program(t, path)
	}
	for _, name := range []string{"libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1", "libresolv.so.2", "libmvec.so.1"} { // of the same C library
		for _, dir := range []string{"/lib/x86_64-linux-gnu/", "/lib/aarch64-linux-gnu/", "/lib64/", "/usr/lib64/"} {
			if _, err := os.Stat(dir + name); err == nil {
				l.Program(t, dir+name)
				break
			}
		}
	}
	return l.File("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nada:x:1234:100:Ada:/home/ada:/bin/sh\n").File("etc/group", "root:x:0:\nusers:x:100:\n")
}

// Write returns the file of an image for this machine, called test/image:1, of layers, the lowest first.
func Write(t testing.TB, config Config, layers ...Layer) string {
	t.Helper()
	img := empty.Image
	for _, l := range layers {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for name, h := range l {
			text := ""
			if h.Typeflag == tar.TypeReg {
				text, h.Linkname = h.Linkname, ""
			}
			h.Name, h.Size = name, int64(len(text))
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(w, text); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		made, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }, tarball.WithCompressionLevel(gzip.BestSpeed))
		if err != nil {
			t.Fatal(err)
		}
		if img, err = mutate.AppendLayers(img, made); err != nil {
			t.Fatal(err)
		}
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", runtime.GOARCH, v1.Config{User: config.User, WorkingDir: config.WorkingDir, Env: config.Env}
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "image.tar")
	tag, err := name.NewTag("test/image:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(path, tag, img); err != nil {
		t.Fatal(err)
	}
	return path
}
