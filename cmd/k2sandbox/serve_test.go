package main_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
)

// printed runs code in the endpoint and returns what it printed.
func (e *endpoint) printed(t *testing.T, code string) string {
	t.Helper()
	s := e.run(t, map[string]any{"code": code})
	var text string
	for {
		var event executor.Event
		if err := s.decoder.Decode(&event); err != nil {
			t.Fatal(err)
		}
		switch event.Type {
		case executor.Stdout:
			text += event.Text
		case executor.Error:
			t.Errorf("%s: %s: %s", code, event.Name, event.Value)
		case executor.End:
			return text
		}
	}
}

func TestServeKernelLauncher(t *testing.T) {
	t.Parallel()
	h := openHouse(t, "--kernel-launcher", "stock")
	if got := h.printed(t, "import sys; print(type(sys.stdout).__name__)"); got != "StockStream\n" {
		t.Errorf("got %q", got)
	}
}

// Requests that name no sandbox share one, and each that is created has its own.
func TestServeSandboxes(t *testing.T) {
	t.Parallel()
	h := openHouse(t)
	if got := h.printed(t, "x = 42\nprint(x)"); got != "42\n" {
		t.Errorf("got %q", got)
	}
	first, second := h.create(t), h.create(t)
	if first.Template != "k2sandbox/python:latest" || first.Cwd == "" || first.Network.Mode != api.NetworkFull || first.Isolation.Level == "" ||
		first.Limits.MemoryMB != 2048 || first.Limits.OpenFiles != 4096 || first.AccessToken == "" {
		t.Errorf("got %+v", first)
	}
	a, b := h.in(first.SandboxID), h.in(second.SandboxID)
	for _, e := range []*endpoint{a, b} {
		if got := e.printed(t, "print('x' in globals()); x = 1; open('file', 'x').close()"); got != "False\n" {
			t.Errorf("got %q", got)
		}
	}
	if got := h.printed(t, "print(x)"); got != "42\n" {
		t.Errorf("got %q", got)
	}
	var list api.Sandboxes
	if h.ask(t, "GET", "/v1/sandboxes", "", 200, &list); len(list.Sandboxes) != 3 {
		t.Errorf("got %+v", list)
	}
	shared := list.Sandboxes[len(list.Sandboxes)-1]
	if shared.Timeout != 24*3600 || shared.Metadata["k2sandbox"] != "shared" {
		t.Errorf("got %+v", shared)
	}
	h.ask(t, "DELETE", "/v1/sandboxes/"+shared.SandboxID, "", 204, nil)
	if got := h.printed(t, "print('x' in globals())"); got != "False\n" { // there is another
		t.Errorf("got %q", got)
	}
	h.ask(t, "DELETE", "/v1/sandboxes/"+first.SandboxID, "", 204, nil)
	h.ask(t, "POST", "/v1/sandboxes/"+first.SandboxID+"/code", `{"code":"1"}`, 410, nil)
	h.ask(t, "POST", "/v1/sandboxes", `{"envs":{"PYTHONHOME":"/nowhere"}}`, 422, nil) // no Python starts with it

	// What runs when the server stops ends, and says so.
	loop := b.run(t, map[string]any{"code": "print('looping', flush=True)\nwhile True: pass"})
	loop.next(executor.Stdout)
	done := make(chan executor.Event, 1)
	go func() { done <- loop.end() }()
	h.stopped(t)
	if end := <-done; end.Status != executor.SandboxKilled {
		t.Errorf("end %+v", end)
	}
	for _, want := range []string{`"sandbox":"` + first.SandboxID + `"`, `"request":"req_`} {
		if !strings.Contains(h.log.String(), want) {
			t.Errorf("the log does not have %s", want)
		}
	}
}

func TestServeKeys(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, []byte("bob:key-of-bob-0123456789\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := openIn(t, filepath.Join(t.TempDir(), "state"), []string{"K2_API_KEYS=ada:key-of-ada-0123456789"}, "--api-keys", file)
	h.ask(t, "GET", "/healthz", "", 200, nil)
	for _, key := range []string{"", "key-of-eve-0123456789"} {
		h.key = key
		h.ask(t, "POST", "/v1/sandboxes", "{}", 401, nil)
		h.ask(t, "POST", "/v1/code", `{"code":"1"}`, 401, nil)
	}
	h.key = "key-of-ada-0123456789"
	box := h.create(t)
	h.ask(t, "POST", "/v1/code", `{"code":"1"}`, 404, nil) // whose would it be?
	h.ask(t, "POST", "/v1/sandboxes/"+box.SandboxID+"/code", `{"code":"1"}`, 200, nil)
	h.key = "key-of-bob-0123456789"
	h.ask(t, "GET", "/v1/sandboxes/"+box.SandboxID, "", 404, nil)
	h.key = box.AccessToken
	h.ask(t, "GET", "/v1/sandboxes/"+box.SandboxID, "", 200, nil)
	h.ask(t, "GET", "/v1/sandboxes", "", 401, nil)
	h.stopped(t)
	for _, secret := range []string{"key-of-ada", "key-of-bob", "key-of-eve", box.AccessToken} {
		if strings.Contains(h.log.String(), secret) {
			t.Errorf("the log has %s", secret)
		}
	}
	if environ, err := os.ReadFile(filepath.Join(h.state, "registry.db")); err != nil || bytes.Contains(environ, []byte("key-of-")) || bytes.Contains(environ, []byte(box.AccessToken)) {
		t.Errorf("a secret is on disk (%v)", err)
	}
}

// A link to an interpreter is not where that runs from.
func TestServeLinkedInterpreter(t *testing.T) {
	t.Parallel()
	link := filepath.Join(t.TempDir(), "python")
	script := "#!/bin/sh\nexec " + interpreter + " \"$@\"\n"
	if err := os.WriteFile(link, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	h := openHouse(t, "--python", link)
	if got := h.printed(t, "print(6*7)"); got != "42\n" {
		t.Errorf("got %q", got)
	}
	h.stopped(t)
	got := run(t, call{args: []string{"serve", "--python", "/bin/true", "--state-dir", t.TempDir(), "--listen", "127.0.0.1:0"}})
	got.expect(t, 1, "")
	got.complains(t, "/bin/true")
}

// What a server refuses to start with, it refuses before it has made anything.
func TestServeRefusesToStart(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("# none\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for want, flags := range map[string][]string{
		"reachable from other machines": {"--listen", "0.0.0.0:0"},
		"the file has no keys":          {"--api-keys", empty},
		"address already in use":        {"--listen", busy.Addr().String()},
		"want end or keep":              {"--on-stop", "later"},
		"--memory 0":                    {"--memory", "0"},
		"--max-contexts 0":              {"--max-contexts", "0"},
		"unknown level":                 {"--isolation", "strong"},
		"tls-key":                       {"--tls-cert", empty},
		"not uv or pip":                 {"--package-installer", "conda"},
	} {
		state := filepath.Join(t.TempDir(), "state")
		got := run(t, call{args: append([]string{"serve", "--python", interpreter, "--state-dir", state, "--listen", "127.0.0.1:0"}, flags...)})
		if got.expect(t, 1, ""); !strings.Contains(got.stderr, want) {
			t.Errorf("%q: got %q", flags, got.stderr)
		}
		if left, _ := os.ReadDir(filepath.Join(state, "sandboxes")); len(left) > 0 {
			t.Errorf("%q: left %v", flags, left)
		}
	}
}

func TestServeOneServerAFolder(t *testing.T) {
	t.Parallel()
	h := openHouse(t)
	box := h.create(t)
	got := run(t, call{args: []string{"serve", "--python", interpreter, "--state-dir", h.state, "--listen", "127.0.0.1:0"}})
	got.expect(t, 1, "")
	got.complains(t, h.state, "another")
	for _, id := range []string{box.SandboxID, h.create(t).SandboxID} {
		if got := h.in(id).printed(t, "print(1)"); got != "1\n" {
			t.Errorf("got %q", got)
		}
	}
	h.stopped(t)
}

func TestServeTLS(t *testing.T) {
	t.Parallel()
	cert, key, pool := certificate(t)
	h := openHouse(t, "--tls-cert", cert, "--tls-key", key)
	if !strings.HasPrefix(h.address, "https://") {
		t.Errorf("it listens on %s", h.address)
	}
	h.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	if got := h.printed(t, "print(6*7)"); got != "42\n" {
		t.Errorf("got %q", got)
	}
	h.stopped(t)
}

// certificate makes one for 127.0.0.1, and returns its files.
func certificate(t *testing.T) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "k2sandbox test"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	rawKey, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
	cert, key, pool = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem"), x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	if err := os.WriteFile(cert, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: rawKey}), 0o600); err != nil {
		t.Fatal(err)
	}
	return cert, key, pool
}

// A server takes back the sandboxes that the one before has left for it.
func TestServeKeepsSandboxes(t *testing.T) {
	t.Parallel()
	h := openHouse(t, "--on-stop", "keep")
	box := h.create(t)
	h.in(box.SandboxID).printed(t, "kept = 'still here'")
	h.printed(t, "shared = 'here too'")
	h.stop(t)

	next := openIn(t, h.state, nil)
	if got := next.in(box.SandboxID).printed(t, "print(kept)"); got != "still here\n" {
		t.Errorf("got %q", got)
	}
	if got := next.printed(t, "print(shared)"); got != "here too\n" {
		t.Errorf("got %q", got)
	}
	next.stop(t)
	next.vacant(t)
}

// Who was killed for want of memory says so, and who was killed for something else does not, whatever became of others meanwhile.
func TestServeTellsWhoRanOutOfMemory(t *testing.T) {
	t.Parallel()
	h := openHouse(t, "--memory", "128")
	box, other := h.create(t), h.create(t)
	if box.Isolation.Missing["memory"] != "" {
		t.Fatalf("there is no control group of memory here: %s", box.Isolation.Missing["memory"])
	}
	a := h.in(box.SandboxID).run(t, map[string]any{"code": `
import os, signal, time
print("waits", flush=True)
while not os.path.exists("go"): time.sleep(0.01)
os.kill(os.getpid(), signal.SIGKILL)`})
	a.next(executor.Stdout)
	if end := h.in(other.SandboxID).run(t, map[string]any{"code": "x = bytearray(1 << 30)"}).end(); end.Status != executor.KernelDied || end.Exit == nil || !end.Exit.OOM {
		t.Errorf("a bomb of memory: %+v %+v", end.Status, end.Exit)
	}
	req, err := http.NewRequestWithContext(t.Context(), "PUT", h.base+"/v1/sandboxes/"+box.SandboxID+"/files?path=go", strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	made, err := h.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	made.Body.Close()
	if end := a.end(); end.Status != executor.KernelDied || end.Exit == nil || end.Exit.OOM || end.Exit.Signal != "SIGKILL" {
		t.Errorf("a kernel that killed itself: %+v %+v", end.Status, end.Exit)
	}
	h.stopped(t)
}

// Sandboxes of a server that never comes back end themselves, whatever runs in them, and the next one removes what is left.
// As long as there is a server they go on.
func TestServeNeverComesBack(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"namespace", "none"} {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			h := openHouse(t, "--isolation", level, "--orphan-timeout", "5", "--timeout", "3")
			box := h.create(t).SandboxID
			run := h.in(box).run(t, map[string]any{"code": `
import subprocess, time
subprocess.Popen(["sleep", "1000"], start_new_session=True)
for _ in range(100):
    time.sleep(0.1)
print("longer than a lease", flush=True)
while True:
    time.sleep(1)`})
			run.next(executor.Start)
			if got := run.next(executor.Stdout); got.Text != "longer than a lease\n" {
				t.Errorf("got %+v", got)
			}
			text, err := os.ReadFile(filepath.Join(h.state, "sandboxes", box, "machine.json"))
			if err != nil {
				t.Fatal(err)
			}
			var record struct{ PID int }
			if err := json.Unmarshal(text, &record); err != nil {
				t.Fatal(err)
			}
			inside := descendants(record.PID)
			agent, err := unix.PidfdOpen(record.PID, 0)
			if err != nil || len(inside) < 2 {
				t.Fatalf("%d processes, %v", len(inside), err)
			}
			defer unix.Close(agent)
			if err := h.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = h.cmd.Wait()
			for { // until it has ended
				if n, err := unix.Poll([]unix.PollFd{{Fd: int32(agent), Events: unix.POLLIN}}, -1); n == 1 || err != unix.EINTR {
					break
				}
			}
			for pid, since := range inside {
				if started(pid) == since {
					t.Errorf("process %d still runs", pid)
				}
			}
			next := openIn(t, h.state, nil, "--isolation", level)
			next.ask(t, "GET", "/v1/sandboxes/"+box, "", 410, nil)
			next.stop(t)
			next.vacant(t)
		})
	}
}

// Code goes on while its server is gone, and what it said meanwhile is not lost.
func TestServeIsKilled(t *testing.T) {
	t.Parallel()
	h := openHouse(t)
	box := h.create(t)
	run := h.in(box.SandboxID).run(t, map[string]any{"code": `
import os, time
print("before", flush=True)
while not os.path.exists("go"): time.sleep(0.01)
print("after")`})
	id := run.next(executor.Start).ExecutionID
	seen := run.next(executor.Stdout)
	if seen.Text != "before\n" {
		t.Errorf("got %+v", seen)
	}
	if err := h.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = h.cmd.Wait()
	if end := run.end(); end.Type != "" {
		t.Errorf("got %+v", end)
	}

	next := openIn(t, h.state, nil)
	path := "/v1/sandboxes/" + box.SandboxID
	req, err := http.NewRequestWithContext(t.Context(), "PUT", next.base+path+"/files?path=go", strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	made, err := next.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	made.Body.Close()
	resp, err := next.client.Get(next.base + path + "/executions/" + id + "/events?after=" + strconv.FormatInt(seen.Seq, 10))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	rest := &stream{resp.Body, json.NewDecoder(resp.Body)}
	if after := rest.next(executor.Stdout); after.Text != "after\n" || after.Seq != seen.Seq+1 {
		t.Errorf("got %+v", after)
	}
	if end := rest.end(); end.Status != executor.OK {
		t.Errorf("got %+v", end)
	}
	next.stop(t)
	next.vacant(t)
}

// Where a server's folder is deep down, and what it makes is its owner's alone, sandboxes are as ever.
func TestServeInOddPlaces(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"auto", "none"} {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			state := filepath.Join(t.TempDir(), strings.Repeat("deep ", 30))
			h := startHouse(t, state, nil, "umask 077; exec \"$@\"", "--isolation", level)
			if got := h.in(h.create(t).SandboxID).printed(t, "!ls /etc/passwd && echo $((6*7))"); got != "/etc/passwd\r\n42\r\n" && got != "/etc/passwd\n42\n" {
				t.Errorf("got %q", got)
			}
			h.stopped(t)
		})
	}
}
