# sudo: runs a command as root of this sandbox, or as another user.
# Program, in sudo.go, puts a line of sh before it.
#
# The user of the sandbox may, without a password. As who is not root it asks the sandbox's agent to run this
# same program as root, with its descriptors, directory and environment; as root it becomes the user asked for
# and then the command.
from __future__ import annotations

import base64
import contextlib
import getopt
import grp
import json
import os
import pwd
import re
import shlex
import signal
import socket
import sys
from typing import Any, NoReturn

SOCKET = "/run/sudo.sock"
USAGE = "usage: sudo [-bEHiknsv] [-u USER] [-g GROUP] [-D DIR] [VAR=value ...] [--] COMMAND [ARGUMENT ...]"
FORWARDED = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCONT")
LETTERS = "AbBeEHiIkKlnNPsSvVhu:g:p:D:C:T:r:t:R:U:"
WORDS = (
    "askpass background bell edit preserve-env preserve-list= set-home login remove-timestamp "
    "reset-timestamp list non-interactive no-update preserve-groups shell stdin validate version help "
    "user= group= prompt= chdir= close-from= command-timeout= role= type= chroot= other-user="
)
IGNORED = {"-p", "--prompt", "-C", "--close-from", "-r", "--role", "-t", "--type", "-U", "--other-user"}


def fail(message: str) -> NoReturn:
    print(f"sudo: {message}", file=sys.stderr)
    raise SystemExit(1)


class Request:
    """What the command line asks for."""

    def __init__(self, arguments: list[str]) -> None:
        # To getopt an option has an argument or has none.
        told = [re.sub("^--preserve-env=", "--preserve-list=", argument) for argument in arguments]
        try:
            options, rest = getopt.getopt(told, LETTERS, WORDS.split())
        except getopt.GetoptError as error:
            fail(str(error))
        rest = arguments[len(arguments) - len(rest) :]
        given = dict(options)

        def has(*names: str) -> bool:
            return any(name in given for name in names)

        def value(*names: str) -> str | None:
            return next((given[name] for name in names if name in given), None)

        self.user = value("-u", "--user") or "root"
        self.group = value("-g", "--group")
        self.dir = value("-D", "--chdir")
        self.login, self.shell = has("-i", "--login"), has("-s", "--shell")
        self.keep = has("-E", "--preserve-env")
        self.kept = {name for o, names in options if o == "--preserve-list" for name in names.split(",")}
        self.background = has("-b", "--background")
        if has("-h", "--help"):
            print(USAGE)
            raise SystemExit(0)
        if has("-V", "--version"):
            print("Sudo of k2sandbox, which needs no password")
            raise SystemExit(0)
        for name in ("-R", "--chroot", "-T", "--command-timeout", "-e", "--edit", "-A", "--askpass"):
            if name in given:
                fail(f"there is no {name} here")
        if has("-l", "--list"):
            print("User user may run the following commands in this sandbox:\n    (ALL : ALL) NOPASSWD: ALL")
            raise SystemExit(0)
        self.variables: dict[str, str] = {}
        while rest and "=" in rest[0] and rest[0].split("=")[0].isidentifier():
            name, _, text = rest.pop(0).partition("=")
            self.variables[name] = text
        self.command = rest
        if not rest and not self.login and not self.shell:
            if has("-v", "--validate", "-k", "--reset-timestamp", "-K", "--remove-timestamp"):
                raise SystemExit(0)
            print(USAGE, file=sys.stderr)
            raise SystemExit(1)


def find_user(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(int(name[1:])) if name.startswith("#") else pwd.getpwnam(name)
    except (KeyError, ValueError):
        fail(f"unknown user {name}")


def find_group(name: str) -> int:
    try:
        return int(name[1:]) if name.startswith("#") else grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        fail(f"unknown group {name}")


def become(request: Request) -> NoReturn:
    """Become the command, as root."""
    user = find_user(request.user)
    gid = user.pw_gid if request.group is None else find_group(request.group)
    environment = dict(os.environ)
    environment.setdefault("SUDO_UID", str(os.getuid()))
    environment.setdefault("SUDO_GID", str(os.getgid()))
    environment.setdefault("SUDO_USER", pwd.getpwuid(os.getuid()).pw_name)
    if not request.keep:
        if "HOME" not in request.kept:
            environment["HOME"] = user.pw_dir
        for name in [n for n in environment if n.startswith("XDG_") and n not in request.kept]:
            del environment[name]
    environment |= {
        "USER": user.pw_name,
        "LOGNAME": user.pw_name,
        "SHELL": user.pw_shell or "/bin/sh",
        "MAIL": f"/var/mail/{user.pw_name}",
    }
    environment |= request.variables
    command = list(request.command)
    if request.login or request.shell:
        shell = environment["SHELL"]
        command = [shell, "-c", shlex.join(command)] if command else [shell]
        if request.login:
            command.insert(1, "-l")
    environment["SUDO_COMMAND"] = " ".join(command)[:4096]
    try:
        os.initgroups(user.pw_name, gid)
        os.setgid(gid)
        os.setuid(user.pw_uid)
        os.chdir(request.dir or (user.pw_dir if request.login else "."))
    except OSError as error:
        fail(f"cannot run as {user.pw_name}: {error}")
    try:
        os.execvpe(command[0], command, environment)
    except FileNotFoundError:
        fail(f"{command[0]}: command not found")
    except OSError as error:
        fail(f"unable to execute {command[0]}: {error.strerror}")


class Terminal:
    """A terminal of the command's own, to and from which all is carried."""

    def __init__(self) -> None:
        import termios
        import tty

        self.before = termios.tcgetattr(0)
        self.ours, self.theirs = os.openpty()
        termios.tcsetattr(self.theirs, termios.TCSANOW, self.before)
        self.resize()
        signal.signal(signal.SIGWINCH, lambda *_: self.resize())
        tty.setraw(0)
        self.termios = termios

    def resize(self) -> None:
        import fcntl
        import termios

        size = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, size)

    def carry(self, until: socket.socket) -> None:
        """Carry until the agent says something."""
        import select

        open_ends = {0, self.ours, until.fileno()}
        while True:
            ready = select.select(open_ends, [], [])[0]
            if 0 in ready:
                data = os.read(0, 4096)
                os.write(self.ours, data or b"\x04")
                if not data:
                    open_ends.remove(0)
            if self.ours in ready:
                if not self.show():
                    open_ends.remove(self.ours)
            elif until.fileno() in ready:
                return

    def show(self) -> bool:
        try:
            data = os.read(self.ours, 65536)
        except OSError:  # nobody has the other end
            return False
        while data:
            data = data[os.write(1, data) :]
        return True

    def close(self) -> None:
        import select

        while select.select([self.ours], [], [], 0)[0] and self.show():
            pass
        self.termios.tcsetattr(0, self.termios.TCSADRAIN, self.before)


def interactive() -> bool:
    """Whether the command is to have a terminal of its own: it could not control this one."""
    try:
        return os.isatty(0) and os.isatty(1) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:  # it is another session's
        return False


def ask(arguments: list[str]) -> NoReturn:
    """Have the agent run this program as root, and end as that does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
        try:
            agent.connect(SOCKET)
        except OSError as error:
            fail(f"nobody becomes root in this sandbox: {error.strerror}")
        terminal = Terminal() if interactive() else None
        environment = os.environ | {
            "SUDO_UID": str(os.getuid()),
            "SUDO_GID": str(os.getgid()),
            "SUDO_USER": pwd.getpwuid(os.getuid()).pw_name,
        }
        request = {
            "args": [encode(text) for text in (os.path.abspath(__file__), *arguments)],
            "dir": encode(os.getcwd()),
            "env": [encode(f"{name}={value}") for name, value in environment.items()],
            "control": terminal is not None,
        }
        stdio = [0, 1, 2]
        if terminal:
            stdio = [terminal.theirs, terminal.theirs, terminal.theirs if os.isatty(2) else 2]
        try:
            numbers = [signal.Signals[name] for name in FORWARDED]
            signal.pthread_sigmask(signal.SIG_BLOCK, numbers)  # until they are forwarded
            socket.send_fds(agent, [b"\0"], stdio)
            agent.sendall(json.dumps(request).encode() + b"\n")
            for number in numbers:
                if signal.getsignal(number) is not signal.SIG_IGN:  # as by nohup
                    signal.signal(number, lambda number, _: tell(agent, number))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
            if terminal:
                os.close(terminal.theirs)
                terminal.carry(agent)
            heard = b""
            while part := agent.recv(4096):
                heard += part
        finally:
            if terminal:
                terminal.close()
    end(heard)


def tell(agent: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # the command has ended
        agent.sendall(b'{"signal": %d}\n' % number)


def encode(text: str) -> str:
    return base64.b64encode(os.fsencode(text)).decode()


def end(heard: bytes) -> NoReturn:
    if not heard:
        fail("the sandbox's agent gave no answer")
    said: dict[str, Any] = json.loads(heard)
    if said.get("error"):
        fail(said["error"])
    if number := said["signal"]:
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    raise SystemExit(said["code"])


def main(arguments: list[str]) -> NoReturn:
    request = Request(arguments)
    if request.background and os.fork():
        os._exit(0)
    if os.geteuid() == 0:
        become(request)
    ask(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
