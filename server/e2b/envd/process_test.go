package envd_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/agent"
)

const proc = "process.Process/"

// shell is the command that E2B's clients make of a line.
func shell(line string) object {
	return object{"cmd": "/bin/bash", "args": []string{"-c", line}}
}

// begin starts a command and returns its stream, of which the start is read, and its pid.
func begin(t *testing.T, message object, headers ...string) (*flow, int) {
	t.Helper()
	f := stream(t, proc+"Start", message, headers...)
	return f, started(t, f)
}

func started(t *testing.T, f *flow) int {
	t.Helper()
	first := f.next(t)
	pid, ok := at(first, "event", "start", "pid").(float64)
	if !ok {
		t.Fatalf("first comes %v, then the end %v", first, f.last)
	}
	return int(pid)
}

// output is what a stream said up to its end, and the end event.
func output(t *testing.T, f *flow) (said map[string]string, end object) {
	t.Helper()
	for _, m := range f.rest(t) {
		if end != nil {
			t.Errorf("after the end comes %v", m)
		}
		end, _ = at(m, "event", "end").(object)
		collect(t, f.said, m)
	}
	return f.said, end
}

func collect(t *testing.T, said map[string]string, message object) {
	t.Helper()
	event, _ := at(message, "event", "data").(object)
	for name, text := range event {
		raw, err := base64.StdEncoding.DecodeString(text.(string))
		if err != nil {
			t.Fatal(err)
		}
		said[name] += string(raw)
	}
}

// until reads until a stream has said a text, and returns all that it said.
func until(t *testing.T, f *flow, name, text string) string {
	t.Helper()
	for !strings.Contains(f.said[name], text) {
		m := f.next(t)
		if m == nil {
			t.Fatalf("the stream ended: %v %v", f.said, f.last)
		}
		collect(t, f.said, m)
	}
	return f.said[name]
}

// gone checks that a process has ended, whoever is to wait for it.
func gone(t *testing.T, pid int) {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if _, state, _ := strings.Cut(string(stat), ") "); err == nil && !strings.HasPrefix(state, "Z") {
		t.Errorf("process %d: %s", pid, stat)
	}
}

// kill ends a command that a test leaves running.
func kill(t *testing.T, pid int) {
	t.Helper()
	call(t, proc+"SendSignal", object{"process": object{"pid": pid}, "signal": "SIGNAL_SIGKILL"})
	gone(t, pid)
}

func TestStart(t *testing.T) {
	f, _ := begin(t, object{"process": object{
		"cmd": "/bin/bash", "args": []string{"-c", `echo hello; echo err >&2; echo "$Q $GIVEN $HOME"; pwd; exit 3`}, "envs": object{"Q": "1"},
	}, "stdin": false})
	said, end := output(t, f)
	f.endedBy(t, "")
	if want := "hello\n1 to the sandbox " + home + "\n" + home + "\n"; said["stdout"] != want || said["stderr"] != "err\n" {
		t.Errorf("said %q", said)
	}
	if end["exitCode"] != 3.0 || end["exited"] != true || end["status"] != "exit status 3" || end["error"] != "exit status 3" {
		t.Errorf("end %v", end)
	}
	f, _ = begin(t, object{"process": object{"cmd": "sh", "args": []string{"-c", "echo $PATH $K2_PATH"}, "envs": object{"PATH": "/bin:/own"}}, "stdin": false})
	if said, _ := output(t, f); said["stdout"] != "/bin:/own /bin:/own\n" { // which login shells go back to
		t.Errorf("PATH: %q", said)
	}
	f, _ = begin(t, object{"process": object{"cmd": "pwd", "cwd": "/"}, "stdin": false})
	if said, end := output(t, f); said["stdout"] != "/\n" || end["exitCode"] != 0.0 || end["status"] != "exit status 0" || end["error"] != nil {
		t.Errorf("said %q, end %v", said, end)
	}
}

func TestStartOfNothing(t *testing.T) {
	text := stream(t, proc+"Start", object{"process": object{"cmd": "ls", "cwd": "nowhere"}}).failed(t, "invalid_argument")
	if !strings.Contains(text, "cwd '"+home+"/nowhere' does not exist") {
		t.Errorf("says %q", text)
	}
	for _, message := range []object{
		{"process": object{"cmd": "no-such-program"}},
		{"process": object{"cmd": "/"}},
		{"process": object{"cmd": "ls", "cwd": "~other"}},
		{"process": object{"cmd": "ls", "cwd": "a\x00b"}},
		{"process": object{"cmd": "ls", "args": []string{"a\x00b"}}},
		{"process": object{"cmd": "ls", "envs": object{"A=B": "x"}}},
		{"process": object{"cmd": "ls", "envs": object{"": "x"}}},
		{"process": object{"cmd": "ls", "envs": object{"A": "x\x00"}}},
		{"process": object{"cmd": "ls"}, "tag": strings.Repeat("x", 2000)},
		{"process": object{"cmd": "ls"}, "pty": object{"size": object{"cols": 70_000, "rows": 1}}},
		{"process": object{"cmd": "ls"}, "pty": object{"size": object{"cols": -1, "rows": 1}}},
		{"process": nil},
	} {
		stream(t, proc+"Start", message).failed(t, "invalid_argument")
	}
}

// Bytes come as they are, and all of them.
func TestOutput(t *testing.T) {
	f, _ := begin(t, object{"process": shell(`printf 'aaa\xe2'; head -c 3000000 /dev/zero | tr '\0' x; printf '\xc3\xa9\xff'`), "stdin": false})
	said, _ := output(t, f)
	if got := said["stdout"]; len(got) != 3_000_007 || !strings.HasPrefix(got, "aaa\xe2xxx") || !strings.HasSuffix(got, "xé\xff") {
		t.Errorf("%d bytes, %.10q…%q", len(got), got, got[max(0, len(got)-10):])
	}
}

// When the time of the request is over all of the group is killed, and the stream says so.
func TestTimeout(t *testing.T) {
	f, pid := begin(t, object{"process": shell(`trap "" TERM; sleep 1000 & echo $!; wait; sleep 1000`), "stdin": false}, "Connect-Timeout-Ms", "1500")
	child, err := strconv.Atoi(strings.TrimSpace(until(t, f, "stdout", "\n")))
	if err != nil {
		t.Fatal(err)
	}
	f.failed(t, "deadline_exceeded")
	gone(t, pid)
	gone(t, child)
	// Whoever asks later is told how it ended.
	f = stream(t, proc+"Connect", object{"process": object{"pid": pid}})
	if started(t, f) != pid {
		t.Error("another pid")
	}
	if _, end := output(t, f); end["exitCode"] != -1.0 || end["exited"] != false || end["status"] != "signal: killed" || end["error"] != "signal: killed" {
		t.Errorf("end %v", end)
	}
	f.endedBy(t, "")
}

// A command outlives the client that started it; one that comes back misses nothing and has
// nothing twice.
func TestConnect(t *testing.T) {
	f, pid := begin(t, object{"process": shell(`echo one; read; echo two; echo three >&2; read; echo four`)}, "Connect-Timeout-Ms", "60000")
	until(t, f, "stdout", "one\n")
	for len(left) > 0 {
		<-left
	}
	f.leave()
	<-left // what is sent until a client is known to have left, is lost
	selector := object{"pid": pid}
	stdin := func() {
		call(t, proc+"SendInput", object{"process": selector, "input": object{"stdin": "Cg=="}})
	}
	stdin()
	second := stream(t, proc+"Connect", object{"process": selector})
	if got := started(t, second); got != pid {
		t.Errorf("pid %d", got)
	}
	if got := until(t, second, "stderr", "three\n"); got != "three\n" {
		t.Errorf("said %q", got)
	}
	stdin()
	said, end := output(t, second)
	if said["stdout"] != "two\nfour\n" || end["exitCode"] != 0.0 {
		t.Errorf("said %q, end %v", said, end)
	}
	for header, want := range map[string]string{"": "", "missed": "", "none": "", "all": "one\ntwo\nfour\n"} {
		late := stream(t, proc+"Connect", object{"process": selector}, "K2-Replay", header)
		started(t, late)
		if said, end := output(t, late); said["stdout"] != want || end["exitCode"] != 0.0 {
			t.Errorf("%s: said %q, end %v", header, said, end)
		}
	}
	stream(t, proc+"Connect", object{"process": selector}, "K2-Replay", "some").failed(t, "invalid_argument")
}

func TestConnectEndsInTime(t *testing.T) {
	f, pid := begin(t, object{"process": shell("sleep 1000"), "stdin": false})
	again := stream(t, proc+"Connect", object{"process": object{"pid": pid}}, "Connect-Timeout-Ms", "100")
	started(t, again)
	again.failed(t, "deadline_exceeded")
	if f.last != nil {
		t.Error("the command ended, too")
	}
	kill(t, pid)
}

func TestUnknownProcesses(t *testing.T) {
	f, pid := begin(t, object{"process": shell("true"), "stdin": false})
	f.rest(t)
	for _, selector := range []object{{"pid": 999_999_999}, {"tag": "nothing"}, {"pid": pid}} {
		for method, more := range map[string]object{
			"SendInput": {"input": object{"stdin": ""}}, "SendSignal": {"signal": "SIGNAL_SIGKILL"}, "CloseStdin": {}, "Update": {"pty": object{}},
		} {
			more["process"] = selector
			refused(t, http.StatusNotFound, "not_found", proc+method, more)
		}
		if selector["pid"] != pid {
			stream(t, proc+"Connect", object{"process": selector}).failed(t, "not_found")
		}
		send(t, site.URL, proc+"StreamInput", strings.NewReader(envelope(0, encode(t, object{"start": object{"process": selector}})))).failed(t, "not_found")
	}
	for _, selector := range []any{nil, object{}, object{"pid": 1, "tag": "x"}, object{"pid": -1}, object{"pid": "x"}} {
		refused(t, http.StatusBadRequest, "invalid_argument", proc+"SendSignal", object{"process": selector, "signal": 9})
		stream(t, proc+"Connect", object{"process": selector}).failed(t, "invalid_argument")
	}
}

func TestListAndTags(t *testing.T) {
	config := object{"cmd": "/bin/sh", "args": []string{"-c", "echo $0; exec sleep 1000"}, "envs": object{"A": "b"}, "cwd": "/"}
	f, pid := begin(t, object{"process": config, "tag": "mine", "stdin": false})
	native, err := box.StartProcess(agent.ProcessOptions{Cmd: "exec sleep 1000"})
	if err != nil {
		t.Fatal(err)
	}
	found := map[int]object{}
	for _, p := range call(t, proc+"List", object{})["processes"].([]any) {
		found[int(at(p, "pid").(float64))] = p.(object)
	}
	mine, other := found[pid], found[native.Pid()]
	if mine["tag"] != "mine" || at(mine, "config", "cmd") != "/bin/sh" || at(mine, "config", "cwd") != "/" || at(mine, "config", "envs", "A") != "b" || len(at(mine, "config", "args").([]any)) != 2 {
		t.Errorf("listed %v", mine)
	}
	if other["tag"] != nil || at(other, "config", "cmd") != "/bin/sh" {
		t.Errorf("listed %v", other)
	}
	tagged := object{"tag": "mine"}
	again := stream(t, proc+"Connect", object{"process": tagged}, "K2-Replay", "all")
	if got := started(t, again); got != pid {
		t.Errorf("the tag leads to %d, not %d", got, pid)
	}
	call(t, proc+"SendSignal", object{"process": tagged, "signal": "SIGNAL_SIGTERM"})
	for _, f := range []*flow{f, again} {
		if _, end := output(t, f); end["status"] != "signal: terminated" {
			t.Errorf("end %v", end)
		}
	}
	for _, p := range call(t, proc+"List", object{})["processes"].([]any) {
		if at(p, "pid") == float64(pid) {
			t.Error("it is listed after its end")
		}
	}
	late := stream(t, proc+"Connect", object{"process": tagged}) // its end is kept
	if got := started(t, late); got != pid {
		t.Errorf("the tag leads to %d, not %d", got, pid)
	}
	kill(t, native.Pid())
}

// A silent stream says that it lives.
func TestKeepalive(t *testing.T) {
	f, pid := begin(t, object{"process": shell("exec sleep 1000"), "stdin": false}, "Keepalive-Ping-Interval", "1")
	for range 2 {
		if m := f.next(t); at(m, "event", "keepalive") == nil {
			t.Errorf("got %v", m)
		}
	}
	kill(t, pid)
	f.rest(t)
}

// When the sandbox is closed its streams are cut, and have no end.
func TestClose(t *testing.T) {
	dir := t.TempDir()
	box, err := open(dir)
	if err != nil {
		t.Fatal(err)
	}
	site := serve(box, 0)
	defer site.Close()
	command := send(t, site.URL, proc+"Start", strings.NewReader(envelope(0, encode(t, object{"process": shell("exec sleep 1000")}))))
	started(t, command)
	watch := send(t, site.URL, fs+"WatchDir", strings.NewReader(envelope(0, encode(t, object{"path": dir}))))
	if m := watch.next(t); m["start"] == nil {
		t.Errorf("first comes %v", m)
	}
	if err := box.Close(); err != nil {
		t.Error(err)
	}
	for _, f := range []*flow{command, watch} {
		for {
			if m, err := f.take(); err != nil {
				break
			} else if m == nil {
				t.Errorf("the stream ended with %v", f.last)
				break
			}
		}
	}
	send(t, site.URL, proc+"Start", strings.NewReader(envelope(0, encode(t, object{"process": shell("true")})))).failed(t, "unavailable")
}
