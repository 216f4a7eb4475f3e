package local_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet/local"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/process"
)

// ofRoot says what the attacks of others come to that root inside may: it has its own system to change, and its own
// processes. "" stands for those that would only break it.
var ofRoot = map[string]string{
	"become root":                              `(done\(.*?\) ?)+`,
	"become another user":                      `EPERM done\(.*\)`, // what comes after the first is that one's
	"capabilities":                             `\(\['0', '800004fb', '800004fb', '800004fb', '0'\], \['1', '2'\], 'EPERM'\)`,
	"programs that become root":                `\{('(0\\t0\\t0\\t0|00000000800004fb|0000000000000000)'(, )?)+\}`,
	"a program that root owns, made by itself": "",

	"read the host's /etc/shadow":          `(EACCES )?ENOENT root:\*:(?s:.*)`,
	"read what only the host's root reads": "\\[('" + secret + "', ){2}('ENOENT'(, )?){3}\\]",
	"climb out of the root":                `\('root:\*:.*', True, 'EPERM'\)`,
	"write to the system":                  "", "write to the interpreter": "", "make files in the system": "", "plant a preload": "",
	"remove and rename the system": "", "change modes and owners": "", "give a file to root": "", "link to the system's files": "",
	"hidden attributes": `(EPERM|ENOTSUP|EOPNOTSUPP) done\(security.capability\)`, // which no program uses: see rootAttacks

	"look into the agent":                  `\('(EACCES EPERM|EACCES|EPERM)', "EACCES \[[^a-z]*\]\(fd\)", 'EACCES'\)`, // how many files it has open
	"signal the agent":                     `(done\(\d+\) ?)+`,                                                        // of which it dies no more than by those of Linux
	"look into the one that forks kernels": `\(\d, '(EACCES|EPERM)', '(EACCES|EPERM|\[.*\])', 'EPERM', 'EPERM'\)`,
}

// rootAttacks are on what root inside a sandbox is kept from. BOX is its user.
func rootAttacks(h *host) []attack {
	return []attack{
		{"uncover what only the host's root reads", fmt.Sprintf(`
dir = %q
seen = {name: sorted(os.listdir(dir + name)) for name in ["", "/deep"]}
tries = [came_to(f) for f in [lambda: os.listdir(dir + "/hidden"), lambda: os.rename(dir + "/deep", dir + "/moved"), lambda: read(dir + "/moved/closed"), lambda: os.mknod(dir + "/closed", 0o600 | stat.S_IFCHR), lambda: os.unlink(dir + "/closed")]]
os.mkdir(dir + "/hidden")
return seen, tries, os.listdir(dir + "/hidden"), os.stat(dir).st_uid, oct(os.stat(dir + "/deep").st_mode), call("umount2", dir.encode(), 2)`, h.packages),
			`\(\{'': \['deep', 'open'\], '/deep': \['open'\]\}, \['ENOENT', '(EXDEV|done)', 'ENOENT', '.*', '.*'\], \[\], 0, '0o40755', 'EPERM'\)`, rootNamespace},
		{"look into the agent as its user", `
os.setresgid(999, 999, 999)
os.setresuid(999, 999, 999)
return each(lambda name: read(f"/proc/1/{name}"), ["environ", "mem", "maps", "auxv", "syscall", "io"]), each(lambda name: os.readlink(f"/proc/1/{name}"), ["exe", "cwd", "root", "fd/0", "ns/mnt"])`, `\('(EACCES EPERM|EACCES|EPERM)', 'EACCES'\)`, rootNamespace},
		{"kill the agent", `return each(lambda s: os.kill(1, s), [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM]), read("/proc/1/stat").split()[2] in "SR"`, `\("?'?(done\(\d+\) ?)+'?"?, True\)`, rootNamespace},
		{"kill all at once", `os.kill(-1, signal.SIGKILL)`, "(done)?", rootNamespace},
		{"take more capabilities", `
everything = struct.pack("6I", *[0xffffffff] * 6)
return call("capset", struct.pack("Ii", 0x20080522, 0), everything), came_to(lambda: check(libc.prctl(47, 2, 21, 0, 0))), came_to(lambda: check(libc.prctl(28, 1, 0, 0, 0))), came_to(lambda: check(libc.prctl(38, 0, 0, 0, 0))), re.findall(r"CapEff:\t(.*)", subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True).stdout)`,
			`\('EPERM', 'EPERM', 'EPERM', 'EINVAL', \['00000000800004fb'\]\)`, rootNamespace},
		{"devices where only root writes", `return each(lambda d: os.mknod(d + "/device", 0o666 | stat.S_IFBLK, os.makedev(7, 0)), ["/root", "/etc", "/usr", "/tmp", "/dev", "/dev/shm"])`, only("EPERM", "EROFS"), rootNamespace},
		{"settings of Linux, as root", `return each(lambda p: write(p, "1"), glob.glob("/proc/sys/*/*")), each(lambda p: write(p, "b"), ["/proc/sysrq-trigger", "/proc/irq/default_smp_affinity", "/proc/mtrr", "/proc/acpi/wakeup", "/proc/scsi/scsi"])`,
			`\('[A-Z ]+', '[A-Z ]+'\)`, rootNamespace},
		{"settings of the agent, as root", `return each(lambda n: write(f"/proc/1/{n}", "-1000"), ["oom_score_adj", "oom_adj", "timerslack_ns", "comm", "attr/current", "uid_map", "setgroups", "mem", "timens_offsets", "projid_map"])`, only("EACCES", "EPERM", "EINVAL", "ENOENT", "EROFS", "ENXIO"), rootNamespace},
		{"attributes of the layers", `
os.mkdir("/root/layered")
return each(lambda n: os.setxattr("/root/layered", n, b"/etc"), ["trusted.overlay.redirect", "trusted.overlay.opaque", "user.overlay.redirect", "user.overlay.opaque"])[:5], os.listdir("/root/layered")`, `\('(EPERM|ENOTS|EOPNO)', \[\]\)`, rootNamespace},
		{"the device of its disk", `
device = re.findall(r" - ext4 (\S+)", read("/proc/self/mountinfo"))
return each(lambda p: os.open(p, os.O_RDWR), device + ["/dev/loop0", "/dev/loop-control", "/dev/mapper/control"])`, only("ENOENT"), rootNamespace},
		{"more disk than it has", `
with open("/var/big", "wb", buffering=0) as file:
    try:
        while file.write(bytes(1 << 20)):
            pass
    finally:
        os.remove("/var/big")`, "ENOSPC", rootNamespace},
		{"more memory than it has", `return apart(lambda: len(bytearray(1 << 30)))`, "SIGKILL", rootNamespace},
		{"more processes than it has", `
born = []
try:
    while len(born) < 5000:
        pid = os.fork()
        if pid == 0:
            signal.pause()
        born.append(pid)
finally:
    for pid in born:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)`, "EAGAIN", rootNamespace},
		{"sudo by others than the user", `
def other():
    os.setresgid(33, 33, 33)
    os.setresuid(33, 33, 33)
    return subprocess.run(["sudo", "id"], capture_output=True, text=True).stderr.strip()
return apart(other)`, "sudo: user 33 may not become root", rootNamespace},
		{"nonsense to who starts commands of root", `
def say(what):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect("/run/sudo.sock")
        socket.send_fds(s, [b"x"], [0] * what[1])
        s.sendall(what[0])
        s.shutdown(socket.SHUT_WR)
        return "refused" if b"error" in s.recv(4096) else "taken"
return {came_to(say, w) for w in [(b"", 0), (b"{}\n", 3), (b"[]\n", 3), (b"{}\n", 1), (b"{}\n", 64), (b"x" * 5000 + b"\n", 3), (b'{"args": []}\n', 3), (b'{"args": ["eA=="]}', 3)]}`, `\{'refused'\}`, rootNamespace},
	}
}

// asRoot runs the attacks as root of a sandbox whose template has one.
func (h *host) asRoot(t *testing.T) {
	b := h.create(t, api.SandboxRequest{Template: local.RootTemplate})
	for _, a := range slices.Concat(fileAttacks(h), processAttacks(h), callAttacks(), networkAttacks(h), privilegeAttacks(), rootAttacks(h)) {
		want, changed := ofRoot[a.name]
		if !changed {
			want = a.want
		}
		if a.at&h.level == 0 || want == "" {
			continue
		}
		t.Run(a.name, func(t *testing.T) {
			got, _ := b.command(t, prelude()+call(a.code), "sudo", python(t), "-")
			got = strings.TrimSpace(got)
			t.Logf("it came to %s", got)
			if !matches(want, got) {
				t.Errorf("want %s", want)
			}
		})
	}
	t.Run("programs that root has made", b.tempt)
	b.works(t)
	h.create(t, api.SandboxRequest{Template: local.RootTemplate}).works(t) // whatever became of the system of that one
	plain := h.create(t, api.SandboxRequest{})
	if out, end := plain.command(t, "", "sh", "-c", "test -e /run/sudo.sock || sudo id || /usr/bin/sudo id"); end.ExitCode == 0 {
		t.Errorf("in a sandbox without a root: %s", out)
	}
}

// tempt has the user run programs that root has given its rights to.
func (b *box) tempt(t *testing.T) {
	b.run(t, prelude())
	got := b.attack(t, `
subprocess.run(["sudo", "sh", "-c", "cp /usr/bin/cat /home/user/cat && chown 0:0 cat && chmod 6755 cat && cp cat /usr/bin/rootcat && cp --preserve=mode cat /tmp/cat && "
    "python3 -c 'import os; os.setxattr(\"/tmp/cat\", \"security.capability\", bytes([1,0,0,2,0xff,4,0,0,0,0,0,0,0,0,0,0,0,0,0,0]))'"], cwd="/home/user", check=True)
found = set()
for path in ["/home/user/cat", "/usr/bin/rootcat", "/tmp/cat"]:
    mode = os.stat(path).st_mode
    status = subprocess.run([path, "/proc/self/status"], capture_output=True, text=True).stdout
    found.update(re.findall(r"Uid:\t(.*)\n", status) + re.findall(r"Cap(?:Prm|Eff):\t(.*)\n", status))
return sorted(found)`)
	if want := `['0000000000000000', '1000\t1000\t1000\t1000']`; got != strings.ReplaceAll(want, "\t", `\t`) {
		t.Errorf("got %s, want %s", got, want)
	}
}

// command runs a command that reads a text, and returns what it wrote and how it ended.
func (b *box) command(t *testing.T, input string, args ...string) (out string, end process.End) {
	t.Helper()
	var said strings.Builder
	for e, err := range b.RunProcess(t.Context(), api.ProcessRequest{Args: args, Stdin: api.StdinText(input), Timeout: 300}) {
		if err != nil {
			t.Fatalf("%v\n%s", err, said.String())
		}
		switch e.Type {
		case process.Stdout, process.Stderr:
			fmt.Fprint(&said, e.Text)
		case journal.End:
			end = e.End
		}
	}
	return said.String(), end
}
