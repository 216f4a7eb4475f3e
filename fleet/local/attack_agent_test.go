package local_test

import (
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
)

// overthrows are attacks on what keeps the sandbox going. Whatever becomes of the kernel, the sandbox is of use
// afterwards. What takes long, and is the same for some levels, is tried at one of them.
var overthrows = []attack{
	{"kill all that can be killed", `os.kill(-1, signal.SIGKILL); os.kill(ME, signal.SIGKILL)`, died, namespace},
	{"stop all that can be stopped", `
if os.fork() == 0:
    os.kill(-1, signal.SIGSTOP)
    os._exit(0)
while True:
    pass`, "timeout", namespace},
	{"all signals to the first process", `return each(lambda s: os.kill(os.getppid(), s), [s for s in range(1, 65) if s not in (32, 33)])`, "EPERM", rootNamespace | landlock},
	{"all signals to the first process, of the same user", `for s in range(1, 65): came_to(os.kill, 1, s)`, "done", userNamespace}, // which has no use
	{"kill the one that forks kernels", `
for pid in processes():
    if pid not in (1, ME):
        os.kill(pid, signal.SIGKILL)`, "done", namespace},
	{"stop the one that forks kernels", `
for pid in processes():
    if pid not in (1, ME):
        os.kill(pid, signal.SIGSTOP)`, "done", rootNamespace},
	{"stop itself", `os.kill(ME, signal.SIGSTOP)`, "timeout", rootNamespace | userLandlock},
	{"never listen to an interrupt", `
signal.signal(signal.SIGINT, signal.SIG_IGN)
while True:
    time.sleep(1)`, "timeout", rootNamespace | userLandlock},
	{"end in the middle of a run", `os._exit(0)`, died, everyone},
	{"replace its own program", `os.execv("/bin/true", ["true"])`, died, everyone},
	{"close all that it has open", `os.closerange(0, 1024)`, died + "|timeout|done|", everyone},
	{"remove what the agent has made", `
for path in glob.glob(tempfile.gettempdir() + "/k2-*") + glob.glob("/var/tmp/k2-*"):
    shutil.rmtree(path, ignore_errors=True)`, "done", everyone},
}

// overthrow runs the attacks on the agent in one sandbox, one after the other.
func (h *host) overthrow(t *testing.T) {
	b := h.create(t, api.SandboxRequest{})
	for _, a := range overthrows {
		if a.at&h.level == 0 {
			continue
		}
		t.Run(a.name, func(t *testing.T) {
			stop := h.neighbour.goOn(t)
			defer stop()
			limit := 60.0
			if strings.Contains(a.want, "timeout") {
				limit = 1
			}
			out, end := b.try(t, call(a.code), limit)
			got := string(end.Status)
			if end.Status == executor.OK {
				got = strings.TrimSpace(out)
			}
			t.Logf("it came to %s", got)
			if !matches(a.want, got) {
				t.Errorf("want %s", a.want)
			}
			if _, err := b.Reset(t.Context()); err != nil {
				t.Fatalf("reset: %v", err)
			}
			b.run(t, prelude())
		})
	}
	b.works(t)
}

// works has the sandbox do what it is for.
func (b *box) works(t *testing.T) {
	t.Helper()
	b.answers(t)
	made, err := b.CreateContext(t.Context(), api.ContextRequest{})
	if err != nil {
		t.Fatalf("another context: %v", err)
	}
	for e, err := range b.Run(t.Context(), api.RunRequest{Code: "1", Context: made.ContextID}) {
		if err != nil || e.Type == executor.End && e.Status != executor.OK {
			t.Fatalf("a run in another context: %v %v", e.Status, err)
		}
	}
	for e, err := range b.RunProcess(t.Context(), api.ProcessRequest{Args: []string{"true"}}) {
		if err != nil || e.Type == executor.End && e.ExitCode != 0 {
			t.Fatalf("a command: %+v %v", e, err)
		}
	}
}
