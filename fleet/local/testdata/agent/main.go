// Command agent is what sandboxes of the tests run, and a server that can be killed.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/fleet/local"
	"github.com/k2sandbox/k2sandbox/fleet/local/cage"
)

func main() {
	roles := map[string]func() error{"inside": inside, "broken": broken, "astray": astray, "mute": mute, "server": server}
	if err := roles[os.Args[1]](); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// task is what a test asks an agent to do.
type task struct {
	Args []string // a command, as the user inside
}

type outcome struct {
	Out  string
	Code int
	Err  string
}

// self is what an agent sees of itself.
type self struct {
	Dir     string
	Environ []string
	Files   map[string]string // targets, by descriptor
}

// inside is an agent that does as it is told.
func inside() error {
	in, err := local.Enter(os.NewFile(3, "control"))
	if err != nil {
		return err
	}
	rules, err := in.Confine()
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/config", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(in.Config) })
	mux.HandleFunc("/self", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(look()) })
	mux.HandleFunc("/own", func(w http.ResponseWriter, _ *http.Request) { // a program as the agent itself, not as code
		out, err := exec.Command("/bin/cat", "/proc/self/status").CombinedOutput()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(outcome{Out: string(out)})
	})
	mux.HandleFunc("/takeover", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(takeover()) })
	mux.HandleFunc("/exit", func(http.ResponseWriter, *http.Request) { os.Exit(7) })
	mux.HandleFunc("/run", func(w http.ResponseWriter, r *http.Request) {
		var t task
		if err := json.NewDecoder(r.Body).Decode(&t); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_ = json.NewEncoder(w).Encode(perform(in, rules, t))
	})
	if err := in.Ready(nil); err != nil {
		return err
	}
	return http.Serve(in.Listener, mux)
}

// broken is an agent that cannot start.
func broken() error {
	in, err := local.Enter(os.NewFile(3, "control"))
	if err != nil {
		return err
	}
	return in.Ready(errors.New("no kernel today"))
}

// astray is an agent whose code could not start where it was to.
func astray() error {
	in, err := local.Enter(os.NewFile(3, "control"))
	if err != nil {
		return err
	}
	return in.Ready(fmt.Errorf("%w: it has moved", fleet.ErrCwd))
}

// mute is an agent that never answers.
func mute() error {
	if _, err := local.Enter(os.NewFile(3, "control")); err != nil {
		return err
	}
	for { // whatever signals come
		_ = syscall.Pause()
	}
}

// perform runs a command as agents do: from a thread that is in the cage.
func perform(in *local.Inside, rules cage.Rules, t task) (o outcome) {
	cmd := exec.Command(t.Args[0], t.Args[1:]...)
	cmd.Env, cmd.Dir = in.Environ, in.Cwd
	if os.Getuid() != in.UID {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(in.UID), Gid: uint32(in.GID)}}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked
		if err := rules.Enter(); err != nil {
			o.Err = err.Error()
			return
		}
		out, err := cmd.CombinedOutput()
		o.Out = string(out)
		if err != nil {
			o.Err = err.Error()
		}
		o.Code = cmd.ProcessState.ExitCode()
	}()
	<-done
	return o
}

// takeover is what a taken-over agent tries on a thread of its own, and what each came to.
func takeover() map[string]string {
	calls := map[string][]uintptr{
		"setuid": {syscall.SYS_SETUID, 0}, "setgid": {syscall.SYS_SETGID, 0}, "setfsuid": {syscall.SYS_SETFSUID, 0}, "setfsgid": {syscall.SYS_SETFSGID, 0},
		"setreuid": {syscall.SYS_SETREUID, ^uintptr(0), 0}, "setregid": {syscall.SYS_SETREGID, 1000, 0}, "setresuid": {syscall.SYS_SETRESUID, 1000, 1000, 0},
		"setresgid": {syscall.SYS_SETRESGID, ^uintptr(0), 0, ^uintptr(0)}, "setgroups": {syscall.SYS_SETGROUPS, 1, uintptr(unsafe.Pointer(new(uint32)))},
		"mount": {syscall.SYS_MOUNT}, "unshare": {syscall.SYS_UNSHARE, syscall.CLONE_NEWNS}, "ptrace": {syscall.SYS_PTRACE}, "keyctl": {unix.SYS_KEYCTL},
		"bpf": {unix.SYS_BPF}, "userfaultfd": {unix.SYS_USERFAULTFD}, "io_uring_setup": {unix.SYS_IO_URING_SETUP}, "setns": {unix.SYS_SETNS},
	}
	came := map[string]string{}
	for name, c := range calls {
		c = append(c, 0, 0, 0)
		_, _, errno := syscall.RawSyscall(c[0], c[1], c[2], c[3])
		came[name] = errno.Error()
	}
	return came
}

func look() self {
	dir, _ := os.Getwd()
	s := self{Dir: dir, Environ: os.Environ(), Files: map[string]string{}}
	open, _ := os.ReadDir("/proc/self/fd")
	for _, f := range open {
		s.Files[f.Name()], _ = os.Readlink("/proc/self/fd/" + f.Name())
	}
	return s
}

// server starts a sandbox in the directory that it is told, prints its record, and waits to be killed. With a length of time it
// pauses it, to be abandoned after that.
func server() error {
	o := local.Options{Dir: os.Args[2], Level: os.Args[3]}
	if len(os.Args) > 5 {
		o.Abandon, _ = time.ParseDuration(os.Args[5])
	}
	r, err := local.New(context.Background(), o)
	if err != nil {
		return err
	}
	m, err := r.Start(context.Background(), fleet.Spec{ID: os.Args[4]})
	if err != nil {
		return err
	}
	if o.Abandon > 0 {
		if err := m.Pause(context.Background()); err != nil {
			return err
		}
	}
	fmt.Printf("%s\n", m.Record())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
