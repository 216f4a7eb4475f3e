package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// Errors of a command that cannot be started.
var (
	ErrDirectory = errors.New("the working directory cannot be entered")
	ErrProgram   = errors.New("the program cannot be executed")
	ErrFork      = errors.New("the process was not forked") // by Command.Fork
)

// Command says what to run.
type Command struct {
	Args []string // Args[0] without a slash is looked up in the PATH of Env
	Dir  string   // working directory; "" is that of this program
	Env  []string // the whole environment, "NAME=value"; nil is an empty one

	// Stdin is /dev/null where nil. An *os.File is handed over as it is.
	Stdin io.Reader
	// Stdout and Stderr are discarded where nil. An *os.File is handed over as it
	// is; another writer is called from one goroutine each, until the output ends or
	// Close. While it blocks, so may the process, and Done waits; once it fails, the
	// rest is discarded.
	Stdout, Stderr io.Writer
	// Terminal, where set, gives the process a terminal of that size, which controls
	// its session, in place of Stdin, Stdout and Stderr; what comes out of it goes to
	// Stdout. Process.Terminal is our end.
	Terminal *Size
	// Control has Stdin, a terminal that controls no session, control the process's.
	Control bool

	// KillGroup kills what is left of the process group as soon as its leader exits.
	KillGroup bool
	// Guard, where set, marks the process and its descendants as its own.
	Guard *Guard

	// On, where set, is the thread whose confinement and user the process has.
	On *Thread
	// Fork, where set, has another process make this one, in place of executing Args on On.
	// It is handed the environment and what are to be the descriptors 0, 1 and 2, and
	// returns the pid of a child of this program (see Reap), which leads a session of its own.
	Fork func(env []string, stdin, stdout, stderr *os.File) (pid int, err error)
}

// enterable says why the directory cannot be a working directory. The failed chdir
// of a child reads as if the program were missing.
func enterable(dir string) error {
	if dir == "" {
		return nil
	}
	if s, err := os.Stat(dir); err != nil {
		return err
	} else if !s.IsDir() {
		return &os.PathError{Op: "chdir", Path: dir, Err: unix.ENOTDIR}
	}
	if err := executable(dir); err != nil {
		return &os.PathError{Op: "chdir", Path: dir, Err: err}
	}
	return nil
}

// lookPath finds the program as the new process would: in its own PATH and
// relative to its own directory.
func lookPath(name string, env []string, dir string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil // the exec fails in Dir, with a clear error
	}
	path := ""
	for _, v := range env {
		if value, ok := strings.CutPrefix(v, "PATH="); ok {
			path = value
		}
	}
	for _, d := range strings.Split(path, ":") {
		file := d + "/" + name
		if d != "" && !strings.HasPrefix(d, "/") {
			file = dir + "/" + file
		}
		if d != "" && executable(file) == nil && isFile(file) {
			return file, nil
		}
	}
	return "", fmt.Errorf("%q is not in PATH (%s): %w", name, path, exec.ErrNotFound)
}

// executable says why the file, or directory, is not to be executed, or entered, by who
// this program accesses files as: that may be another user than the real one.
func executable(path string) error {
	return unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS)
}

func isFile(path string) bool {
	s, err := os.Stat(path)
	return err == nil && s.Mode().IsRegular()
}

// isOfProgram reports whether it is the program's file, or its arguments, that
// cannot be executed.
func isOfProgram(err error) bool {
	for _, e := range []error{unix.ENOENT, unix.EACCES, unix.ENOEXEC, unix.ENOTDIR, unix.EISDIR, unix.ELOOP, unix.ENAMETOOLONG, unix.E2BIG, unix.EINVAL, unix.ETXTBSY} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
