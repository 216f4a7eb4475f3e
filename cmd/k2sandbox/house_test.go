package main_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
)

// house is a running `k2sandbox serve`.
type house struct {
	endpoint
	state string // its folder
	key   string // sent with each request
	log   *bytes.Buffer
}

// open starts a server on a free port, with a folder of its own.
func openHouse(t *testing.T, flags ...string) *house {
	t.Helper()
	return openIn(t, filepath.Join(t.TempDir(), "state"), nil, flags...)
}

// openIn starts a server with a folder that another may have had.
func openIn(t *testing.T, state string, env []string, flags ...string) *house {
	t.Helper()
	return startHouse(t, state, env, "", flags...)
}

// startHouse starts a server by a shell script, if there is one, which is given the command.
func startHouse(t *testing.T, state string, env []string, script string, flags ...string) *house {
	t.Helper()
	args := []string{"serve", "--python", interpreter, "--listen", "127.0.0.1:0", "--state-dir", state, "--log-json"}
	return listening(t, call{args: append(args, flags...), env: env}, state, script)
}

// listening starts a command that serves.
func listening(t *testing.T, c call, state, script string) *house {
	t.Helper()
	h := &house{state: state, log: &bytes.Buffer{}}
	h.call = c
	h.cmd = h.command(t)
	if script != "" {
		h.cmd.Path, h.cmd.Args = "/bin/sh", append([]string{"sh", "-c", script, "sh", binary}, h.args...)
	}
	h.cmd.Stderr = h.log
	h.cmd.Cancel = func() error { return h.cmd.Process.Signal(syscall.SIGTERM) } // so that it ends its sandboxes
	h.cmd.WaitDelay = time.Minute
	stdout, err := h.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if h.cmd.ProcessState == nil { // it has been told to end
			_ = h.cmd.Wait()
		}
		if t.Failed() {
			t.Logf("the server's log: %s", h.log)
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "listening on ")
	if !ok {
		t.Fatalf("it printed %q (%v)", line, err)
	}
	h.address, h.base = address, address
	return h
}

// ask sends a request with a JSON body, and decodes the answer, which has the status.
func (h *house) ask(t *testing.T, method, path, body string, status int, into any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, h.base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if h.key != "" {
		req.Header.Set("X-Api-Key", h.key)
	}
	resp, err := h.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		t.Fatalf("%s %s: status %d, want %d: %s (%v)", method, path, resp.StatusCode, status, raw, err)
	}
	if into != nil {
		if err := json.Unmarshal(raw, into); err != nil {
			t.Fatalf("%s %s: %v in %s", method, path, err, raw)
		}
	}
}

func (h *house) create(t *testing.T) api.Sandbox {
	t.Helper()
	var box api.Sandbox
	h.ask(t, "POST", "/v1/sandboxes", "{}", 201, &box)
	return box
}

// in returns an endpoint that is one sandbox of the server.
func (h *house) in(id string) *endpoint {
	return &endpoint{base: h.base + "/v1/sandboxes/" + id}
}

// stopped stops the server by SIGTERM, after which nothing is left of it and its sandboxes.
func (h *house) stopped(t *testing.T) {
	t.Helper()
	inside := descendants(h.cmd.Process.Pid)
	if len(inside) == 0 {
		t.Error("the server has no processes")
	}
	if err := h.cmd.Process.Signal(syscall.SIGTERM); err != nil { // twice, as timeout(1) does
		t.Error(err)
	}
	h.stop(t)
	for pid, since := range inside {
		if started(pid) == since {
			t.Errorf("process %d still runs", pid)
		}
	}
	h.vacant(t)
}

// vacant checks that nothing is left of sandboxes.
func (h *house) vacant(t *testing.T) {
	t.Helper()
	for _, name := range []string{"sandboxes", "ids"} {
		if left, err := os.ReadDir(filepath.Join(h.state, name)); err != nil || len(left) > 0 {
			t.Errorf("%s has %v, %v", name, left, err)
		}
	}
	if mounts, _ := os.ReadFile("/proc/self/mountinfo"); bytes.Contains(mounts, []byte(h.state)) {
		t.Errorf("mounts are left: %s", mounts)
	}
	loops, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, name := range loops {
		if file, _ := os.ReadFile(name); strings.HasPrefix(string(file), h.state) {
			t.Errorf("a loop device is left: %s of %s", name, file)
		}
	}
	sum := sha256.Sum256([]byte(h.state))
	mark := "-" + hex.EncodeToString(sum[:4]) + "-"
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(d.Name(), mark) {
			t.Errorf("a cgroup is left: %s", path)
		}
		return nil
	})
}

// descendants returns the processes below one, with the times of their starts.
func descendants(root int) map[int]string {
	below := map[int]string{}
	for again := true; again; {
		again = false
		stats, _ := filepath.Glob("/proc/[0-9]*/stat")
		for _, name := range stats {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			parent, _ := strconv.Atoi(field(pid, 4))
			if _, known := below[pid]; !known && (parent == root || below[parent] != "") {
				if since := started(pid); since != "" { // else it has ended since, and would seem to run later
					below[pid], again = since, true
				}
			}
		}
	}
	return below
}

func started(pid int) string { return field(pid, 22) }

// field returns a field of /proc/PID/stat, counted from 1 as in proc(5); "" without the process.
func field(pid, number int) string {
	raw, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:])) // after the name
	if len(fields) < number-2 || fields[0] == "Z" {
		return ""
	}
	return fields[number-3]
}
