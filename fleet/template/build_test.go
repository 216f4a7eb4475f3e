package template_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/k2sandbox/k2sandbox/fleet/template"
)

// grafted returns an archive of a layer with what is in others, below a directory.
func grafted(t *testing.T, dir string, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := errors.Join(template.Graft(w, dir, bytes.NewReader(archive(t, entries...)), 1234, 100), w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestBuild(t *testing.T) {
	s, store := open(t, template.Limits{})
	base, err := s.Import(t.Context(), saved(t, small(t, "one", "two")), template.Options{Name: "mine"})
	if err != nil {
		t.Fatal(err)
	}
	base.Name, base.Build = "built", &template.Build{Base: "mine", Key: "k"}
	base.Env = append(base.Env, "X=y")
	layer := grafted(t, "/home/ada/", dir("d", 0o750), file("d/f", "text"), symlink("l", "/etc/passwd"), hardlink("h", "d/f"), file(".wh.x", ""), special("pipe", tar.TypeFifo, 0, 0))
	built, err := s.Extend(t.Context(), base, bytes.NewReader(layer))
	if err != nil {
		t.Fatal(err)
	}
	if len(built.Layers) != 3 || built.ID == base.ID || len(layers(t, store)) != 3 {
		t.Errorf("got %+v", built)
	}
	at := filepath.Join(s.FS(built.Layers[2]), "home/ada")
	for name, want := range map[string]string{"d/f": "text", "h": "text"} {
		if text, err := os.ReadFile(filepath.Join(at, name)); err != nil || string(text) != want {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	if target, err := os.Readlink(filepath.Join(at, "l")); err != nil || target != "/etc/passwd" {
		t.Errorf("a link leads to %q, %v", target, err)
	}
	if entries, err := os.ReadDir(at); err != nil || len(entries) != 3 {
		t.Errorf("there are %v, %v", entries, err)
	}
	if got, err := s.Get("built"); err != nil || got.Build.Key != "k" || got.Env[len(got.Env)-1] != "X=y" {
		t.Errorf("got %+v, %v", got, err)
	}
	found, err := s.Built("k")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.Rename(t.Context(), found, "again"); err != nil || again.ID != built.ID {
		t.Errorf("got %+v, %v", again, err)
	}
	for _, name := range []string{"built", "mine"} {
		if err := s.Remove(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
	if left := layers(t, store); len(left) != 3 {
		t.Errorf("of the one that is left there are %v", left)
	}
	if err := s.Remove(t.Context(), "again"); err != nil || len(layers(t, store)) != 0 {
		t.Errorf("left behind: %v, %v", layers(t, store), err)
	}
	if _, err := s.Built("k"); !errors.Is(err, template.ErrNotFound) {
		t.Errorf("what was removed: %v", err)
	}
	for name, do := range map[string]func() error{
		"a rename": func() error { _, err := s.Rename(t.Context(), found, "late"); return err },
		"a build":  func() error { _, err := s.Extend(t.Context(), found, bytes.NewReader(layer)); return err },
	} {
		if err := do(); !errors.Is(err, template.ErrNotFound) {
			t.Errorf("%s of what was removed: %v", name, err)
		}
	}
	unfinished(t, store)
}

func TestBuildRefuses(t *testing.T) {
	s, store := open(t, template.Limits{Layers: 2, Size: 1 << 20, Files: 100})
	base, err := s.Import(t.Context(), saved(t, small(t, "one")), template.Options{Name: "mine"})
	if err != nil {
		t.Fatal(err)
	}
	for name, entries := range map[string][]entry{
		"a way out":         {file("../x", "")},
		"an absolute name":  {file("/x", "")},
		"a link out":        {hardlink("x", "../../../etc/passwd")},
		"an absolute link":  {hardlink("x", "/etc/passwd")},
		"what goes up once": {file("a/../../x", "")},
	} {
		if err := template.Graft(tar.NewWriter(&bytes.Buffer{}), "/home", bytes.NewReader(archive(t, entries...)), 1, 1); !errors.Is(err, template.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := template.Graft(tar.NewWriter(&bytes.Buffer{}), "/", bytes.NewReader(archive(t)), 1, 1); !errors.Is(err, template.ErrRefused) {
		t.Errorf("the root: %v", err)
	}
	for name, layer := range map[string][]byte{
		"no archive":      []byte(strings.Repeat("no archive", 100)),
		"a bomb":          grafted(t, "/home", file("x", strings.Repeat("x", 3<<20))),
		"a way out":       archive(t, file("../x", "")),
		"cut off":         grafted(t, "/home", file("x", strings.Repeat("x", 10_000)))[:5000],
		"a hidden world":  archive(t, file(".wh..wh..opq", "")),
		"too many layers": nil,
	} {
		t.Run(name, func(t *testing.T) {
			of := base
			if of.Name = "bad"; name == "too many layers" {
				of.Layers = append(of.Layers[:1:1], of.Layers[0])
			}
			if _, err := s.Extend(t.Context(), of, bytes.NewReader(layer)); err == nil {
				t.Error("it is there")
			}
			if len(layers(t, store)) != 1 {
				t.Errorf("layers %v", layers(t, store))
			}
			unfinished(t, store)
		})
	}
	if _, err := s.Extend(t.Context(), template.Template{Name: "host"}, bytes.NewReader(archive(t))); err == nil {
		t.Error("a name of the server's is taken")
	}
}

// Sandboxes that end at the same time leave no layer behind, whichever of them collects.
func TestReleasesAtOnce(t *testing.T) {
	s, store := open(t, template.Limits{})
	state := t.TempDir()
	user := s.User("server", state)
	const boxes = 12
	for round := range 5 {
		for i := range boxes {
			name := fmt.Sprintf("t%d", i)
			one, err := s.Import(t.Context(), saved(t, small(t, fmt.Sprintf("%d %d", round, i))), template.Options{Name: name})
			if err == nil {
				err = errors.Join(user.Hold(t.Context(), name, one), s.Remove(t.Context(), name))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		var all sync.WaitGroup
		for i := range boxes {
			all.Go(func() {
				if err := user.Release(fmt.Sprintf("t%d", i)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if left := layers(t, store); len(left) != 0 {
			t.Fatalf("round %d has left %v", round, left)
		}
	}
}

// A release while somebody holds another template is collected by that one.
func TestReleaseWhileOthersHold(t *testing.T) {
	s, store := open(t, template.Limits{})
	user := s.User("server", t.TempDir())
	kept, err := s.Import(t.Context(), saved(t, small(t, "kept")), template.Options{Name: "kept"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		one, err := s.Import(t.Context(), saved(t, small(t, fmt.Sprint(i))), template.Options{Name: "one"})
		if err == nil {
			err = errors.Join(user.Hold(t.Context(), "box", one), s.Remove(t.Context(), "one"))
		}
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for _, do := range []func() error{
			func() error { return user.Release("box") },
			func() error { return user.Hold(context.WithoutCancel(t.Context()), "other", kept) },
			func() error { return user.Hold(context.WithoutCancel(t.Context()), "another", kept) },
		} {
			all.Go(func() {
				if err := do(); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if left := layers(t, store); len(left) != 1 {
			t.Fatalf("round %d has left %v", i, left)
		}
	}
}
