package files_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/files"
)

// entry is an entry of an archive: a file, unless typ is another type.
type entry struct {
	name, text, link string
	typ              byte
	mode             int64
}

func pack(t *testing.T, entries ...entry) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Size: int64(len(e.text)), Linkname: e.link, Typeflag: e.typ, Mode: e.mode, ModTime: time.Unix(1e9, 0)}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		must(t, w.WriteHeader(h))
		_, err := io.WriteString(w, e.text)
		must(t, err)
	}
	must(t, w.Close())
	return &b
}

func TestArchiveThereAndBack(t *testing.T) {
	both(t, func(t *testing.T, root *files.Root, dir string, at func(string) string) {
		put(t, filepath.Join(dir, "from", "a", "f"), strings.Repeat("content", 100_000))
		put(t, filepath.Join(dir, "from", "b\xff"), "bytes")
		put(t, filepath.Join(dir, "from", strings.Repeat("n", 200), strings.Repeat("m", 200)), "long")
		must(t, os.Chmod(filepath.Join(dir, "from", "a", "f"), 0o750))
		must(t, os.Symlink("a/f", filepath.Join(dir, "from", "link")))
		must(t, os.Symlink("../b\xff", filepath.Join(dir, "from", "a", "up")))
		must(t, os.Link(filepath.Join(dir, "from", "a", "f"), filepath.Join(dir, "from", "hard")))
		must(t, os.Mkdir(filepath.Join(dir, "from", "closed"), 0o555))
		must(t, syscall.Mkfifo(filepath.Join(dir, "from", "fifo"), 0o600))
		when := time.Unix(1_500_000_000, 0)
		must(t, os.Chtimes(filepath.Join(dir, "from", "a", "f"), when, when))
		must(t, os.Chtimes(filepath.Join(dir, "from", "a"), when, when))

		write, err := root.Pack(at("from"))
		must(t, err)
		var archive bytes.Buffer
		zip := gzip.NewWriter(&archive)
		packed, err := write(t.Context(), zip)
		must(t, err)
		must(t, zip.Close())
		if packed.Skipped != 1 {
			t.Errorf("skipped %d", packed.Skipped)
		}
		done, err := root.Extract(t.Context(), at("new/to"), &archive, files.ExtractOptions{})
		must(t, err)
		if done.Entries != packed.Entries {
			t.Errorf("%+v of %+v", done, packed)
		}
		must(t, os.Remove(filepath.Join(dir, "from", "fifo")))
		if got, want := tree(t, filepath.Join(dir, "new", "to")), tree(t, filepath.Join(dir, "from")); !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		a, err := os.Stat(filepath.Join(dir, "new", "to", "hard"))
		must(t, err)
		b, err := os.Stat(filepath.Join(dir, "new", "to", "a", "f"))
		must(t, err)
		if !os.SameFile(a, b) || !b.ModTime().Equal(when) {
			t.Errorf("the hard link is another file, or of %v", b.ModTime())
		}
		if d, err := os.Stat(filepath.Join(dir, "new", "to", "a")); err != nil || !d.ModTime().Equal(when) {
			t.Errorf("the directory is of %v, %v", d.ModTime(), err)
		}
	})
}

// tree describes all that is below a directory.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		must(t, err)
		line := strings.TrimPrefix(path, dir) + " " + info.Mode().String()
		switch {
		case d.Type().IsRegular():
			text := content(t, path)
			line += " " + text[:min(20, len(text))] + time.Duration(len(text)).String()
		case d.Type()&os.ModeSymlink != 0:
			target, err := os.Readlink(path)
			must(t, err)
			line += " " + target
		}
		all = append(all, line)
		return nil
	}))
	return all
}

func TestHostileArchives(t *testing.T) {
	outside := t.TempDir()
	put(t, filepath.Join(outside, "secret"), "secret")
	for name, entries := range map[string][]entry{
		"double dots":            {{name: "../evil", text: "x"}},
		"double dots inside":     {{name: "a/../../evil", text: "x"}},
		"double dots that stay":  {{name: "a/../b", text: "x"}},
		"absolute":               {{name: outside + "/evil", text: "x"}},
		"link out":               {{name: "l", typ: tar.TypeSymlink, link: "../../x"}},
		"link out below":         {{name: "d/l", typ: tar.TypeSymlink, link: "../../x"}},
		"absolute link":          {{name: "l", typ: tar.TypeSymlink, link: outside}},
		"link by a link":         {{name: "a/b/c/l", typ: tar.TypeSymlink, link: "../../.."}, {name: "m", typ: tar.TypeSymlink, link: "a/b/c/l/.."}},
		"hard link out":          {{name: "h", typ: tar.TypeLink, link: "../secret"}},
		"absolute hard link":     {{name: "h", typ: tar.TypeLink, link: outside + "/secret"}},
		"hard link to a link":    {{name: "l", typ: tar.TypeSymlink, link: "f"}, {name: "h", typ: tar.TypeLink, link: "l"}},
		"hard link to nothing":   {{name: "h", typ: tar.TypeLink, link: "nothing"}},
		"hard link to a dir":     {{name: "d/", typ: tar.TypeDir}, {name: "h", typ: tar.TypeLink, link: "d"}},
		"hard link through link": {{name: "h", typ: tar.TypeLink, link: "out/secret"}},
		"device":                 {{name: "null", typ: tar.TypeChar}},
		"block device":           {{name: "disk", typ: tar.TypeBlock}},
		"fifo":                   {{name: "fifo", typ: tar.TypeFifo}},
		"nameless":               {{name: ".", text: "x"}},
		"sparse":                 {{name: "s", typ: tar.TypeGNUSparse}},
		"through a link":         {{name: "out/evil", text: "x"}},
		"dir over a link":        {{name: "out/", typ: tar.TypeDir}},
		"file over a dir":        {{name: "dir", text: "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			must(t, os.Symlink(outside, filepath.Join(b.dir, "out")))
			must(t, os.Mkdir(filepath.Join(b.dir, "dir"), 0o755))
			archive := rawPack(t, entries...)
			for _, root := range []*files.Root{b.confined, b.whole} {
				at := "/"
				if root == b.whole {
					at = b.dir
				}
				done, err := root.Extract(t.Context(), at, bytes.NewReader(archive), files.ExtractOptions{})
				if err == nil {
					t.Errorf("extracted %+v", done)
				}
				fails(t, err, err)
				t.Log(err)
			}
			only(t, outside, "secret")
			if got := content(t, filepath.Join(outside, "secret")); got != "secret" {
				t.Errorf("got %q", got)
			}
			for _, name := range []string{"evil", "m", "h", "null", "disk", "fifo"} {
				if _, err := os.Lstat(filepath.Join(b.dir, name)); err == nil {
					t.Errorf("there is %s", name)
				}
			}
		})
	}
}

// rawPack is pack for entries that tar.Writer would not write.
func rawPack(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, e := range entries {
		typ := e.typ
		sparse := typ == tar.TypeGNUSparse
		if sparse {
			e.typ = tar.TypeReg
		}
		one := pack(t, e).Bytes()
		one = one[:len(one)-1024] // the end
		if sparse {
			one[156] = typ
			copy(one[257:], "ustar  \x00") // GNU
			sum(one[:512])
		}
		b.Write(one)
	}
	b.Write(make([]byte, 1024))
	return b.Bytes()
}

// sum puts the checksum into a header.
func sum(h []byte) {
	copy(h[148:156], "        ")
	n := 0
	for _, c := range h {
		n += int(c)
	}
	copy(h[148:156], []byte{'0' + byte(n>>15&7), '0' + byte(n>>12&7), '0' + byte(n>>9&7), '0' + byte(n>>6&7), '0' + byte(n>>3&7), '0' + byte(n&7), 0, ' '})
}

func TestExtractReplacesFilesAndLinks(t *testing.T) {
	b := newBox(t)
	outside := filepath.Join(t.TempDir(), "f")
	put(t, outside, "outside")
	must(t, os.Symlink(outside, filepath.Join(b.dir, "f")))
	put(t, filepath.Join(b.dir, "l"), "old")
	put(t, filepath.Join(b.dir, "d", "keep"), "kept")
	archive := pack(t, entry{name: "f", text: "new", mode: 0o4755}, entry{name: "l", typ: tar.TypeSymlink, link: "f"}, entry{name: "./d/", typ: tar.TypeDir, mode: 0o700}, entry{name: "d/f", text: "x"})
	done, err := b.confined.Extract(t.Context(), "/", archive, files.ExtractOptions{})
	must(t, err)
	if done.Entries != 4 || done.Bytes != 4 {
		t.Errorf("got %+v", done)
	}
	info, err := os.Lstat(filepath.Join(b.dir, "f"))
	must(t, err)
	if info.Mode() != 0o755 || content(t, outside) != "outside" || content(t, filepath.Join(b.dir, "l")) != "new" {
		t.Errorf("mode %v, outside %q", info.Mode(), content(t, outside))
	}
	only(t, b.dir, "d", "f", "l")
	only(t, filepath.Join(b.dir, "d"), "f", "keep")

	// A virtual environment has absolute links.
	venv := pack(t, entry{name: "bin/python", typ: tar.TypeSymlink, link: "/usr/bin/python3"})
	_, err = b.confined.Extract(t.Context(), "/venv", bytes.NewReader(venv.Bytes()), files.ExtractOptions{})
	fails(t, err, files.ErrArchive)
	_, err = b.confined.Extract(t.Context(), "/venv", venv, files.ExtractOptions{Links: true})
	must(t, err)
}

func TestArchivesThatAreNone(t *testing.T) {
	b := newBox(t)
	good := pack(t, entry{name: "f", text: strings.Repeat("x", 10_000)}).Bytes()
	var zipped bytes.Buffer
	zip := gzip.NewWriter(&zipped)
	_, err := zip.Write(good)
	must(t, err)
	must(t, zip.Close())
	half := zipped.Bytes()[:zipped.Len()/2]
	flipped := bytes.Clone(zipped.Bytes())
	flipped[len(flipped)-6] ^= 0xff
	for name, raw := range map[string][]byte{
		"text": []byte(strings.Repeat("no archive ", 100)), "half": good[:len(good)/2], "half of gzip": half,
		"bad gzip": []byte("\x1f\x8b nothing of it"), "bad checksum": flipped,
	} {
		_, err := b.confined.Extract(t.Context(), "/in/"+name, bytes.NewReader(raw), files.ExtractOptions{})
		fails(t, err, files.ErrArchive)
	}
	done, err := b.confined.Extract(t.Context(), "/empty", bytes.NewReader(nil), files.ExtractOptions{})
	if err != nil || done.Entries != 0 {
		t.Errorf("an empty archive: %+v, %v", done, err)
	}
}

func TestAFileThatShrinksCutsTheArchive(t *testing.T) {
	b := newBox(t)
	put(t, filepath.Join(b.dir, "f"), strings.Repeat("x", 4<<20))
	write, err := b.confined.Pack("/")
	must(t, err)
	reader, writer := io.Pipe()
	failed := make(chan error)
	go func() {
		_, err := write(t.Context(), writer)
		writer.CloseWithError(err)
		failed <- err
	}()
	_, err = io.ReadFull(reader, make([]byte, 1000)) // it is being read
	must(t, err)
	must(t, os.Truncate(filepath.Join(b.dir, "f"), 1<<20))
	if _, err := io.Copy(io.Discard, reader); err == nil {
		t.Error("the archive has an end")
	}
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "shrank") {
		t.Errorf("got %v", err)
	}
}

// TestHeadersOfAnArchiveAreNotKept: a small archive can have large ones, many times.
func TestHeadersOfAnArchiveAreNotKept(t *testing.T) {
	b := newBox(t)
	from, to := io.Pipe()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	go func() {
		w, comment := tar.NewWriter(to), strings.Repeat("x", 900_000)
		for i := range 100 {
			if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("d%d/", i), Typeflag: tar.TypeDir, Mode: 0o755, PAXRecords: map[string]string{"K2.comment": comment}}); err != nil {
				to.CloseWithError(err)
				return
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		to.CloseWithError(w.Close())
	}()
	_, err := b.confined.Extract(t.Context(), "/", from, files.ExtractOptions{})
	must(t, err)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 32<<20 {
		t.Errorf("it holds %d bytes", grown)
	}
}

func TestAnArchiveThatFailsHalfWay(t *testing.T) {
	b := newBox(t)
	for _, bad := range []entry{{name: strings.Repeat("n", 300), text: "x"}, {name: "l", typ: tar.TypeSymlink, link: strings.Repeat("l", 5000)}} {
		_, err := b.confined.Extract(t.Context(), "/", pack(t, entry{name: "d/", typ: tar.TypeDir, mode: 0o750}, bad), files.ExtractOptions{})
		fails(t, err, files.ErrArchive)
		if errors.Is(err, files.ErrPath) {
			t.Error(err)
		}
		info, err := os.Stat(filepath.Join(b.dir, "d"))
		must(t, err)
		if info.Mode().Perm() != 0o750 {
			t.Errorf("mode %v", info.Mode())
		}
	}
}
