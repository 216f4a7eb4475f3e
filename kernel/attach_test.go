package kernel_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

func TestAttach(t *testing.T) {
	t.Parallel()
	owner := start(t, kernel.Options{})
	k, err := kernel.Attach(t.Context(), owner.ConnectionFile(), kernel.AttachOptions{})
	if err != nil {
		t.Fatal(err)
	}
	two(t, k)
	if err := k.Restart(t.Context()); !errors.Is(err, kernel.ErrNotOwned) {
		t.Error(err)
	}
	if o := interrupted(t, k, begin(t, k, "import time; print(1, flush=True); time.sleep(1000)")); o.ename != "KeyboardInterrupt" {
		t.Errorf("%+v", o)
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	var d *wire.Death
	if !errors.As(k.Err(), &d) || !d.Requested {
		t.Errorf("%v", k.Err())
	}
	two(t, owner) // it still runs

	k, err = kernel.Attach(t.Context(), owner.ConnectionFile(), kernel.AttachOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	asked := begin(t, k, "import time; print(1, flush=True); time.sleep(1000)")
	syscall.Kill(owner.Pid(), syscall.SIGSTOP) // its sockets stay open
	if o := <-asked; !errors.As(o.err, &d) || d.Requested || !strings.Contains(d.Cause, "heartbeat") {
		t.Errorf("%+v", o)
	}
	k2, err := kernel.Attach(t.Context(), owner.ConnectionFile(), kernel.AttachOptions{Timeout: 100 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "did not answer in time") {
		t.Error(k2, err)
	}
}

func TestAttachToDyingKernel(t *testing.T) {
	t.Parallel()
	owner := start(t, kernel.Options{})
	k, err := kernel.Attach(t.Context(), owner.ConnectionFile(), kernel.AttachOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	var d *wire.Death
	if o := ask(t.Context(), k, "import os; os._exit(1)", nil); !errors.As(o.err, &d) || d.Code != -1 || d.Cause == "" {
		t.Errorf("%+v", o)
	}
}

func TestAttachToBadFile(t *testing.T) {
	t.Parallel()
	good := `{"transport":"tcp","ip":"127.0.0.1","shell_port":1,"iopub_port":1,"stdin_port":1,"control_port":1,"hb_port":1,"key":"","signature_scheme":"hmac-sha256"}`
	for from, to := range map[string][2]string{
		`"shell_port":1`:  {`"shell_port":"x"`, "shell_port"},
		`"hb_port":1`:     {`"hb_port":0`, "hb_port"},
		`"tcp"`:           {`"udp"`, "transport"},
		`"127.0.0.1"`:     {`""`, "ip"},
		`hmac-sha256`:     {`rot13`, "signature_scheme"},
		`{"transport"`:    {`["transport"`, "connection file"},
		`"iopub_port":1,`: {``, "iopub_port"},
	} {
		file := filepath.Join(t.TempDir(), "c.json")
		os.WriteFile(file, []byte(strings.Replace(good, from, to[0], 1)), 0o600)
		if _, err := kernel.Attach(t.Context(), file, kernel.AttachOptions{}); err == nil ||
			!strings.Contains(err.Error(), to[1]) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", to[0], err)
		}
	}
	if _, err := kernel.Attach(t.Context(), "/no/such", kernel.AttachOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
