package local_test

import "fmt"

// processAttacks are on processes: those of the host, of other sandboxes, and the agent.
func processAttacks(h *host) []attack {
	pid := h.bystander.Process.Pid
	return []attack{
		{"see the host's processes", fmt.Sprintf(`return [pid for pid in processes() if pid != ME and %q in came_to(read, f"/proc/{pid}/cmdline")] or len(processes()) > 10 or None`, secret), "done", namespace},
		{"signal a process of the host", fmt.Sprintf(`return each(lambda s: os.kill(%d, s), [0, signal.SIGCONT, signal.SIGTERM, signal.SIGKILL])`, pid), "ESRCH", namespace},
		{"signal a process of the host in sight", fmt.Sprintf(`return each(lambda s: os.kill(%d, s), [0, signal.SIGCONT, signal.SIGTERM, signal.SIGKILL]), each(lambda s: signal.pidfd_send_signal(os.pidfd_open(%[1]d), s), [signal.SIGTERM])`, pid), `\('EPERM', 'EPERM'\)`, landlock},
		{"look into a process of the host", fmt.Sprintf(`return each(lambda name: read(f"/proc/%d/{name}"), ["environ", "mem", "maps", "auxv", "io"]), each(lambda name: os.readlink(f"/proc/%[1]d/{name}"), ["cwd", "root", "exe"])`, pid), `\('(ENOENT|EACCES|EPERM)', '(ENOENT|EACCES|EPERM)'\)`, everyone},
		{"look into the agent", `
agent = os.getppid()
return each(lambda name: read(f"/proc/{agent}/{name}"), ["environ", "mem", "maps", "smaps", "auxv", "syscall", "io"]), each(lambda name: os.listdir(f"/proc/{agent}/{name}"), ["fd", "fdinfo", "map_files", "cwd", "root"]), each(lambda name: os.readlink(f"/proc/{agent}/{name}"), ["exe", "cwd", "root", "fd/0", "ns/mnt", "ns/user"])`,
			`\('(EACCES|EPERM)', '(EACCES|EPERM)', '(EACCES|EPERM)'\)`, everyone},
		{"overwrite the agent's program", `return each(open_to_write, [f"/proc/{os.getppid()}/exe", f"/proc/{os.getppid()}/mem", f"/proc/{os.getppid()}/root/etc/passwd"])`, "EACCES|EPERM", everyone},
		{"signal the agent", `
agent = os.getppid()
return each(lambda s: os.kill(agent, s), [s for s in range(0, 65) if s not in (32, 33)])`, "EPERM", rootNamespace},
		{"look into the one that forks kernels", `
others = [pid for pid in processes() if pid not in (ME, 1) and os.path.exists(f"/proc/{pid}/cmdline") and "zygote" in read(f"/proc/{pid}/cmdline")]
return len(others), each(lambda name: read(f"/proc/{others[0]}/{name}"), ["environ", "mem", "maps", "auxv"]), came_to(os.listdir, f"/proc/{others[0]}/fd"), call("pidfd_getfd", os.pidfd_open(others[0]), 3, 0), call("ptrace", 16, others[0], 0, 0)`,
			`\(1, '(EACCES|EPERM)', '(EACCES|EPERM)', 'EPERM', 'EPERM'\)`, namespace},
		{"shared memory of the host", fmt.Sprintf(`return each(lambda key: check(libc.shmget(key, 1, 0)), [%d])`, h.shared), "ENOENT", namespace},
		{"abstract sockets of the host", fmt.Sprintf(`return came_to(socket.socket(socket.AF_UNIX).connect, "\0%s")`, h.abstract), "ECONNREFUSED|EPERM", everyone},
		{"sockets of the host by path", fmt.Sprintf(`return each(lambda p: socket.socket(socket.AF_UNIX).connect(p), [%q, %q, "/run/docker.sock", "/var/run/dbus/system_bus_socket", "/run/systemd/private"])`, h.path("s"), h.path("state/sandboxes/"+h.neighbour.id+"/agent.sock")),
			only("ENOENT", "EACCES"), namespace | rootLandlock},
	}
}

// privilegeAttacks are meant to become more than the user inside is.
func privilegeAttacks() []attack {
	return []attack{
		{"become root", `return each(lambda f: f(), [lambda: os.setuid(0), lambda: os.seteuid(0), lambda: os.setresuid(0, 0, 0), lambda: os.setgid(0), lambda: os.setresgid(0, 0, 0), lambda: os.setgroups([0])])`, only("EPERM", "EINVAL"), namespace | userLandlock},
		{"become another user", `return each(lambda f: f(), [lambda: os.setuid(1), lambda: os.setresuid(60000, 60000, 60000), lambda: os.setgid(1), lambda: os.setgroups([1, 5])])`, only("EPERM", "EINVAL"), everyone},
		{"capabilities", `
status = read("/proc/self/status")
held = re.findall(r"Cap(?:Inh|Prm|Eff|Bnd|Amb):\t0*([0-9a-f]+)\n", status)
return held, re.findall(r"(?:NoNewPrivs|Seccomp):\t(\d)", status), call("capset", struct.pack("Ii", 0x20080522, 0), struct.pack("6I", *[0xffffffff] * 6))`, `\(\['0', '0', '0', '0', '0'\], \['1', '2'\], 'EPERM'\)`, namespace},
		{"capabilities that no program can give", `
status = read("/proc/self/status")
return re.findall(r"Cap(?:Inh|Prm|Eff|Amb):\t0*([0-9a-f]+)\n", status), re.findall(r"(?:NoNewPrivs|Seccomp):\t(\d)", status)`, `\(\['0', '0', '0', '0'\], \['1', '2'\]\)`, landlock},
		{"programs that become root", `
found = set()
for path in [p for d in os.environ["PATH"].split(":") + ["/usr/lib/dbus-1.0", "/usr/lib/openssh"] for p in glob.glob(d + "/*")]:
    with_capability = came_to(os.getxattr, path, "security.capability") not in ("ENODATA", "ENOTSUP", "EPERM", "ENOENT")
    if os.path.isfile(path) and (os.stat(path).st_mode & 0o6000 or with_capability) and os.access(path, os.X_OK):
        child = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        status = read(f"/proc/{child.pid}/status")
        found.update(re.findall(r"Uid:\t(.*)\n", status) + re.findall(r"Cap(?:Prm|Eff):\t(.*)\n", status))
        child.kill()
        child.communicate()
return found <= {"\t".join([str(os.getuid())] * 4), "0" * 16} or found`, "True", everyone},
		{"a program that root owns, made by itself", `
shutil.copy("/usr/bin/env", "mine")
os.chmod("mine", 0o6755)
return each(lambda n: os.chown("mine", n, n), [0]), re.findall("Uid:\t(.*)\n", subprocess.run([HOME + "/mine", "cat", "/proc/self/status"], capture_output=True, text=True).stdout) == ["\t".join([str(os.getuid())] * 4)]`, `\('(EPERM|EINVAL)', True\)`, namespace | userLandlock},
		{"map users anew", `return each(lambda n: write(f"/proc/self/{n}", "0 0 1"), ["uid_map", "gid_map"]), came_to(write, "/proc/self/setgroups", "allow")`, `\('(EPERM|EACCES)', '(EPERM|EACCES)'\)`, everyone},
		{"first call on the processor", `return each(lambda f: f(), [lambda: os.setpriority(os.PRIO_PROCESS, 0, -5), lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)), lambda: check(libc.syscall(ctypes.c_long(NUMBERS["ioprio_set"]), 1, 0, 1 << 13))])`, only("EPERM", "EACCES"), everyone},
		{"last in line for lack of memory", `return came_to(write, "/proc/self/oom_score_adj", "-1000")`, "EACCES|EPERM", everyone},
		{"raise limits", `
def more(name):
    soft, hard = resource.getrlimit(name)
    resource.setrlimit(name, (hard + 1, hard + 1))
return each(more, [resource.RLIMIT_NOFILE])`, "VALUEERROR", everyone},
		{"limits of others", `return came_to(resource.prlimit, os.getppid(), resource.RLIMIT_NOFILE, resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE))`, "EPERM", everyone},
	}
}
