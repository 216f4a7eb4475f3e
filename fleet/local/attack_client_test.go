package local_test

import (
	"io"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/client"
)

// mislead has code set up what a client's file calls then meet: what the agent can see of itself, and nobody else can.
func (h *host) mislead(t *testing.T) {
	b := h.create(t, api.SandboxRequest{})
	b.run(t, `
import os
for name, target in {"self": "/proc/self", "thread": "/proc/thread-self", "maps": "/proc/self/maps", "exe": "/proc/self/exe", "fd": "/proc/self/fd", "one": "/proc/1", "up": "/proc/self/root/proc/self"}.items():
    os.symlink(target, name)
os.makedirs("deep")
os.symlink("../self", "deep/self")`)
	agent := []string{"/proc/self", "/proc/thread-self", "/proc/self/task/../../self", "self", "thread", "up", "deep/self", "/proc/self/root/proc/self", "/proc/self/cwd/self"}
	paths := []string{"maps", "exe"}
	for _, dir := range agent {
		for _, name := range []string{"maps", "environ", "auxv", "mem", "exe", "fd/3", "fdinfo/3", "task/1/environ", "root/proc/self/maps"} {
			paths = append(paths, dir+"/"+name)
		}
	}
	for _, path := range paths {
		if got, err := b.ReadFile(t.Context(), path, 0, -1); err == nil {
			text, _ := io.ReadAll(got)
			got.Close()
			t.Errorf("%s is read: %.200q", path, text)
		}
	}
	for _, dir := range append(agent, "fd", "/proc/self/fd", "/proc/self/task", "/proc/self/ns") {
		for e, err := range b.ListFiles(t.Context(), dir+"/", 1) {
			if err == nil {
				t.Errorf("%s is listed: %s", dir, e.Path)
			}
			break
		}
		if got, err := b.PackFiles(t.Context(), dir+"/"); err == nil {
			text, err := io.ReadAll(got)
			got.Close()
			t.Errorf("%s is packed: %d bytes, %v", dir, len(text), err)
		}
		if _, err := b.WriteFile(t.Context(), dir+"/comm", strings.NewReader("x"), client.WriteOptions{}); err == nil {
			t.Errorf("%s is written to", dir)
		}
	}
	b.works(t)
}
