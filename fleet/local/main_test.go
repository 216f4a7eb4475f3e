package local_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/k2sandbox/k2sandbox/fleet/local"
)

// The test binary is also what sandboxes run: an agent that does as it is told.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "inside" {
		if err := inside(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// task is what a test asks an agent to do: a command, as the user inside.
type task struct {
	Args []string
	Root bool // as the agent is
}

type outcome struct {
	Out  string
	Code int
	Err  string
}

func inside() error {
	in, err := local.Enter(os.NewFile(3, "control"))
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/config", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(in.Config) })
	mux.HandleFunc("/run", func(w http.ResponseWriter, r *http.Request) {
		var t task
		if err := json.NewDecoder(r.Body).Decode(&t); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_ = json.NewEncoder(w).Encode(perform(in, t))
	})
	mux.HandleFunc("/exit", func(http.ResponseWriter, *http.Request) { os.Exit(7) })
	if err := in.Ready(nil); err != nil {
		return err
	}
	return http.Serve(in.Listener, mux)
}

func perform(in *local.Inside, t task) outcome {
	cmd := exec.Command(t.Args[0], t.Args[1:]...)
	cmd.Env = in.Environ
	if os.Getuid() == 0 && !t.Root {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(in.UID), Gid: uint32(in.GID)}}
	}
	out, err := cmd.CombinedOutput()
	o := outcome{Out: string(out)}
	if err != nil {
		o.Err = err.Error()
	}
	if cmd.ProcessState != nil {
		o.Code = cmd.ProcessState.ExitCode()
	}
	return o
}
