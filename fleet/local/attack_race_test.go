package local_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/client"
)

// swap is a program that exchanges the directory "way" and a link to somewhere else, as fast as it can, and makes
// anew what is taken from it.
const swap = `
swapping = os.fork()
if swapping == 0:
    while True:
        for _ in range(50):
            libc.renameat2(-100, b"way", -100, b"evil", 2)
        for path in ("way/%s", "way/ssl/x"):
            came_to(os.makedirs, os.path.dirname(path))
            came_to(lambda: open(path, "w").write("mine"))
`

// calls of the API for files, each with a path that leads through what is swapped, and what it has read.
var fileCalls = map[string]func(ctx context.Context, c *client.Client, file string) (string, error){
	"read": func(ctx context.Context, c *client.Client, file string) (string, error) {
		d, err := c.ReadFile(ctx, "way/"+file, 0, 4096)
		if err != nil {
			return "", err
		}
		defer d.Close()
		text, err := io.ReadAll(d)
		return string(text), err
	},
	"write": func(ctx context.Context, c *client.Client, file string) (string, error) {
		_, err := c.WriteFile(ctx, "way/"+file, strings.NewReader("planted"), client.WriteOptions{Mode: "0666"})
		return "", err
	},
	"write anew": func(ctx context.Context, c *client.Client, _ string) (string, error) {
		_, err := c.WriteFile(ctx, "way/planted/planted", strings.NewReader("planted"), client.WriteOptions{IfNoneMatch: "*"})
		return "", err
	},
	"remove": func(ctx context.Context, c *client.Client, file string) (string, error) {
		return "", c.RemoveFile(ctx, "way/"+file, false)
	},
	"remove all": func(ctx context.Context, c *client.Client, _ string) (string, error) {
		return "", c.RemoveFile(ctx, "way/ssl", true)
	},
	"move away": func(ctx context.Context, c *client.Client, file string) (string, error) {
		_, err := c.MoveFile(ctx, "way/"+file, "stolen", true)
		return "", err
	},
	"move to": func(ctx context.Context, c *client.Client, file string) (string, error) {
		_, err := c.MoveFile(ctx, "planted", "way/"+file, true)
		return "", err
	},
	"make a directory": func(ctx context.Context, c *client.Client, _ string) (string, error) {
		_, err := c.MakeDir(ctx, "way/made/planted", "0777")
		return "", err
	},
	"pack": func(ctx context.Context, c *client.Client, _ string) (string, error) {
		r, err := c.PackFiles(ctx, "way")
		if err != nil {
			return "", err
		}
		defer r.Close()
		text, err := io.ReadAll(io.LimitReader(r, 1<<20))
		return string(text), err
	},
	"extract": func(ctx context.Context, c *client.Client, file string) (string, error) {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, name := range []string{file, "planted", "ssl/planted"} {
			_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o666, Size: 7})
			_, _ = w.Write([]byte("planted"))
		}
		_ = w.Close()
		_, err := c.ExtractFiles(ctx, "way", &b)
		return "", err
	},
	"list": func(ctx context.Context, c *client.Client, _ string) (string, error) {
		for _, err := range c.ListFiles(ctx, "way", 2) {
			if err != nil {
				return "", err
			}
		}
		return "", nil
	},
	"stat": func(ctx context.Context, c *client.Client, file string) (string, error) {
		_, err := c.StatFile(ctx, "way/"+file)
		return "", err
	},
	"watch": func(ctx context.Context, c *client.Client, _ string) (string, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for _, err := range c.WatchFiles(ctx, "way", true, cancel) {
			if err != nil && ctx.Err() == nil {
				return "", err
			}
		}
		return "", nil
	},
}

// race uses each call of the API for files while code inside swaps what its path leads through with a
// link. Nothing that the user inside may not touch is touched.
func (h *host) race(t *testing.T) {
	b := h.create(t, api.SandboxRequest{})
	const list = `print(came_to(lambda: [(p, os.lstat(p).st_mtime_ns, os.lstat(p).st_mode) for d in ("/etc", "/etc/ssl", "/usr") for p in [d] + sorted(d + "/" + n for n in os.listdir(d))]))`
	for _, aim := range []struct{ target, file string }{{"/etc", "hostname"}, {"/proc/self", "environ"}, {"/proc/1", "environ"}, {h.dir, "key"}} {
		t.Run(aim.target, func(t *testing.T) {
			b.run(t, fmt.Sprintf("os.makedirs('way/ssl')\nopen('way/%s', 'w').write('mine')\nos.symlink(%q, 'evil')", aim.file, aim.target))
			inside, outside := b.run(t, list), h.files(t)
			b.run(t, fmt.Sprintf(swap, aim.file))
			for name, use := range fileCalls {
				b.use(t, name, aim.file, use)
			}
			b.run(t, "os.kill(swapping, signal.SIGKILL); os.waitpid(swapping, 0)\nfor p in ('way', 'evil'): os.remove(p) if os.path.islink(p) else shutil.rmtree(p, ignore_errors=True)")
			if after := b.run(t, list); after != inside {
				t.Errorf("inside:\n%s\n%s", inside, after)
			}
			if after := h.files(t); after != outside {
				t.Errorf("outside:\n%s\n%s", outside, after)
			}
		})
	}
}

// use uses a call several times. What it reads may be nothing but the user's.
func (b *box) use(t *testing.T, name, file string, use func(context.Context, *client.Client, string) (string, error)) {
	t.Helper()
	done := 0
	for range 10 {
		got, err := use(t.Context(), b.Client, file)
		var refused *client.Error
		if err == nil {
			done++
		} else if errors.Is(err, io.ErrUnexpectedEOF) {
			continue // what an archive of changing files ends with
		} else if !errors.As(err, &refused) || refused.Status >= 500 {
			t.Errorf("%s: %v", name, err)
		}
		if strings.Contains(got, secret) || strings.Contains(got, "GODEBUG") {
			t.Fatalf("%s has read %q", name, got)
		}
		_, _ = b.WriteFile(t.Context(), "planted", strings.NewReader("planted"), client.WriteOptions{})
	}
	t.Logf("%s: %d of 10 done", name, done)
}

// files lists what is in the host's directory, with its contents.
func (h *host) files(t *testing.T) (all string) {
	t.Helper()
	entries, err := os.ReadDir(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Type().IsRegular() {
			text, _ := os.ReadFile(h.path(e.Name()))
			all += fmt.Sprintf("%s %q\n", e.Name(), text)
		} else {
			all += e.Name() + "\n"
		}
	}
	return all
}
