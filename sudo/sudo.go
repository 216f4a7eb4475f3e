// Package sudo has code in a sandbox run commands as root of that sandbox, where its template allows it. Nothing
// becomes root by itself: a program called sudo asks the sandbox's agent, which starts the command.
package sudo

import (
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
)

// Path is where Program is to be.
const Path = "/usr/local/bin/sudo"

// socket is where the agent is asked.
const socket = "/run/sudo.sock"

//go:embed sudo.py
var script string

// Program returns the text of the program, which a Python runs that is at the path given.
func Program(interpreter string) string {
	// Python reads a string in the first lines, and sh a command: what a "#!" names may be neither long nor have spaces.
	const shebang = "#!/bin/sh\n'''exec' '%s' -I -S \"$0\" \"$@\"\n' '''\n"
	return fmt.Sprintf(shebang, strings.ReplaceAll(interpreter, "'", `'"'"'`)) + script
}

// Listen makes the socket at which a Service can be asked, for all users of the sandbox.
func Listen() (net.Listener, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("cannot make the socket for sudo: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(socket, 0o666); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open the socket for sudo: %w", err), l.Close())
	}
	return l, nil
}
