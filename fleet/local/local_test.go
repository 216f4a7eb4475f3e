package local_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"testing"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/fleet/local"
)

func runtime(t *testing.T, change func(*local.Options)) *local.Runtime {
	t.Helper()
	o := local.Options{Dir: t.TempDir(), Command: []string{"k2sandbox", "inside"}, Interpreter: os.Getenv("K2_TEST_PYTHON"), Environ: os.Environ()}
	if change != nil {
		change(&o)
	}
	r, err := local.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func start(t *testing.T, r *local.Runtime, s fleet.Spec) fleet.Machine {
	t.Helper()
	m, err := r.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Kill(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// ask has the agent of a sandbox answer.
func ask(t *testing.T, m fleet.Machine, path string, body, answer any) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return m.Dial(ctx) },
	}}
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Post("http://agent"+path, "application/json", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		t.Fatal(err)
	}
}

// run runs a shell command in a sandbox, and returns its output.
func run(t *testing.T, m fleet.Machine, script string) string {
	t.Helper()
	var o outcome
	ask(t, m, "/run", task{Args: []string{"/bin/sh", "-c", script}}, &o)
	if o.Err != "" {
		t.Logf("%s: %s\n%s", script, o.Err, o.Out)
	}
	return o.Out
}

func TestLook(t *testing.T) {
	m := start(t, runtime(t, nil), fleet.Spec{ID: "sb_look", Network: fleet.Network{Mode: "none"}})
	for _, s := range []string{"id", "pwd; ls -la /home /home/user", "ls -la / /root", "ps aux", "cat /proc/self/mountinfo", "ls -la /dev /dev/pts", "ls -l /usr | head -5", "cat /proc/1/status | grep -E 'Uid|Gid|Cap'", "cat /proc/self/status | grep -E 'Uid|Gid|Cap'", "ls -l /proc/1/; cat /proc/1/environ; ls /proc/1/fd", "cat /proc/self/cgroup", "hostname", "df -h", "touch /x /usr/x /tmp/x /home/user/x /etc/x", "python3 -c 'import ssl,socket; print(socket.gethostbyname(\"localhost\"))'", os.Getenv("K2_TEST_PYTHON") + " -c 'import sys;print(sys.prefix,sys.version)'", "ls -la /work /root/.pyenv /root/.pyenv/versions /work/main"} {
		t.Logf("$ %s\n%s", s, run(t, m, s))
	}
}
