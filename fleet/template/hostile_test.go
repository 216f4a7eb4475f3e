package template_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/fleet/template"
)

var nobodysLog = log.New(io.Discard, "", 0)

func with(e entry, change func(*tar.Header)) entry {
	change(&e.Header)
	return e
}

// refused are archives that want what they may not.
func refused(outside string) map[string][]entry {
	deep := strings.Repeat("d/", 300) + "f"
	return map[string][]entry{
		"a name that climbs out":                       {file("../outside/new", "x")},
		"a name that climbs out from within":           {dir("a", 0o755), file("a/b/../../../outside/new", "x")},
		"a name that climbs and returns":               {dir("a", 0o755), file("a/../b", "x")},
		"a directory that climbs out":                  {dir("../outside/newdir", 0o755)},
		"a symlink whose name climbs out":              {symlink("../outside/link", "secret")},
		"a file below a relative symlink":              {symlink("a", "../../../outside"), file("a/new", "x")},
		"a file below an absolute symlink":             {symlink("a", outside), file("a/new", "x")},
		"a file below a symlink to a directory within": {dir("real", 0o755), symlink("a", "real"), file("a/new", "x")},
		"a directory below a symlink":                  {symlink("a", outside), dir("a/new", 0o755)},
		"a symlink below a symlink":                    {symlink("a", outside), symlink("a/new", "x")},
		"a symlink through two symlinks":               {symlink("b", outside), symlink("a", "b"), file("a/new", "x")},
		"a file below a file":                          {file("a", "x"), file("a/new", "x")},
		"a whiteout below a symlink":                   {symlink("a", outside), file("a/.wh.secret", "")},
		"an opaque mark below a symlink":               {symlink("a", outside), file("a/.wh..wh..opq", "")},
		"a hard link to outside":                       {hardlink("a", "../outside/secret")},
		"a hard link to an absolute path outside":      {hardlink("a", outside+"/secret")},
		"a hard link through a symlink":                {symlink("a", outside), hardlink("b", "a/secret")},
		"a hard link to a directory":                   {dir("a", 0o755), hardlink("b", "a")},
		"a hard link to nothing":                       {hardlink("b", "a")},
		"a hard link to itself":                        {file("a", "x"), hardlink("a", "a")},
		"a hard link to the root":                      {hardlink("a", "/")},
		"a hard link to a whiteout":                    {file(".wh.a", ""), hardlink("b", "a")},
		"a disk":                                       {special("sda", tar.TypeBlock, 8, 0)},
		"a memory device":                              {special("etc/mem", tar.TypeChar, 1, 1)},
		"overlayfs's own whiteout":                     {special("etc/passwd", tar.TypeChar, 0, 0)},
		"a whiteout of the parent":                     {dir("a", 0o755), file("a/.wh...", "")},
		"a whiteout of the directory itself":           {dir("a", 0o755), file("a/.wh..", "")},
		"a whiteout of nothing":                        {file("a/.wh.", "")},
		"a file below a whiteout":                      {file(".wh.a/b", "x")},
		"a root that is a symlink":                     {symlink("/", outside)},
		"a root that is a file":                        {file(".", "x")},
		"an opaque root":                               {file(".wh..wh..opq", "")},
		"a directory replaced by a symlink":            {dir("a", 0o755), file("a/b", "x"), symlink("a", outside), file("a/new", "x")},
		"a file of an unknown type":                    {special("a", 'Z', 0, 0)},
		"a file that is too deep":                      {file(deep, "x")},
		"directories that are too deep":                {dir(deep+"/", 0o755)},
		"a name that is too long":                      {file(strings.Repeat("n", 300), "x")},
		"a path that is too long":                      {file(strings.Repeat(strings.Repeat("n", 200)+"/", 25)+"f", "x")},
		"an empty symlink":                             {symlink("a", "")},
		"a symlink that is too long":                   {symlink("a", strings.Repeat("n/", 3000))},
	}
}

// A hostile archive is refused as a whole, and nothing outside of the store changes.
func TestHostileArchivesAreRefused(t *testing.T) {
	outside := secretDir(t)
	for name, entries := range refused(outside) {
		t.Run(name, func(t *testing.T) {
			s, dir := open(t, template.Limits{})
			got, err := s.Import(t.Context(), saved(t, image(t, v1.Config{}, archive(t, entries...))), template.Options{})
			if !errors.Is(err, template.ErrRefused) {
				t.Errorf("imported %+v, error %v", got, err)
			}
			if err := s.Collect(); err != nil {
				t.Error(err)
			}
			if found := layers(t, dir); len(found) > 0 {
				t.Errorf("there are layers: %v", found)
			}
			unfinished(t, dir)
		})
	}
	intact(t, outside)
}

// Bombs are refused by the limits, and take no more than these.
func TestBombsAreRefused(t *testing.T) {
	limits := template.Limits{Size: 1 << 20, Files: 50, Layers: 3}
	small := archive(t, file("a", "x"))
	many := make([]entry, 60)
	for i := range many {
		many[i] = file(strings.Repeat("f", i+1), "")
	}
	implied := make([]entry, 20) // each of whose names stands for several directories
	for i := range implied {
		implied[i] = file(strings.Repeat("a", i+1)+"/b/c/d", "")
	}
	half := strings.Repeat("x", 700<<10)
	trailing := append(archive(t, file("a", "x")), make([]byte, 8<<20)...)
	for name, img := range map[string]v1.Image{
		"one large file":                    image(t, v1.Config{}, archive(t, file("a", strings.Repeat("x", 2<<20)))),
		"two files":                         image(t, v1.Config{}, archive(t, file("a", half), file("b", half))),
		"the same file over and over":       image(t, v1.Config{}, archive(t, file("a", half), file("a", half))),
		"two layers":                        image(t, v1.Config{}, archive(t, file("a", half)), archive(t, file("b", half))),
		"many files":                        image(t, v1.Config{}, archive(t, many...)),
		"many directories that are implied": image(t, v1.Config{}, archive(t, implied...)),
		"many layers":                       image(t, v1.Config{}, small, archive(t, file("b", "")), archive(t, file("c", "")), archive(t, file("d", ""))),
		"what comes behind the archive":     image(t, v1.Config{}, trailing),
		"no layers":                         image(t, v1.Config{}),
		"a large environment":               image(t, v1.Config{Env: []string{"A=" + strings.Repeat("x", 1<<20)}}, small),
		"a variable without a name":         image(t, v1.Config{Env: []string{"=x"}}, small),
		"a user beyond those of sandboxes":  image(t, v1.Config{User: "4000000000"}, small),
	} {
		t.Run(name, func(t *testing.T) {
			s, dir := open(t, limits)
			if got, err := s.Import(t.Context(), saved(t, img), template.Options{}); !errors.Is(err, template.ErrRefused) {
				t.Errorf("imported %+v, error %v", got, err)
			}
			if all, _ := s.List(); len(all) > 0 {
				t.Errorf("there are templates: %v", all)
			}
			unfinished(t, dir)
		})
	}
}

// What gives a program or a file powers, or could name something of the host's, is left out of the layer.
func TestPowersAreLeftOut(t *testing.T) {
	outside := secretDir(t)
	s, _ := open(t, template.Limits{})
	xattrs := map[string]string{
		"SCHILY.xattr.security.capability":    "\x01\x00\x00\x02\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		"SCHILY.xattr.user.overlay.redirect":  "/etc",
		"SCHILY.xattr.user.overlay.opaque":    "y",
		"SCHILY.xattr.trusted.overlay.opaque": "y",
	}
	img := image(t, v1.Config{}, archive(t,
		special("dev/sda", tar.TypeBlock, 8, 0), special("dev/null", tar.TypeChar, 1, 3), special("run/pipe", tar.TypeFifo, 0, 0),
		with(file("su", "x"), func(h *tar.Header) { h.Mode = 0o6755 }),
		with(dir("shared", 0o755), func(h *tar.Header) { h.Mode = 0o7777 }),
		with(file("ping", "x"), func(h *tar.Header) { h.PAXRecords = xattrs }),
		with(dir("lower", 0o755), func(h *tar.Header) { h.PAXRecords = xattrs }),
		with(file("far", "x"), func(h *tar.Header) { h.Uid, h.Gid = 4_000_000, 1 }),
		with(file("old", "x"), func(h *tar.Header) { h.Format, h.ModTime = tar.FormatPAX, h.ModTime.AddDate(-300, 0, 0) }),
		symlink("absolute", outside), symlink("relative", "../../../../outside/secret"),
		file("/rooted", "below the layer's root"), file(".wh..wh.plnk/1.2", "x"), file(".wh..wh.aufs", ""),
	))
	got, err := s.Import(t.Context(), saved(t, img), template.Options{})
	if err != nil {
		t.Fatal(err)
	}
	left := got.LeftOut()
	if left.Devices != 3 || left.SetID != 2 || left.Xattrs != 8 || left.Owners != 1 {
		t.Errorf("left out %+v", left)
	}
	root := s.FS(got.Layers[0])
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if info, _ := d.Info(); info.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeDevice|fs.ModeNamedPipe) != 0 {
			t.Errorf("%s has the mode %v", path, info.Mode())
		}
		if n, err := unix.Llistxattr(path, nil); err == nil && n > 0 {
			t.Errorf("%s has extended attributes", path)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(filepath.Join(root, "rooted")); err != nil || string(text) != "below the layer's root" {
		t.Errorf("rooted: %q, %v", text, err)
	}
	for _, name := range []string{".wh..wh.plnk", ".wh..wh.aufs", "dev/sda", "run/pipe"} {
		if _, err := os.Lstat(filepath.Join(root, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there: %v", name, err)
		}
	}
	intact(t, outside)
}

// Digests are those of the content, whatever names it.
func TestDigestsAreChecked(t *testing.T) {
	right := archive(t, file("a", "right"))
	img := image(t, v1.Config{}, right)
	for name, change := range map[string]func(path string, h *tar.Header, text []byte) []byte{
		"a layer of another content": func(path string, h *tar.Header, text []byte) []byte {
			if strings.HasSuffix(path, ".tar.gz") {
				return compressed(t, archive(t, file("a", "wrong")))
			}
			return text
		},
		"a layer that is cut": func(path string, h *tar.Header, text []byte) []byte {
			if strings.HasSuffix(path, ".tar.gz") {
				return text[:len(text)/2]
			}
			return text
		},
		"a configuration of no sense": func(path string, h *tar.Header, text []byte) []byte {
			if strings.HasPrefix(path, "sha256:") {
				return []byte("{}")
			}
			return text
		},
		"a configuration of another machine": func(path string, h *tar.Header, text []byte) []byte {
			if strings.HasPrefix(path, "sha256:") {
				return bytes.ReplaceAll(text, []byte(`"linux"`), []byte(`"plan9"`))
			}
			return text
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, dir := open(t, template.Limits{})
			path := rewritten(t, saved(t, img), change)
			if got, err := s.Import(t.Context(), path, template.Options{}); err == nil {
				t.Errorf("imported %+v", got)
			}
			if found := layers(t, dir); len(found) > 0 {
				t.Errorf("there are layers: %v", found)
			}
			unfinished(t, dir)
		})
	}
}

func compressed(t *testing.T, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// rewritten changes the files of an archive.
func rewritten(t *testing.T, path string, change func(path string, h *tar.Header, text []byte) []byte) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []entry
	for entries := tar.NewReader(f); ; {
		h, err := entries.Next()
		if err != nil {
			break
		}
		text, err := io.ReadAll(entries)
		if err != nil {
			t.Fatal(err)
		}
		text = change(h.Name, h, text)
		h.Size = int64(len(text))
		all = append(all, entry{*h, string(text)})
	}
	path = filepath.Join(t.TempDir(), "changed.tar")
	if err := os.WriteFile(path, archive(t, all...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// secretDir is a directory that archives try to reach: they are unpacked elsewhere.
func secretDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "outside")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "secret"), []byte("secret"), 0o600)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func intact(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("in the directory outside there are %v, %v", entries, err)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "secret"), &st); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(filepath.Join(dir, "secret")); string(text) != "secret" || st.Nlink != 1 || st.Mode&0o7777 != 0o600 {
		t.Errorf("the file outside is %q with %d links and the mode %o", text, st.Nlink, st.Mode)
	}
}
