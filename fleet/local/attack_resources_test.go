package local_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
)

// died is what comes of an attack that its kernel does not survive.
const died = "kernel_died"

// grouped are the levels at which control groups hold, on machines where root may make some.
const grouped = rootNamespace | rootLandlock

// forking is the beginning of a bomb: a process, "leader", and all that it forks fork without end.
const forking = `
leader = os.fork()
if leader == 0:
    os.setsid()
    while True:
        try:
            os.fork()
        except OSError:
            pass`

// bombs use up what there is of something. The sandbox is of use afterwards; its neighbour never notices.
var bombs = []attack{
	{"processes", `
born = []
try:
    while len(born) < 5000:
        pid = os.fork()
        if pid == 0:
            signal.pause()
        born.append(pid)
    return "as many as it likes"
finally:
    for pid in born:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)`, "EAGAIN", namespace | rootLandlock},
	{"processes that fork", forking + `
try:
    while True:  # until there is no place for one more
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
finally:
    while came_to(os.killpg, leader, signal.SIGKILL) == DONE and came_to(os.waitpid, -leader, os.WNOHANG) != "ECHILD":
        pass`, "EAGAIN|" + died, namespace | rootLandlock},
	{"processes that fork on behind their kernel", forking + `
try:
    while True:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
finally:
    os.kill(os.getpid(), signal.SIGKILL)`, died, namespace | rootLandlock},
	{"threads", `
stop = threading.Event()
started = []
try:
    while len(started) < 5000:
        t = threading.Thread(target=stop.wait)
        t.start()
        started.append(t)
finally:
    stop.set()
    for t in started:
        t.join()`, "RUNTIMEERROR", namespace | rootLandlock},
	{"zombies", `
for _ in range(50):
    if os.fork() == 0:
        if os.fork() == 0:
            os._exit(0)
        os._exit(0)
    os.wait()
while len([p for p in processes() if came_to(read, f"/proc/{p}/stat").split(") ")[-1].startswith("Z")]) > 5:
    pass  # the agent takes them away`, "done", namespace},
	{"memory", `
hoard = []
while True:
    hoard.append(bytearray(8 << 20))`, died + "|MEMORYERROR", everyone},
	{"memory of a child", `
code = "hoard = []\nwhile True: hoard.append(bytearray(8 << 20))"
return subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL).returncode != 0`, "True|" + died, everyone},
	{"memory that is shared", `
hoard = []
while len(hoard) < 64:
    m = mmap.mmap(-1, 8 << 20)
    m.write(bytes(8 << 20))
    hoard.append(m)`, died + "|ENOMEM", grouped},
	{"memory of files without a name", `
fd = os.memfd_create("x")
for _ in range(64):
    os.write(fd, bytes(8 << 20))`, died + "|EFBIG|ENOSPC", grouped},
	{"shared memory", `
with open("/dev/shm/x", "wb") as f:
    for _ in range(64):
        f.write(bytes(8 << 20))`, "ENOSPC|MEMORYERROR|" + died, namespace},
	{"pipes", `
def fill():
    r, w = os.pipe()
    os.set_blocking(w, False)
    came_to(fcntl.fcntl, w, 1031, 1 << 20)
    came_to(os.write, w, bytes(1 << 20))
    return r, w
take_all(fill)`, "EMFILE|ENFILE|ENOMEM|" + died, everyone},
	{"buffers of sockets", `
def fill():
    pair = socket.socketpair()
    for s in pair:
        s.setblocking(False)
        while came_to(s.send, bytes(1 << 16)) != "EAGAIN":
            pass
    return [s.detach() for s in pair]
take_all(fill)`, "EMFILE|ENOMEM|ENOBUFS|" + died, grouped},
	{"open files", `
take_all(lambda: [os.open("/dev/null", os.O_RDONLY)])`, "EMFILE", everyone},
	{"connections to itself", `
with socket.create_server(("127.0.0.1", 0)) as server:
    take_all(lambda: [s.detach() for s in (socket.create_connection(server.getsockname()), server.accept()[0])])`, "EMFILE", namespace},
	{"watches", `
take_all(lambda: [check(libc.inotify_init1(0))])`, "EMFILE", everyone},
	{"the disk", `
try:
    with open("full", "wb") as f:
        while f.tell() < 1 << 30:
            f.write(bytes(1 << 20))
finally:
    os.remove("full")`, "ENOSPC", namespace},
	{"one large file", `
with open("large", "wb") as f:
    f.truncate(1 << 40)`, "EFBIG|ENOSPC", landlock},
	{"a million files", `
os.mkdir("many")
try:
    for i in range(1000 * 1000):
        os.close(os.open(f"many/{i}", os.O_CREAT))
finally:
    shutil.rmtree("many")`, "ENOSPC", namespace},
	{"output", `
for _ in range(256):
    print("x" * (1 << 16))`, "(?s).*xxxx.*", everyone},
}

// explode runs the bombs of a level, and checks that nobody else is hit.
func (h *host) explode(t *testing.T) {
	limits := &api.LimitsRequest{MemoryMB: 160, CPUs: 1, DiskMB: 32}
	if h.level&grouped == 0 {
		limits.MemoryMB = 512 // of each process, of which the stacks of a kernel's threads are much
	}
	b := h.create(t, api.SandboxRequest{Limits: limits})
	for _, a := range bombs {
		if a.at&h.level == 0 {
			continue
		}
		t.Run(a.name, func(t *testing.T) {
			stop := h.neighbour.goOn(t)
			got := b.bomb(t, a.code)
			stop()
			t.Logf("it came to %.200s", got)
			if !matches(a.want, got) {
				t.Errorf("want %s", a.want)
			}
			b.answers(t)
			b.run(t, prelude())
		})
	}
}

// bomb is attack for code that its kernel need not survive.
func (b *box) bomb(t *testing.T, body string) string {
	t.Helper()
	out, end := b.try(t, call(body), 60)
	if end.Status == executor.OK {
		return strings.TrimSpace(out)
	}
	if end.Exit != nil {
		t.Logf("%s: %+v", end.Status, *end.Exit)
	}
	return string(end.Status)
}

// goOn has the sandbox answer until stop, at least once and no more often than tells something.
func (b *box) goOn(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		for times := 0; times == 0 || times < 10 && ctx.Err() == nil; times++ {
			if err := b.sum(t.Context()); err != nil {
				failed <- err
				return
			}
		}
		failed <- nil
	}()
	return func() {
		cancel()
		if err := <-failed; err != nil {
			t.Errorf("the neighbour: %v", err)
		}
	}
}

// sum has the sandbox calculate, and use a file, a thread and a process.
func (b *box) sum(ctx context.Context) error {
	var text string
	for e, err := range b.Run(ctx, api.RunRequest{Code: "print(apart(lambda: int(read('mine') == 'the neighbour') + 41))"}) {
		if err != nil {
			return err
		}
		text += e.Text
	}
	if text != "42\n" {
		return fmt.Errorf("41 + 1 is %q", text)
	}
	return nil
}

// Watches are counted for each user: one sandbox may not take those of others and of the host.
func (h *host) watched(t *testing.T) {
	b := h.create(t, api.SandboxRequest{})
	if got := b.attack(t, "while True: check(libc.inotify_init1(0))"); got != "EMFILE" {
		t.Errorf("its own: %s", got)
	}
	if got := h.neighbour.attack(t, "os.close(check(libc.inotify_init1(0)))"); got != "done" {
		t.Errorf("the neighbour's: %s", got)
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Fatalf("the host's: %v", err)
	}
	unix.Close(fd)
}
