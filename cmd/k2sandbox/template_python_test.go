package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/internal/imagetest"
)

// Kernels of an image's own Python are forked, too, in sandboxes that have waited; they are as confined as others, and so is what forks them.
func TestTemplateWithItsOwnPython(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	layer, bin := imagetest.Shell(t).Python(t, interpreter)
	image := imagetest.Write(t, imagetest.Config{User: "ada", Env: []string{"PATH=" + bin + ":/usr/bin:/bin", "PYTHONUNBUFFERED=1"}}, layer)
	run(t, call{args: []string{"template", "import", image, "--data-dir", data}}).expect(t, 0, "test/image:1\n")
	h := openHouse(t, "--data-dir", data)
	var can api.ServerCapabilities
	if h.ask(t, "GET", "/v1/capabilities", "", 200, &can); can.Isolation.Level != "namespace" {
		return
	}
	const look = `
import gc, os, re, sys
status = open("/proc/self/status").read()
print(os.getuid(), os.getppid(), sys.base_prefix, *re.findall(r"(?:CapPrm|CapEff|NoNewPrivs|Seccomp):\t(\w+)", status))
def attempt(path):
    try:
        return open(path, "rb").read(1)
    except OSError as error:
        return error.errno
print({attempt(f"/proc/{p}/{name}") for p in os.listdir("/proc") if p.isdigit() and p != str(os.getpid()) for name in ("mem", "environ")} - {2, 3, 13})
print(gc.get_freeze_count() > 0)`
	want := "1234 1 " + filepath.Dir(bin) + " 0000000000000000 0000000000000000 1 2\nset()\n"
	forked := false
	for try := 0; try < 20 && !forked; try++ {
		var box api.Sandbox
		h.ask(t, "POST", "/v1/sandboxes", `{"template":"test/image:1"}`, 201, &box)
		in := h.in(box.SandboxID)
		got, is := strings.CutSuffix(in.printed(t, look), "True\n")
		if got, _ = strings.CutSuffix(got, "False\n"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if forked = is; is { // and so is one that follows
			h.ask(t, "POST", "/v1/sandboxes/"+box.SandboxID+"/contexts/default/restart", "{}", 200, nil)
			if got := in.printed(t, look); got != want+"True\n" {
				t.Errorf("after a restart: %q", got)
			}
		}
		h.ask(t, "DELETE", "/v1/sandboxes/"+box.SandboxID, "", 204, nil)
		if os.Geteuid() != 0 {
			return // nothing of an image's is run before its sandbox is somebody's
		}
	}
	if !forked {
		t.Error("no kernel was forked")
	}
}
