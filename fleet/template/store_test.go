package template_test

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/fleet/template"
)

// small returns an image of some layers, each of one file, whose content makes them different.
func small(t *testing.T, contents ...string) v1.Image {
	t.Helper()
	var all [][]byte
	for i, text := range contents {
		all = append(all, archive(t, file(string(rune('a'+i)), text)))
	}
	return image(t, v1.Config{}, all...)
}

func TestLayersLieOverEachOther(t *testing.T) {
	s, _ := open(t, template.Limits{})
	img := image(t, v1.Config{},
		archive(t, dir("etc", 0o755), file("etc/kept", "low"), file("etc/changed", "low"), file("etc/gone", "low"), dir("opaque", 0o755), file("opaque/low", "low"),
			dir("replaced", 0o755), file("replaced/low", "low"), symlink("lib", "usr/lib"), dir("usr/lib", 0o755), file("usr/lib/libc", "low"), symlink("abs", "/etc/kept"),
			symlink("up", "../../../../etc/kept"), symlink("loop", "loop"), dir("tree", 0o755), file("tree/low", "low")),
		archive(t, file("etc/changed", "high"), file("etc/.wh.gone", ""), file("opaque/high", "high"), file("opaque/.wh..wh..opq", ""), file(".wh.replaced", ""),
			dir("replaced", 0o755), file("replaced/high", "high"), file(".wh.tree", ""), file("tree", "a file now")),
		archive(t, file("etc/same", "first"), file("etc/same", "second"), hardlink("etc/linked", "etc/same"), symlink("etc/swapped", "/nowhere"), dir("etc/swapped", 0o755),
			file("etc/swapped/in", "it"), file("etc/.wh.later", ""), file("etc/later", "there")),
	)
	got, err := s.Import(t.Context(), saved(t, img), template.Options{Name: "mine"})
	if err != nil {
		t.Fatal(err)
	}
	v := s.View(got)
	for path, want := range map[string]string{
		"/etc/kept": "low", "/etc/changed": "high", "/opaque/high": "high", "/replaced/high": "high", "/lib/libc": "low", "/abs": "low", "/up": "low", "/tree": "a file now",
		"/etc/same": "second", "/etc/linked": "second", "/etc/swapped/in": "it", "/etc/later": "there", "etc/../etc/kept": "low",
	} {
		if text, err := v.Read(path, 100); err != nil || string(text) != want {
			t.Errorf("%s: %q, %v, want %q", path, text, err, want)
		}
	}
	for _, path := range []string{"/etc/gone", "/opaque/low", "/replaced/low", "/tree/low", "/loop", "/none"} {
		if text, err := v.Read(path, 100); err == nil {
			t.Errorf("%s is there: %q", path, text)
		}
	}
	if names := v.Names("/etc", "", 100); !slices.Equal(names, []string{"changed", "kept", "later", "linked", "same", "swapped"}) {
		t.Errorf("/etc has %v", names)
	}
	var one, two unix.Stat_t
	top := s.FS(got.Layers[2])
	if err := errors.Join(unix.Stat(top+"/etc/same", &one), unix.Stat(top+"/etc/linked", &two)); err != nil || one.Ino != two.Ino {
		t.Errorf("a hard link is another file: %v", err)
	}
}

func TestConfigurationIsApplied(t *testing.T) {
	users := archive(t, file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nada:x:1234:100:Ada:/home/ada:/bin/sh\nodd:x:77:0::relative:\nbroken\n"),
		file("etc/group", "users:x:100:\nstaff:x:50:ada\n"))
	for user, want := range map[string]struct {
		uid, gid int
		home     string
	}{
		"": {}, "root": {}, "0": {}, "0:0": {}, "ada": {1234, 100, "/home/ada"}, "1234": {1234, 100, "/home/ada"}, "ada:staff": {1234, 50, "/home/ada"},
		"4321": {4321, 4321, ""}, "4321:7": {4321, 7, ""}, "odd": {77, 77, ""},
	} {
		s, _ := open(t, template.Limits{})
		got, err := s.Import(t.Context(), saved(t, image(t, v1.Config{User: user, WorkingDir: "srv/../app/", Env: []string{"A=b=c"}}, users)), template.Options{})
		if err != nil {
			t.Errorf("user %q: %v", user, err)
			continue
		}
		if got.UID != want.uid || got.GID != want.gid || got.Home != want.home || got.Workdir != "/app" || !slices.Equal(got.Env, []string{"A=b=c"}) {
			t.Errorf("user %q: %+v", user, got)
		}
	}
	s, _ := open(t, template.Limits{})
	if got, err := s.Import(t.Context(), saved(t, image(t, v1.Config{User: "eve"}, users)), template.Options{}); err == nil {
		t.Errorf("a user whom nobody knows is %+v", got)
	}
}

func TestWhatRunsProgramsIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		files  []entry
		libc   string
		python string
	}{
		"nothing":                    {[]entry{file("a", "")}, " 0.0", ""},
		"glibc":                      {[]entry{file("lib/x86_64-linux-gnu/libc.so.6", "GLIBC_2.2.5 GLIBC_2.36 GLIBC_2.4 GLIBC_PRIVATE"), file("lib/aarch64-linux-gnu/libc.so.6", "GLIBC_2.36")}, "glibc 2.36", ""},
		"glibc by a link":            {[]entry{symlink("lib64", "usr/lib64"), file("usr/lib64/libc.so.6", "GLIBC_2.17")}, "glibc 2.17", ""},
		"musl":                       {[]entry{file("lib/ld-musl-x86_64.so.1", ""), file("lib/ld-musl-aarch64.so.1", "")}, "musl 0.0", ""},
		"Python":                     {[]entry{file("usr/bin/python3", ""), dir("usr/lib/python3.11/site-packages", 0o755)}, " 0.0", ""},
		"with ipykernel":             {[]entry{symlink("usr/local/bin/python3", "python3.12"), file("usr/local/bin/python3.12", ""), dir("usr/local/lib/python3.12/site-packages/ipykernel", 0o755)}, " 0.0", "/usr/local/bin/python3"},
		"and it is removed":          {[]entry{file("usr/local/bin/python3", ""), dir("usr/local/lib/python3.12/site-packages", 0o755), file("usr/local/lib/python3.12/site-packages/.wh.ipykernel", "")}, " 0.0", ""},
		"a cycle of links":           {[]entry{symlink("usr/bin", "../usr/bin"), symlink("lib", "lib")}, " 0.0", ""},
		"a C library that is a FIFO": {[]entry{special("lib/libc.so.6", tar.TypeFifo, 0, 0)}, " 0.0", ""},
	} {
		s, _ := open(t, template.Limits{})
		got, err := s.Import(t.Context(), saved(t, image(t, v1.Config{}, archive(t, c.files...))), template.Options{})
		if libc := got.Libc.Name + " " + got.Libc.Version.String(); err != nil || libc != c.libc || got.Python != c.python {
			t.Errorf("%s: libc %q, Python %q, error %v", name, libc, got.Python, err)
		}
	}
}

func TestImportFormats(t *testing.T) {
	img := small(t, "one", "two")
	dir := filepath.Join(t.TempDir(), "layout")
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	other := v1.Platform{OS: "linux", Architecture: "riscv64"}
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img}, mutate.IndexAddendum{Add: small(t, "other"), Descriptor: v1.Descriptor{Platform: &other}})
	if err := l.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "named:1"})); err != nil {
		t.Fatal(err)
	}
	zipped := filepath.Join(t.TempDir(), "image.tar.gz")
	plain, err := os.ReadFile(saved(t, img))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(zipped, compressed(t, plain), 0o600); err != nil {
		t.Fatal(err)
	}
	s, store := open(t, template.Limits{})
	for path, name := range map[string]string{saved(t, img): "test/image:1", zipped: "test/image:1", dir: "named:1", packed(t, dir): "named:1"} {
		got, err := s.Import(t.Context(), path, template.Options{})
		if err != nil || got.Name != name || len(got.Layers) != 2 {
			t.Errorf("%s: %+v, %v", path, got, err)
		}
	}
	if found := layers(t, store); len(found) != 2 {
		t.Errorf("there are %d layers of the same image", len(found))
	}
	if all, err := s.List(); err != nil || len(all) != 2 {
		t.Errorf("there are %v, %v", all, err)
	}
	for _, path := range []string{"/dev/null", "/nonexistent", t.TempDir(), os.Args[0]} {
		if got, err := s.Import(t.Context(), path, template.Options{}); err == nil {
			t.Errorf("%s: %+v", path, got)
		}
	}
	for _, name := range []string{"k2sandbox/python:latest", "default", "a b", "../x", strings.Repeat("x", 256)} {
		if got, err := s.Import(t.Context(), zipped, template.Options{Name: name}); err == nil {
			t.Errorf("name %q: %+v", name, got)
		}
	}
	unfinished(t, store)
}

// packed returns an archive of a directory.
func packed(t *testing.T, root string) string {
	t.Helper()
	var all []entry
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel(root, path)
		all = append(all, file(name, string(text)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "layout.tar")
	if err := os.WriteFile(path, archive(t, all...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// blobs counts what is fetched from a registry, by digest.
type blobs struct {
	mu    sync.Mutex
	count map[string]int
}

func (b *blobs) before(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, digest, ok := strings.Cut(r.URL.Path, "/blobs/"); ok && r.Method == http.MethodGet {
			b.mu.Lock()
			if b.count == nil {
				b.count = map[string]int{}
			}
			b.count[digest]++
			b.mu.Unlock()
		}
		next.ServeHTTP(w, r)
	})
}

func (b *blobs) of(t *testing.T, img v1.Image) (counts []int) {
	t.Helper()
	all, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range all {
		digest, err := l.Digest()
		if err != nil {
			t.Fatal(err)
		}
		counts = append(counts, b.count[digest.String()])
	}
	return counts
}

func TestPull(t *testing.T) {
	fetched := &blobs{}
	host := serve(t, fetched.before)
	img := small(t, "one", "two")
	push(t, host+"/some/image:1", img)
	s, _ := open(t, template.Limits{})
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Pull(t.Context(), host+"/some/image:1", template.Options{Name: "mine"})
	if err != nil || got.Name != "mine" || got.Source != host+"/some/image@"+digest.String() || len(got.Layers) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	again, err := s.Pull(t.Context(), host+"/some/image@"+digest.String(), template.Options{})
	if err != nil || again.ID != got.ID {
		t.Errorf("by its digest: %+v, %v", again, err)
	}
	if counts := fetched.of(t, img); !slices.Equal(counts, []int{1, 1}) {
		t.Errorf("the layers were fetched %v times", counts)
	}
	for _, reference := range []string{host + "/some/image:2", host + "/other:1", "127.0.0.1:1/a:1", "UPPER CASE", "", host + "/some/image@sha256:" + strings.Repeat("0", 64)} {
		if got, err := s.Pull(t.Context(), reference, template.Options{Name: "other"}); err == nil {
			t.Errorf("%q: %+v", reference, got)
		}
	}
}

func TestPullWithZstandard(t *testing.T) {
	host := serve(t, nil)
	plain := archive(t, file("a", "in a layer by Zstandard"))
	img, err := mutate.Append(image(t, v1.Config{}, archive(t, file("b", "x"))), mutate.Addendum{Layer: zstandard(t, plain), MediaType: types.OCILayerZStd})
	if err != nil {
		t.Fatal(err)
	}
	push(t, host+"/image:1", img)
	s, _ := open(t, template.Limits{})
	got, err := s.Pull(t.Context(), host+"/image:1", template.Options{Name: "mine"})
	if err != nil {
		t.Fatal(err)
	}
	if text, err := s.View(got).Read("/a", 100); err != nil || string(text) != "in a layer by Zstandard" {
		t.Errorf("%q, %v", text, err)
	}
}

// Credentials are those of Docker's configuration.
func TestPullWithCredentials(t *testing.T) {
	host := serve(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if user, password, ok := r.BasicAuth(); !ok || user != "ada" || password != "secret" {
				w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	push(t, host+"/image:1", small(t, "one"), remote.WithAuth(&authn.Basic{Username: "ada", Password: "secret"}))
	s, _ := open(t, template.Limits{})
	config := t.TempDir()
	t.Setenv("DOCKER_CONFIG", config)
	if got, err := s.Pull(t.Context(), host+"/image:1", template.Options{Name: "mine"}); err == nil {
		t.Fatalf("pulled without a password: %+v", got)
	}
	if err := os.WriteFile(filepath.Join(config, "config.json"), []byte(`{"auths":{"`+host+`":{"username":"ada","password":"secret"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Pull(t.Context(), host+"/image:1", template.Options{Name: "mine"}); err != nil {
		t.Error(err)
	}
}

// A registry that goes down half-way costs no layer that was there.
func TestPullGoesOn(t *testing.T) {
	fetched, down := &blobs{}, atomic.Bool{}
	img := small(t, "one", "two", strings.Repeat("three", 1000))
	all, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	last, err := all[2].Digest()
	if err != nil {
		t.Fatal(err)
	}
	host := serve(t, func(next http.Handler) http.Handler {
		return fetched.before(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if down.Load() && strings.HasSuffix(r.URL.Path, last.String()) {
				w.Header().Set("Content-Length", "1000")
				_, _ = io.WriteString(w, "half")
				return
			}
			next.ServeHTTP(w, r)
		}))
	})
	push(t, host+"/image:1", img)
	s, store := open(t, template.Limits{})
	down.Store(true)
	if got, err := s.Pull(t.Context(), host+"/image:1", template.Options{Name: "mine"}); err == nil {
		t.Fatalf("pulled %+v", got)
	}
	unfinished(t, store)
	down.Store(false)
	if _, err := s.Pull(t.Context(), host+"/image:1", template.Options{Name: "mine"}); err != nil {
		t.Fatal(err)
	}
	if counts := fetched.of(t, img); counts[0] != 1 || counts[1] != 1 {
		t.Errorf("the layers were fetched %v times", counts)
	}
}

// Of two who pull the same image at once each layer is fetched by one.
func TestPullTwiceAtOnce(t *testing.T) {
	fetched, first, both := &blobs{}, make(chan struct{}), make(chan struct{})
	img := small(t, "one", "two")
	var once sync.Once
	host := serve(t, func(next http.Handler) http.Handler {
		return fetched.before(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/blobs/sha256:") && r.Method == http.MethodGet {
				once.Do(func() { close(first) })
				<-both
			}
			next.ServeHTTP(w, r)
		}))
	})
	push(t, host+"/image:1", img)
	s, store := open(t, template.Limits{})
	other := template.Open(store, template.Limits{}) // as another process has it
	results := make(chan error, 2)
	pull := func(s *template.Store, name string) {
		_, err := s.Pull(t.Context(), host+"/image:1", template.Options{Name: name})
		results <- err
	}
	go pull(s, "mine")
	<-first
	go pull(other, "other")
	close(both)
	if err := errors.Join(<-results, <-results); err != nil {
		t.Fatal(err)
	}
	if counts := fetched.of(t, img); !slices.Equal(counts, []int{1, 1}) {
		t.Errorf("the layers were fetched %v times", counts)
	}
	if all, err := s.List(); err != nil || len(all) != 2 {
		t.Errorf("there are %v, %v", all, err)
	}
}

// Layers go with the last who uses them.
func TestCollect(t *testing.T) {
	s, dir := open(t, template.Limits{})
	one, err := s.Import(t.Context(), saved(t, small(t, "shared", "one")), template.Options{Name: "one"})
	if err != nil {
		t.Fatal(err)
	}
	two, err := s.Import(t.Context(), saved(t, small(t, "shared", "two")), template.Options{Name: "two:latest"})
	if err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	user := s.User("server", state)
	count := func(want int, when string) {
		t.Helper()
		if found := layers(t, dir); len(found) != want {
			t.Errorf("%s: there are %d layers, want %d", when, len(found), want)
		}
	}
	count(3, "of two templates")
	if err := errors.Join(user.Hold(t.Context(), "box", one), s.Remove(t.Context(), "one")); err != nil {
		t.Fatal(err)
	}
	count(3, "one is removed, and used")
	if _, err := s.Get("one"); !errors.Is(err, template.ErrNotFound) {
		t.Errorf("what was removed: %v", err)
	}
	if err := user.Release("box"); err != nil {
		t.Fatal(err)
	}
	count(2, "nobody uses it")
	if err := user.Hold(t.Context(), "late", one); !errors.Is(err, template.ErrNotFound) {
		t.Errorf("what was removed can be used: %v", err)
	}
	if got, err := s.Get("two"); err != nil || got.ID != two.ID {
		t.Errorf("without its tag: %+v, %v", got, err)
	}
	if err := errors.Join(user.Hold(t.Context(), "box", two), s.Remove(t.Context(), "two:latest"), user.Keep(map[string]bool{"box": true})); err != nil {
		t.Fatal(err)
	}
	count(2, "kept")
	if err := errors.Join(os.RemoveAll(state), s.Collect()); err != nil {
		t.Fatal(err)
	}
	count(0, "the server is gone with all that it had")
	if _, err := s.Import(t.Context(), saved(t, small(t, "a")), template.Options{Name: "again"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Import(t.Context(), saved(t, small(t, "b")), template.Options{Name: "again"}); err != nil {
		t.Fatal(err)
	}
	count(1, "a name stands for another image")
	if err := s.Remove(t.Context(), "none"); !errors.Is(err, template.ErrNotFound) {
		t.Errorf("what never was: %v", err)
	}
}

func TestPullEndsWithItsContext(t *testing.T) {
	asked, ctx := make(chan struct{}), t.Context()
	ctx, cancel := context.WithCancel(ctx)
	img := small(t, "one")
	var once sync.Once
	var hang atomic.Bool
	host := serve(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if hang.Load() && strings.Contains(r.URL.Path, "/blobs/") {
				once.Do(func() { close(asked) })
				<-r.Context().Done()
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	push(t, host+"/image:1", img)
	hang.Store(true)
	s, store := open(t, template.Limits{})
	done := make(chan error, 1)
	go func() {
		_, err := s.Pull(ctx, host+"/image:1", template.Options{Name: "mine"})
		done <- err
	}()
	<-asked
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	unfinished(t, store)
}
