package local_test

import (
	"os"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet/local"
)

// administered are lines for sh that the user of a sandbox with a root runs, and what they write.
var administered = []struct{ name, line, want string }{
	{"who", `sudo id; sudo -n whoami; sudo sh -c 'echo $HOME $USER $LOGNAME $SUDO_USER $SUDO_UID; pwd'`, "uid=0(root) gid=0(root) groups=0(root)\nroot\n/root root root user 1000\n/home/user\n"},
	{"others", `sudo -u nobody id -un; sudo -u '#33' id -u; sudo -u user id -u; sudo -u nobody -g user id -gn; sudo -u absent id; echo $?`, "nobody\n33\n1000\nuser\nsudo: unknown user absent\n1\n"},
	{"settings", `A=1 sudo sh -c 'echo $A'; sudo B=2 sh -c 'echo $B'; sudo -E sh -c 'echo $HOME'; sudo -i pwd; sudo -D /usr pwd; sudo -s 'echo' 'a b'`, "1\n2\n/home/user\n/root\n/usr\na b\n"},
	{"variables that are kept", `export XDG_A=a XDG_B=b; sudo --preserve-env=HOME,XDG_A sh -c 'echo $HOME $XDG_A $XDG_B'; sudo --preserve-env sh -c 'echo $HOME $XDG_B'; sudo echo --preserve-env=A -E; sudo --preserve-env=A -- echo --preserve-env=B`,
		"/home/user a\n/home/user b\n--preserve-env=A -E\n--preserve-env=B\n"},
	{"status", `sudo sh -c 'exit 7'; echo $?; sudo sh -c 'kill -HUP $$' 2> log; echo $?; sudo absent; echo $?; sudo -l | tail -1; sudo -v; echo $?; sudo --bad; echo $?`,
		"7\n129\nsudo: absent: command not found\n1\n    (ALL : ALL) NOPASSWD: ALL\n0\nsudo: option --bad not recognized\n1\n"},
	{"input", `echo text | sudo tee /etc/motd; cat /etc/motd; sudo cat < /etc/motd | tr a-z A-Z; sudo sh -c 'echo out; echo err >&2' 2>/dev/null`, "text\ntext\nTEXT\nout\n"},
	{"bytes that are no text", `touch "$(printf 'a\377b')" && sudo stat -c %U "$(printf 'a\377b')"; sudo A="$(printf '\377')" sh -c 'printf "$A" | od -An -tx1'`, "user\n ff\n"},
	{"the system", `sudo touch /usr/bin/made /usr/lib/made /opt/made && stat -c %U /usr/bin/made; sudo rm /usr/bin/made && test -e /usr/bin/made || echo gone; sudo rm /usr/share/common-licenses/BSD && test -e /usr/share/common-licenses/BSD || echo gone`, "root\ngone\ngone\n"},
	{"gifts", `sudo mkdir -p /data/deep && sudo chown user:user /data/deep && echo mine > /data/deep/file && cat /data/deep/file; touch kept && sudo chown root kept && sudo chmod 600 kept && cat kept 2>&1; sudo chown user kept`, "mine\ncat: kept: Permission denied\n"},
	{"users", `sudo useradd -m -u 2000 somebody && sudo -u somebody sh -c 'cd && pwd && id -un'; sudo su somebody -c 'id -un'; sudo userdel somebody`, "/home/somebody\nsomebody\nsomebody\n"},
	{"low ports", `sudo python3 -c 'import socket; print(socket.create_server(("127.0.0.1", 80)).getsockname()[1])'`, "80\n"},
	{"apt", `sudo apt-get --version | head -1 | cut -d' ' -f1; sudo apt-get -qq check && echo sound; apt-cache policy dpkg | sed -n 2p | cut -c1-13`, "apt\nsound\n  Installed: \n"},
	{"a package", `mkdir -p p/DEBIAN p/usr/share/tiny p/usr/bin && printf 'Package: tiny\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: x\n' > p/DEBIAN/control &&
printf '#!/bin/sh\nid -u\n' > p/DEBIAN/postinst && chmod 755 p/DEBIAN/postinst && printf '#!/bin/sh\necho tiny\n' > p/usr/bin/tiny && chmod 755 p/usr/bin/tiny &&
dpkg-deb --root-owner-group -b p tiny.deb > log && sudo dpkg -i tiny.deb | tail -1 && tiny && stat -c %U /usr/bin/tiny && sudo dpkg -r tiny >> log && test -e /usr/bin/tiny || echo removed`, "0\ntiny\nroot\nremoved\n"},
	{"a server that stays", `sudo sh -c 'setsid sleep 1000 > /dev/null 2>&1 & echo $! > /run/pid'; sudo kill "$(cat /run/pid)" && echo was there`, "was there\n"},
}

// administer has the user of a sandbox with a root do what it is for.
func (h *host) administer(t *testing.T) {
	before, err := os.ReadDir("/usr/bin")
	if err != nil {
		t.Fatal(err)
	}
	b := h.create(t, api.SandboxRequest{Template: local.RootTemplate})
	for _, c := range administered {
		t.Run(c.name, func(t *testing.T) {
			if got, _ := b.command(t, "", "sh", "-c", "exec 2>&1\n"+c.line); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	t.Run("from a cell", func(t *testing.T) {
		if got := b.run(t, "print(__import__('subprocess').run(['sudo', 'id', '-u'], capture_output=True, text=True).stdout)\n!sudo id -un"); strings.Join(strings.Fields(got), " ") != "0 root" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("at a terminal", b.atTerminal)
	t.Run("interrupted", b.interrupted)
	after, err := os.ReadDir("/usr/bin")
	if err != nil || len(after) != len(before) {
		t.Errorf("%d programs of the host became %d (%v)", len(before), len(after), err)
	}
}

// atTerminal has root's shell be as at any terminal: it controls it, and keys reach what runs in it.
func (b *box) atTerminal(t *testing.T) {
	const line = `python3 - <<'END'
import os, pty, select, sys
pid, fd = pty.fork()
if pid == 0:
    os.execvp("sudo", ["sudo", "sh"])
seen = b""
def until(word):
    global seen
    while word not in seen:
        seen += os.read(fd, 4096)
    seen = seen.split(word, 1)[1]
until(b"# ")
os.write(fd, b"echo 'on' $(tty | cut -c1-9)\n")
until(b"on /dev/pts/")
until(b"# ")
os.write(fd, b"echo sta''rted; cat\n")
until(b"started")
while b"# " not in seen: # a shell that is between two programs can miss one
    os.write(fd, b"\x03")
    if select.select([fd], [], [], 0.2)[0]:
        seen += os.read(fd, 4096)
try:
    while True:
        if not select.select([fd], [], [], 0.2)[0]: # a key of ours that it took for another interrupt took the line, too
            os.write(fd, b"exit 5\n")
        elif not os.read(fd, 4096):
            break
except OSError:
    pass
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
END`
	if got, _ := b.command(t, "", "sh", "-c", line); got != "5\n" {
		t.Errorf("got %q", got)
	}
}

// interrupted has signals reach a command of root, which ends with its sudo.
func (b *box) interrupted(t *testing.T) {
	const line = `python3 - <<'END'
import signal, subprocess
def start():
    p = subprocess.Popen(["sudo", "sh", "-c", "trap 'echo hung up; exit 3' HUP; trap 'echo interrupted; exit 4' INT; echo $$; while :; do sleep 0.05; done"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return p, p.stdout.readline().strip()
p, _ = start()
p.send_signal(signal.SIGINT)
print(p.stdout.read().strip(), p.wait())
p, pid = start()
p.kill()
print(p.stdout.read().strip(), p.wait())
END`
	if got, _ := b.command(t, "", "sh", "-c", line); got != "interrupted 4\nhung up -9\n" {
		t.Errorf("got %q", got)
	}
}
