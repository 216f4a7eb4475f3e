package files_test

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/k2sandbox/k2sandbox/files"
)

// FuzzExtract extracts what it is given next to a file, and through a link to its
// directory, that must stay as they are.
func FuzzExtract(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x1f\x8b"))
	for _, entries := range [][]entry{
		{{name: "f", text: "x"}, {name: "d/", typ: tar.TypeDir}, {name: "d/l", typ: tar.TypeSymlink, link: "../f"}, {name: "h", typ: tar.TypeLink, link: "f"}},
		{{name: "l", typ: tar.TypeSymlink, link: ".."}, {name: "l/secret", text: "x"}},
		{{name: "../secret", text: "x"}},
		{{name: "out/secret", text: "x"}},
		{{name: "h", typ: tar.TypeLink, link: "../secret"}, {name: "h", text: "x"}},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, e := range entries {
			if err := w.WriteHeader(&tar.Header{Name: e.name, Size: int64(len(e.text)), Linkname: e.link, Typeflag: e.typ, Mode: 0o755}); err != nil {
				f.Fatal(err)
			}
			if _, err := w.Write([]byte(e.text)); err != nil {
				f.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		dir := t.TempDir()
		secret := filepath.Join(dir, "secret")
		put(t, secret, "secret")
		must(t, os.Mkdir(filepath.Join(dir, "in"), 0o755))
		must(t, os.Symlink("..", filepath.Join(dir, "in", "out")))
		root := openRoot(t, "", dir)
		for _, links := range []bool{false, true} {
			_, err := root.Extract(t.Context(), dir+"/in", bytes.NewReader(raw), files.ExtractOptions{Links: links})
			if err != nil {
				fails(t, err, err)
			}
		}
		only(t, dir, "in", "secret")
		if got := content(t, secret); got != "secret" {
			t.Errorf("got %q", got)
		}
		if info, err := os.Stat(secret); err != nil || info.Mode() != 0o644 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	})
}
