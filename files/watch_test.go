package files_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/files"
	"github.com/k2sandbox/k2sandbox/journal"
)

// seen is an event as it is read.
type seen struct {
	files.Event
	Type journal.Type
	Seq  int64
}

func (s seen) String() string {
	text := fmt.Sprintf("%s %s", s.Type, s.Path)
	if s.From != "" {
		text += " from " + s.From
	}
	if s.IsDir {
		text += "/"
	}
	return strings.TrimSpace(text + " " + s.Reason)
}

// watcher reads a watch one by one.
type watcher struct {
	*files.Watch
	events chan seen
	err    error // once events is closed
	done   chan struct{}
}

func watch(t *testing.T, root *files.Root, path string, recursive bool) *watcher {
	t.Helper()
	w, err := root.Watch(t.Context(), path, recursive)
	must(t, err)
	r := &watcher{Watch: w, events: make(chan seen), done: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(r.done)
		defer close(r.events)
		for line, err := range w.Lines(ctx, 0) {
			if err != nil {
				r.err = err
				return
			}
			var s seen
			if err := json.Unmarshal(line.JSON, &s); err != nil {
				r.err = err
				return
			}
			select {
			case r.events <- s:
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() {
		w.Close()
		cancel()
		<-r.done
	})
	return r
}

// sees checks that events come, in this order and no others; of attributes and
// modified it takes any.
func (w *watcher) sees(t *testing.T, want ...string) {
	t.Helper()
	for _, one := range want {
		for {
			s, ok := <-w.events
			if !ok {
				t.Fatalf("the end (%v) in place of %q", w.err, one)
			}
			text := s.String()
			if text == one {
				break
			}
			if s.Type != files.Attributes && s.Type != files.Modified {
				t.Fatalf("saw %q, want %q", text, one)
			}
		}
	}
}

func TestWatchTellsWhatHappens(t *testing.T) {
	both(t, func(t *testing.T, root *files.Root, dir string, at func(string) string) {
		w := watch(t, root, at(""), false)
		path := func(name string) string { return filepath.Clean(at(name)) }
		put(t, filepath.Join(dir, "f"), "x")
		w.sees(t, "created "+path("f"), "modified "+path("f"))
		must(t, os.Chmod(filepath.Join(dir, "f"), 0o600))
		w.sees(t, "attributes "+path("f"))
		must(t, os.Rename(filepath.Join(dir, "f"), filepath.Join(dir, "g")))
		w.sees(t, "renamed "+path("g")+" from "+path("f"))
		_, err := write(t, root, at("g"), "replaced", files.WriteOptions{})
		must(t, err)
		w.sees(t, "modified "+path("g"))
		_, err = write(t, root, at("new"), "made", files.WriteOptions{})
		must(t, err)
		w.sees(t, "created "+path("new"))
		must(t, os.Mkdir(filepath.Join(dir, "d"), 0o755))
		put(t, filepath.Join(dir, "d", "inside"), "x") // which it is not asked for
		must(t, os.Remove(filepath.Join(dir, "g")))
		w.sees(t, "created "+path("d")+"/", "removed "+path("g"))
		put(t, filepath.Join(dir, "b\xff"), "")
		s := <-w.events
		for s.Type != files.Created {
			s = <-w.events
		}
		if string(s.PathBase64) != path("b\xff") {
			t.Errorf("got %+v", s)
		}
	})
}

func TestWatchIsRecursive(t *testing.T) {
	both(t, func(t *testing.T, root *files.Root, dir string, at func(string) string) {
		put(t, filepath.Join(dir, "old", "deep", "f"), "x")
		outside := t.TempDir()
		w := watch(t, root, at(""), true)
		join := func(name string) string { return filepath.Join(dir, name) }
		put(t, join("old/deep/g"), "")
		w.sees(t, "created "+at("old/deep/g"))
		must(t, os.Rename(join("old"), join("new")))
		w.sees(t, "renamed "+at("new")+" from "+at("old")+"/")
		put(t, join("new/deep/h"), "")
		w.sees(t, "created "+at("new/deep/h"))

		put(t, filepath.Join(outside, "come", "in", "f"), "x")
		must(t, os.Rename(filepath.Join(outside, "come"), join("came")))
		w.sees(t, "created "+at("came")+"/", "created "+at("came/in")+"/", "created "+at("came/in/f"))
		must(t, os.Rename(join("came/in"), join("new/deep/in")))
		w.sees(t, "renamed "+at("new/deep/in")+" from "+at("came/in")+"/")
		must(t, os.Rename(join("new"), filepath.Join(outside, "gone")))
		w.sees(t, "removed "+at("new")+"/")
		put(t, filepath.Join(outside, "gone", "deep", "in", "unseen"), "")
		must(t, os.RemoveAll(join("came")))
		w.sees(t, "removed "+at("came")+"/")
	})
}

// Of what is made in a new directory before it is watched nothing is missed, and
// nothing told twice.
func TestWatchSaysNothingOfDrafts(t *testing.T) {
	dir := t.TempDir()
	root := openRoot(t, dir, "/")
	w := watch(t, root, "/", true)
	for _, name := range []string{"/new", "/new"} { // made, and replaced
		_, err := root.Write(t.Context(), name, strings.NewReader("text"), files.WriteOptions{})
		must(t, err)
	}
	must(t, os.Mkdir(filepath.Join(dir, "last"), 0o755))
	for e := range w.events {
		if e.Path == "/last" {
			return
		}
		if e.Path != "/new" {
			t.Errorf("seen %v", e)
		}
	}
	t.Error("the watch ended", w.err)
}

func TestWatchHasNoGap(t *testing.T) {
	b := newBox(t)
	w := watch(t, b.confined, "/", true)
	var want []string
	for i := range 20 {
		for j := range 5 {
			deep := fmt.Sprintf("%d/a/b/%d", i, j)
			put(t, filepath.Join(b.dir, deep, "f"), "x")
			want = append(want, "created /"+deep+"/", "created /"+deep+"/f")
		}
		want = append(want, fmt.Sprintf("created /%d/", i), fmt.Sprintf("created /%d/a/", i), fmt.Sprintf("created /%d/a/b/", i))
	}
	put(t, filepath.Join(b.dir, "last"), "")
	var got []string
	for s := range w.events {
		if s.Path == "/last" {
			break
		}
		if s.Type == files.Created {
			got = append(got, s.String())
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %d, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
}

func TestWatchEndsWithItsDirectory(t *testing.T) {
	for name, c := range map[string]struct {
		do     func(t *testing.T, dir string)
		reason string
	}{
		"removed":        {func(t *testing.T, dir string) { must(t, os.RemoveAll(dir)) }, files.Gone},
		"parent removed": {func(t *testing.T, dir string) { must(t, os.RemoveAll(filepath.Dir(dir))) }, files.Gone},
		"in use": {func(t *testing.T, dir string) { // as the working directory of a kernel is
			f, err := os.Open(dir)
			must(t, err)
			t.Cleanup(func() { f.Close() })
			must(t, os.RemoveAll(dir))
		}, files.Gone},
		"moved": {func(t *testing.T, dir string) { must(t, os.Rename(dir, dir+"-2")) }, files.Moved},
	} {
		for _, recursive := range []bool{false, true} {
			t.Run(fmt.Sprint(name, recursive), func(t *testing.T) {
				b := newBox(t)
				put(t, filepath.Join(b.dir, "in", "d", "f"), "x")
				w := watch(t, b.confined, "/in/d", recursive)
				c.do(t, filepath.Join(b.dir, "in", "d"))
				var last seen
				for s := range w.events {
					last = s
				}
				<-w.done
				if w.err != nil || last.Type != journal.End || last.Reason != c.reason || last.Status != "ok" {
					t.Errorf("ended with %v, %v", last, w.err)
				}
			})
		}
	}
}

func TestWatchEndsWithItsRoot(t *testing.T) {
	b := newBox(t)
	root, err := files.Open(b.dir, b.dir)
	must(t, err)
	w := watch(t, root, "/", true)
	must(t, root.Close())
	last := <-w.events
	if last.Type != journal.End || last.Reason != files.Closed {
		t.Errorf("ended with %v", last)
	}
	<-w.done
	_, err = root.Watch(t.Context(), "/", true)
	fails(t, err, files.ErrClosed)
	_, err = root.Open("/f")
	fails(t, err, files.ErrClosed)
}

func TestWatchTellsOfAnOverflow(t *testing.T) {
	raw, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	must(t, err)
	var queued int
	_, err = fmt.Sscan(string(raw), &queued)
	must(t, err)

	dir := quick(t)
	root := openRoot(t, dir, dir)
	looked, goOn := make(chan struct{}), make(chan struct{})
	root.SetCalm(func() {
		looked <- struct{}{}
		<-goOn
	})
	w := watch(t, root, "/", true)
	put(t, filepath.Join(dir, "first"), "")
	<-looked
	must(t, os.Mkdir(filepath.Join(dir, "d"), 0o755))
	for i := range queued + 10 {
		must(t, os.Mkdir(fmt.Sprintf("%s/%d", dir, i), 0o755))
	}
	must(t, os.Mkdir(filepath.Join(dir, "missed"), 0o755))
	close(goOn)
	go func() {
		for range looked {
		}
	}()
	defer close(looked)
	var all int
	for s := range w.events {
		if s.Type == files.Overflow {
			break
		}
		all++
	}
	put(t, filepath.Join(dir, "missed", "f"), "x") // it is watched now
	for s := range w.events {
		if s.String() == "created /missed/f" {
			break
		}
	}
	w.Close()
	t.Logf("%d events before the overflow", all)
}

func TestASlowReaderSeesAnOverflow(t *testing.T) {
	b := newBox(t)
	w, err := b.confined.Watch(t.Context(), "/", false)
	must(t, err)
	defer w.Close()
	put(t, filepath.Join(b.dir, "f"), "")
	name := strings.Repeat("n", 250)
	for range 9_000 { // some 600 bytes each
		must(t, os.WriteFile(filepath.Join(b.dir, name), nil, 0o644))
		must(t, os.Remove(filepath.Join(b.dir, name)))
	}
	put(t, filepath.Join(b.dir, "last"), "")
	w.Newest(t.Context()) // while it is read nothing more is lost
	types := map[journal.Type]int{}
	stop := errors.New("the last was seen")
	err = func() error {
		next, first := int64(0), true
		for line, err := range w.Lines(t.Context(), 0) {
			if err != nil {
				return err
			}
			if first && line.Type != files.Overflow {
				return fmt.Errorf("the first is %s", line.JSON)
			}
			if !first && line.Seq != next {
				return fmt.Errorf("%d after %d", line.Seq, next-1)
			}
			next, first = line.Seq+1, false
			types[line.Type]++
			if strings.Contains(string(line.JSON), `"/last"`) {
				return stop
			}
		}
		return errors.New("it ended")
	}()
	if err != stop || types[files.Overflow] != 1 {
		t.Errorf("%v: %v", err, types)
	}
}

func TestWatchesAreBounded(t *testing.T) {
	b := newBox(t)
	for range 64 {
		w, err := b.confined.Watch(t.Context(), "/", false)
		if errors.Is(err, files.ErrTooMany) {
			break // of this user's inotify instances, others have taken some
		}
		must(t, err)
		defer w.Close()
	}
	_, err := b.confined.Watch(t.Context(), "/", false)
	fails(t, err, files.ErrTooMany)
}

// TestWatchFollowsWhatWasRenamedAtOnce: the events lag behind the paths.
func TestWatchFollowsWhatWasRenamedAtOnce(t *testing.T) {
	b := newBox(t)
	calm, again := make(chan struct{}, 1), make(chan struct{})
	b.confined.SetCalm(func() {
		select {
		case calm <- struct{}{}:
		default:
		}
		<-again
	})
	w := watch(t, b.confined, "/", true)
	must(t, os.Mkdir(filepath.Join(b.dir, "a"), 0o755))
	w.sees(t, "created /a/")
	<-calm
	must(t, os.MkdirAll(filepath.Join(b.dir, "a", "b", "c"), 0o755))
	must(t, os.Rename(filepath.Join(b.dir, "a"), filepath.Join(b.dir, "r")))
	put(t, filepath.Join(b.dir, "a", "b", "other"), "")
	close(again)
	seen := map[string]bool{}
	for !seen["created /r/b/c/"] || !seen["created /a/b/other"] {
		s, ok := <-w.events
		if !ok {
			t.Fatalf("the end: %v", w.err)
		}
		seen[s.String()] = true
		if s.Path == "/r/b/other" {
			t.Errorf("saw %s", s.String())
		}
	}
	put(t, filepath.Join(b.dir, "r", "b", "c", "f"), "")
	w.sees(t, "created /r/b/c/f")
}
