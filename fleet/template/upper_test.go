package template_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/fleet/template"
)

// upperOf returns the headers and contents of the archive of a directory.
func upperOf(t *testing.T, u template.Upper, dir string) (map[string]*tar.Header, map[string]string, error) {
	t.Helper()
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := u.Pack(t.Context(), w, root); err != nil {
		return nil, nil, err
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	headers, texts := map[string]*tar.Header{}, map[string]string{}
	for r := tar.NewReader(&b); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return headers, texts, nil
		}
		text, bad := io.ReadAll(r)
		if err = errors.Join(err, bad); err != nil {
			t.Fatal(err)
		}
		headers[h.Name], texts[h.Name] = h, string(text)
	}
}

// What a sandbox has changed of its root is a layer, with what is not there any more, whose what is, and nothing of the host.
func TestUpper(t *testing.T) {
	dir, outside := t.TempDir(), secretDir(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(
		os.MkdirAll(at("etc/deep"), 0o750), os.MkdirAll(at("home/ada"), 0o755), os.MkdirAll(at("tmp/x"), 0o755), os.Mkdir(at("new"), 0o755),
		os.WriteFile(at("etc/file"), []byte("text"), 0o640), os.Link(at("etc/file"), at("etc/same")), os.WriteFile(at("etc/hosts"), nil, 0o644),
		os.Symlink(outside, at("etc/out")), os.Symlink("/etc/shadow", at("shadow")), os.WriteFile(at("etc/.wh.x"), nil, 0o644),
		os.WriteFile(at("home/ada/mine"), nil, 0o4755), os.Chmod(at("home/ada/mine"), 0o755|os.ModeSetuid), os.WriteFile(at("home/adam"), nil, 0o644),
		unix.Mkfifo(at("fifo"), 0o644), unix.Mknod(at("etc/gone"), unix.S_IFCHR, 0), unix.Setxattr(at("new"), "user.overlay.opaque", []byte("y"), 0),
	); err != nil {
		t.Fatal(err)
	}
	u := template.Upper{
		FirstID: os.Geteuid() - 5, Leave: []string{"/tmp", "/etc/hosts"}, Theirs: []string{"/home/ada"}, UID: 1234, GID: 100, Size: 1000, Files: 100,
	}
	headers, texts, err := upperOf(t, u, dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name, h := range headers {
		names = append(names, name)
		want := 5
		if strings.HasPrefix(name, "home/ada/") {
			want = 1234
		}
		if !strings.Contains(name, ".wh.") && h.Uid != want {
			t.Errorf("%s is %d's, want %d's", name, h.Uid, want)
		}
	}
	slices.Sort(names)
	want := []string{"etc/", "etc/.wh.gone", "etc/deep/", "etc/file", "etc/out", "etc/same", "home/", "home/ada/", "home/ada/mine", "home/adam", "new/", "new/.wh..wh..opq", "shadow"}
	if !slices.Equal(names, want) {
		t.Errorf("there are %v, want %v", names, want)
	}
	if h := headers["etc/same"]; texts["etc/file"] != "text" || h.Typeflag != tar.TypeLink || h.Linkname != "etc/file" || headers["etc/file"].Mode != 0o640 {
		t.Errorf("got %q, %+v", texts, h)
	}
	if h := headers["etc/out"]; h.Typeflag != tar.TypeSymlink || h.Linkname != outside || headers["home/ada/mine"].Mode != 0o4755 {
		t.Errorf("got %+v", h)
	}
	if err := os.Truncate(at("etc/file"), 1<<40); err != nil { // with a hole
		t.Fatal(err)
	}
	if _, _, err := upperOf(t, u, dir); !errors.Is(err, template.ErrRefused) {
		t.Errorf("larger than its disk: %v", err)
	}
	u.Files = 3
	if _, _, err := upperOf(t, u, dir); !errors.Is(err, template.ErrRefused) {
		t.Errorf("too many files: %v", err)
	}
}

// One that is deeper than any layer is refused.
func TestUpperThatIsDeep(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	for i := 0; i < 300 && err == nil; i++ { // its path would be too long
		err = unix.Mkdirat(fd, "d", 0o755)
		next := -1
		if err == nil {
			next, err = unix.Openat(fd, "d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		}
		unix.Close(fd)
		fd = next
	}
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	if _, _, err := upperOf(t, template.Upper{Size: 1, Files: 1000}, dir); !errors.Is(err, template.ErrRefused) {
		t.Errorf("got %v", err)
	}
}
