package main_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/k2sandbox/k2sandbox/api"
)

// by returns a command that talks to the server.
func (h *house) by(args ...string) call {
	return call{args: args, env: []string{"K2_API_URL=" + h.address, "K2_API_KEY=" + h.key}}
}

func TestCommandsOfAServer(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, []byte("a-key-of-some-length"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := openHouse(t, "--api-keys", file, "--data-dir", t.TempDir()) // with no templates
	run(t, h.by("ps")).complains(t, "no API key", "K2_API_KEY")
	h.key = "a-key-of-some-length"
	id := strings.TrimSpace(run(t, h.by("create", "--timeout", "10m", "-m", "user=ada", "-e", "WHO=ada", "--memory", "512", "--network", "full")).stdout)
	if !strings.HasPrefix(id, "sb_") {
		t.Fatalf("got %q", id)
	}
	var other api.Sandbox
	if err := json.Unmarshal([]byte(run(t, h.by("create", "-o", "json")).stdout), &other); err != nil || other.AccessToken == "" {
		t.Errorf("got %+v, %v", other, err)
	}

	t.Run("ps", func(t *testing.T) { testPs(t, h, id, other.SandboxID) })
	t.Run("top", func(t *testing.T) { testTop(t, h, id, other.SandboxID) })
	t.Run("metrics", func(t *testing.T) { testMetrics(t, h) })
	t.Run("exec", func(t *testing.T) { testExec(t, h, id) })
	t.Run("exec of a program", func(t *testing.T) { testExecProgram(t, h, id) })
	t.Run("exec is interrupted", func(t *testing.T) { testExecInterrupt(t, h, id) })
	t.Run("exec with a terminal", func(t *testing.T) { testExecTerminal(t, h, id) })
	t.Run("network", func(t *testing.T) { testNetwork(t, h, id) })
	t.Run("logs", func(t *testing.T) { testLogs(t, h, id) })

	got := run(t, h.by("kill", id, "sb_nobody", other.SandboxID))
	got.expect(t, 1, id+"\n"+other.SandboxID+"\n")
	got.complains(t, "sb_nobody")
	run(t, h.by("exec", id, "1")).complains(t, "killed")
	if got := run(t, h.by("ps", "--all")).stdout; !strings.Contains(got, id) || !strings.Contains(got, "ended (killed") {
		t.Errorf("got %s", got)
	}
	h.stopped(t)
	run(t, h.by("ps")).complains(t, "no server answers at "+h.address)
}

func testNetwork(t *testing.T, h *house, id string) {
	run(t, h.by("network", id)).expect(t, 0, "full\n")
	run(t, h.by("network", id, "--allow", "example.org,93.184.216.0/24:443", "--allow", "*.example.com")).expect(t, 0, "allow example.org 93.184.216.0/24:443 *.example.com\n")
	run(t, h.by("network", id)).expect(t, 0, "allow example.org 93.184.216.0/24:443 *.example.com\n")
	run(t, h.by("network", id, "none")).expect(t, 0, "none\n")
	run(t, h.by("network", id, "full")).expect(t, 0, "full\n")
	run(t, h.by("network", id, "some")).complains(t, "mode: expected one of")
	run(t, h.by("network", id, "full", "--allow", "example.org")).complains(t, "allow: goes with the modes")
	run(t, h.by("network", id, "--allow", "a b")).complains(t, "allow[0]")
	run(t, h.by("network", "sb_nobody", "full")).complains(t, "sb_nobody")
	cut := strings.TrimSpace(run(t, h.by("create", "--network", "none")).stdout)
	run(t, h.by("network", cut, "full")).complains(t, "created with the network \"none\" has no device")
	run(t, h.by("network", cut)).expect(t, 0, "none\n")
	run(t, h.by("kill", cut)).expect(t, 0, cut+"\n")
	run(t, h.by("__complete", "network", id, "")).expectIn(t, "full", "packages", "allow", "none")
}

func testPs(t *testing.T, h *house, id, other string) {
	lines := strings.Split(run(t, h.by("ps")).stdout, "\n")
	if len(lines) != 4 || strings.Join(strings.Fields(lines[0]), " ") != "ID STATE AGE IDLE ISOLATION METADATA" {
		t.Fatalf("got %q", lines)
	}
	if row := strings.Fields(lines[2]); row[0] != id || row[1] != "running" || row[5] != "user=ada" {
		t.Errorf("got %q", row)
	}
	run(t, h.by("ps", "-q", "-m", "user=ada")).expect(t, 0, id+"\n")
	run(t, h.by("ls", "-q")).expect(t, 0, other+"\n"+id+"\n")
	if got := run(t, h.by("ps", "-o", "wide")).stdout; !strings.Contains(got, "512M") || !strings.Contains(got, "k2sandbox/python:latest") {
		t.Errorf("got %s", got)
	}
	var list []api.Sandbox
	if err := json.Unmarshal([]byte(run(t, h.by("ps", "-o", "json")).stdout), &list); err != nil || len(list) != 2 {
		t.Errorf("got %v, %v", list, err)
	}
	run(t, h.by("ps", "-o", "yaml")).complains(t, "--output")
	run(t, h.by("__complete", "kill", "")).expectIn(t, id, other)
}

func testTop(t *testing.T, h *house, id, other string) {
	for _, how := range []string{"--once", "--sort=cpu"} { // one frame, where there is no terminal
		lines := strings.Split(run(t, h.by("top", how)).stdout, "\n")
		if len(lines) != 6 || !strings.Contains(lines[0], "2 sandboxes: 2 running, 0 paused") || !strings.HasPrefix(lines[2], "ID ") {
			t.Fatalf("got %q", lines)
		}
	}
	if got := run(t, h.by("top", "--once", "--sort", "age", "-m", "user=ada")).stdout; !strings.Contains(got, id) || strings.Contains(got, other) || !strings.Contains(got, "512M") {
		t.Errorf("got %s", got)
	}
	var list []api.Sandbox
	if err := json.Unmarshal([]byte(run(t, h.by("top", "--json", "--sort=age")).stdout), &list); err != nil || len(list) != 2 || list[0].SandboxID != id || list[0].Usage == nil {
		t.Errorf("got %+v, %v", list, err)
	}
	run(t, h.by("top", "--sort", "size")).complains(t, "--sort")
	run(t, h.by("top", "-d", "0.1")).complains(t, "--interval")
	run(t, h.by("top", "--once", "--json")).complains(t, "once", "json")
}

// testMetrics has Prometheus' own linter look at all that a server tells.
func testMetrics(t *testing.T, h *house) {
	req, err := http.NewRequestWithContext(t.Context(), "GET", h.base+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+h.key) // as a scraper sends it
	resp, err := h.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.New(bytes.NewReader(text)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v in %s", problems, err, text)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	first := 0.0
	for _, m := range families["k2sandbox_first_kernels_total"].GetMetric() {
		first += m.GetCounter().GetValue()
	}
	if first != 2 {
		t.Errorf("%v first kernels of 2 sandboxes", first)
	}
	for _, line := range []string{"k2sandbox_creates_total{outcome=\"created\"} 2\n", "k2sandbox_zygote_up 1\n", "k2sandbox_starts_waiting 0\n", "k2sandbox_template_layers 0\n"} {
		if !strings.Contains(string(text), line) {
			t.Errorf("no %s in %s", line, text)
		}
	}
}

func testExec(t *testing.T, h *house, id string) {
	run(t, h.by("exec", id, "import os; x = 6; print(os.environ['WHO'])")).expect(t, 0, "ada\n")
	run(t, h.by("exec", id, "-c", "x*7")).expect(t, 0, "42\n")
	file := filepath.Join(t.TempDir(), "a.py")
	if err := os.WriteFile(file, []byte("print(input('who? '))"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := h.by("exec", id, file)
	c.stdin = "eve\n"
	run(t, c).expect(t, 0, "who? eve\n")
	c = h.by("exec", id, "-")
	c.stdin = "print(x)"
	run(t, c).expect(t, 0, "6\n")
	failed := run(t, h.by("exec", id, "1/0"))
	failed.expect(t, 1, "")
	failed.complains(t, "ZeroDivisionError")
	run(t, h.by("exec", id, "--timeout", "0.3", "while True: pass")).expect(t, 124, "")
	run(t, h.by("exec", id, "nowhere.py")).complains(t, "no such file")
	run(t, h.by("exec", id, "one", "two")).complains(t, "a program comes after --")
}

func testExecProgram(t *testing.T, h *house, id string) {
	got := run(t, h.by("exec", id, "-e", "A=b", "--", "sh", "-c", "echo out $A; echo err >&2; exit 3"))
	got.expect(t, 3, "out b\n")
	got.complains(t, "err")
	c := h.by("exec", id, "--", "tr", "a-z", "A-Z")
	c.stdin = strings.Repeat("hello\n", 50_000)
	run(t, c).expect(t, 0, strings.ToUpper(c.stdin))
	run(t, h.by("exec", id, "--", "sh", "-c", "kill -9 $$")).expect(t, 137, "")
	run(t, h.by("exec", id, "--", "nothing-of-this-name")).complains(t, "nothing-of-this-name")
	run(t, h.by("exec", id, "--timeout", "0.3", "--", "sleep", "1000")).expect(t, 124, "")
}

func testExecInterrupt(t *testing.T, h *house, id string) {
	for what, status := range map[string]int{"code": 130, "program": 130} {
		c := h.by("exec", id, "import time; print('on', flush=True)\nwhile True: time.sleep(0.01)")
		if what == "program" {
			c = h.by("exec", id, "--", "sh", "-c", "echo on; exec sleep 1000")
		}
		cmd := c.command(t)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		first := make([]byte, 3)
		if _, err := out.Read(first); err != nil || string(first) != "on\n" {
			t.Errorf("%s: got %q, %v", what, first, err)
		}
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != status {
			t.Errorf("%s: status %d", what, got)
		}
	}
	run(t, h.by("exec", id, "x")).expect(t, 0, "6\n") // nothing was lost
}

func testExecTerminal(t *testing.T, h *house, id string) {
	c := h.by("exec", id, "--", "sh", "-c", `stty size; read line; echo "got $line"; exit 5`)
	c.env = append(c.env, "TERM=xterm")
	cmd := c.command(t)
	cmd.Stdin = nil
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 33, Cols: 77})
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	var seen bytes.Buffer
	buf := make([]byte, 1024)
	for said := false; ; {
		n, err := terminal.Read(buf)
		seen.Write(buf[:n])
		if err != nil {
			break // the program has ended
		}
		if !said && strings.Contains(seen.String(), "33 77") {
			said = true
			if _, err := terminal.WriteString("hello\r"); err != nil {
				t.Error(err)
			}
		}
	}
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 5 || !strings.Contains(seen.String(), "got hello") {
		t.Errorf("status %d, %q", got, seen.String())
	}
}

func testLogs(t *testing.T, h *house, id string) {
	run(t, h.by("exec", id, `print("one\n\x1b[31mtwo", end="")`))
	got := run(t, h.by("logs", id))
	got.expectIn(t, "  created\n", "  run submitted  ex_", "  stdout  one\n", "  stdout  two\n", "process ended", "error  ZeroDivisionError: division by zero")
	if strings.Contains(got.stdout, "\x1b") {
		t.Errorf("what terminals obey gets through: %q", got.stdout)
	}
	if quiet := run(t, h.by("logs", "-q", id)); strings.Contains(quiet.stdout, "stdout") {
		t.Errorf("got %s", quiet.stdout)
	}
}

func (r result) expectIn(t *testing.T, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(r.stdout, part) {
			t.Errorf("status %d, %q is not in stdout %q, stderr %q", r.status, part, r.stdout, r.stderr)
		}
	}
}
