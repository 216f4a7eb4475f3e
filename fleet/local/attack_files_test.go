package local_test

import "fmt"

// noEntry is what comes of a path that is not for the sandbox: there is none, or it may not be used.
var noEntry = only("ENOENT", "EACCES")

// fileAttacks are on what is in the file system.
func fileAttacks(h *host) []attack {
	return []attack{
		{"read the host's /etc/shadow", `return each(read, ["/etc/shadow", "/etc/gshadow", "/etc/sudoers", "/proc/1/root/etc/shadow"])`, noEntry, everyone},
		{"read the server's key", fmt.Sprintf(`return each(read, [%q, "/proc/1/root" + %[1]q])`, h.path("key")), noEntry, everyone},
		{"read what only the host's root reads", fmt.Sprintf(`return [came_to(read, %q + f) for f in ["/open", "/deep/open", "/closed", "/deep/closed", "/deep/private/file"]]`, h.packages), "\\[('" + secret + "', ){2}('EACCES'(, )?){3}\\]", rootNamespace | rootLandlock},
		{"look into the server's state", fmt.Sprintf(`return each(os.listdir, [%q, %q, %q])`, h.dir, h.path("state"), h.path("state/sandboxes")), noEntry, everyone},
		{"read another sandbox's files", fmt.Sprintf(`return each(read, [%q, %q])`, h.path("state/sandboxes/"+h.neighbour.id+"/home/mine"), h.path("state/sandboxes/"+h.neighbour.id+"/agent.sock")), noEntry, everyone},
		{"write to the system", `return each(open_to_write, ["/usr/bin/env", "/bin/sh", "/usr/lib/os-release", "/etc/passwd", "/etc/group", "/etc/ld.so.cache", "/etc/nsswitch.conf"])`,
			only("EROFS", "EACCES"), everyone},
		{"write to the interpreter", `return each(open_to_write, [sys.executable, os.path.realpath(sys.executable), os.__file__, "/proc/self/exe"])`,
			only("EROFS", "EACCES", "ETXTBSY"), everyone},
		{"make files in the system", `return each(lambda d: plant(d + "/planted"), ["/", "/usr", "/usr/bin", "/etc", "/root", "/var", "/run", "/dev", "/sys", "/proc", "/opt", "/home", os.path.dirname(os.__file__)])`,
			only("EROFS", "EACCES", "ENOENT", "EPERM"), everyone},
		{"plant a preload", `return each(plant, ["/etc/ld.so.preload", "/etc/cron.d/x", "/etc/sudoers.d/x", "/etc/profile.d/x.sh", "/etc/python3/sitecustomize.py"])`,
			only("EROFS", "EACCES", "ENOENT", "EPERM"), everyone},
		{"remove and rename the system", `return each(lambda f: f(), [lambda: os.rmdir("/usr"), lambda: os.rmdir("/etc"), lambda: os.rmdir("/tmp"), lambda: os.rename("/etc", "/var"), lambda: os.rename("/usr/bin", "/usr/lib"), lambda: os.mkdir("/etc/planted")])`,
			only("EROFS", "EACCES", "EPERM", "EBUSY", "EXDEV"), everyone},
		{"change modes and owners", `
def keep(path):
    "To what they are, so that nothing is harmed where it should succeed."
    now = os.stat(path)
    return each(lambda f: f(), [lambda: os.chmod(path, stat.S_IMODE(now.st_mode)), lambda: os.chown(path, 0, 0), lambda: os.utime(path, ns=(now.st_atime_ns, now.st_mtime_ns)), lambda: os.setxattr(path, "user.planted", b"")])
return each(keep, ["/", "/etc", "/etc/passwd", "/usr/bin", "/usr/bin/env"])`, only("EROFS", "EPERM", "EACCES"), everyone},
		{"give a file to root", `
open("mine", "w").close()
return each(lambda f: f(), [lambda: os.chown("mine", 0, 0), lambda: os.chown("mine", 0, -1), lambda: os.chown("mine", -1, 0), lambda: os.chown("mine", 70000, -1)])`,
			only("EPERM", "EINVAL"), everyone},
		{"change settings of Linux", `return each(open_to_write, ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/kernel/modprobe", "/proc/sys/vm/overcommit_memory", "/proc/sys/fs/file-max", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/user/max_user_namespaces", "/proc/irq/default_smp_affinity"])`,
			only("EROFS", "EACCES", "ENOENT", "EPERM"), everyone},
		{"press SysRq", `return came_to(open_to_write, "/proc/sysrq-trigger")`, `EACCES|EROFS|ENOENT`, everyone},
		{"use /sys", `return each(lambda p: os.listdir(p), ["/sys/kernel", "/sys/fs/cgroup", "/sys/firmware"])`, noEntry, everyone},
		{"leave its control group", `return each(open_to_write, [d + f for d in ("/sys/fs/cgroup/", "/sys/fs/cgroup/unified/", "/sys/fs/cgroup/memory/", "/sys/fs/cgroup/pids/") for f in ("cgroup.procs", "tasks", "memory.limit_in_bytes", "release_agent")])`, noEntry, everyone},
		{"make devices", `return each(lambda d: os.mknod("device", 0o666 | d[0], os.makedev(*d[1])), [(stat.S_IFBLK, (254, 0)), (stat.S_IFCHR, (1, 1)), (stat.S_IFCHR, (10, 200)), (stat.S_IFCHR, (1, 3))])`, `EPERM|EACCES`, everyone},
		{"open devices of the host", `return each(lambda p: os.open(p, os.O_RDWR), ["/dev/vda", "/dev/sda", "/dev/mem", "/dev/kmsg", "/dev/kvm", "/dev/net/tun", "/dev/fuse", "/dev/loop-control", "/dev/loop0", "/dev/mapper/control", "/dev/vsock", "/dev/tty1", "/dev/console"])`,
			only("ENOENT", "EACCES"), everyone},
		{"look into the kernel's memory", `return each(lambda p: read(p), ["/proc/kcore", "/proc/kmsg", "/proc/kallsyms", "/proc/keys", "/proc/timer_list", "/proc/vmallocinfo", "/proc/slabinfo", "/proc/kpagecount"])`,
			only("NOTHING", "EACCES", "ENOENT", "EPERM"), namespace},
		{"hidden attributes", `
open("mine", "w").close()
return each(lambda n: os.setxattr("mine", n, b"\x01\x00\x00\x02" + bytes(16)), ["security.capability", "trusted.overlay.redirect", "trusted.overlay.opaque"])`, `EPERM|ENOTSUP|EOPNOTSUPP`, everyone},
		{"link to the system's files", `return each(lambda p: os.link(p, HOME + "/linked"), ["/etc/passwd", "/usr/bin/env", "/usr/bin/su", "/proc/1/environ"])`,
			only("EXDEV", "EPERM", "EACCES", "ENOENT"), everyone},
		{"climb out of the root", `
os.chdir("/")
for _ in range(50):
    os.chdir("..")
here, root = os.stat("."), os.stat("/")
os.chdir(HOME)
return came_to(lambda: read("/" + "../" * 50 + "etc/shadow")), (here.st_dev, here.st_ino) == (root.st_dev, root.st_ino), came_to(os.chroot, "/tmp")`,
			`\('(ENOENT|EACCES)', True, 'EPERM'\)`, everyone},
		{"find open files of the host", `
found = set()
for pid in processes():
    for path in glob.glob(f"/proc/{pid}/fd/*"):
        try:
            target = os.readlink(path)
        except OSError:
            continue
        if not re.match(r"(pipe|socket|anon_inode|/memfd|/dev/(null|urandom|pts)|/usr/|" + re.escape(sys.base_prefix) + "|" + re.escape(HOME) + "|/tmp|/var/tmp|/proc/)", target) and pid in (ME, os.getppid()):
            found.add(target)
return found or None`, "done", everyone},
		{"find what mounts tell of the host", fmt.Sprintf(`return [line for pid in processes() for name in ("mountinfo", "mounts", "mountstats") for line in came_to(read, f"/proc/{pid}/{name}").splitlines() if %q in line] or None`, h.dir), "done", namespace},
		{"find the host's environment", fmt.Sprintf(`
return [pid for pid in processes() if %q in came_to(read, f"/proc/{pid}/environ") or %[1]q in str(os.environ)] or None`, secret), "done", everyone},
	}
}
