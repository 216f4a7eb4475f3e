package envd_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

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

func TestStdin(t *testing.T) {
	for _, stdin := range []any{nil, true} { // old clients say nothing, and mean true
		f, pid := begin(t, object{"process": object{"cmd": "cat"}, "stdin": stdin})
		selector := object{"pid": pid}
		for _, text := range []string{"SGVsbG8s", "IFdvcmxkIQ", "IOKAoi0_"} { // either alphabet, padded or not
			call(t, proc+"SendInput", object{"process": selector, "input": object{"stdin": text}})
		}
		call(t, proc+"CloseStdin", object{"process": selector})
		if said, end := output(t, f); said["stdout"] != "Hello, World! •-?" || end["exitCode"] != 0.0 {
			t.Errorf("said %q, end %v", said, end)
		}
	}
	// A stdin that was closed can be closed again, and takes nothing.
	f, pid := begin(t, object{"process": shell("cat; exec sleep 1000")})
	for range 2 {
		call(t, proc+"CloseStdin", object{"process": object{"pid": pid}})
	}
	refused(t, http.StatusBadRequest, "failed_precondition", proc+"SendInput", object{"process": object{"pid": pid}, "input": object{"stdin": "eA=="}})
	kill(t, pid)
	f.rest(t)
	f, pid = begin(t, object{"process": shell("cat; exec sleep 1000"), "stdin": false})
	selector := object{"pid": pid}
	refused(t, http.StatusBadRequest, "failed_precondition", proc+"SendInput", object{"process": selector, "input": object{"stdin": "eA=="}})
	refused(t, http.StatusBadRequest, "failed_precondition", proc+"SendInput", object{"process": selector, "input": object{"pty": "eA=="}})
	refused(t, http.StatusBadRequest, "failed_precondition", proc+"Update", object{"process": selector, "pty": object{"size": object{"cols": 1, "rows": 1}}})
	call(t, proc+"Update", object{"process": selector})
	for _, input := range []any{nil, object{}, object{"stdin": "eA==", "pty": "eA=="}, object{"stdin": "no base64!"}, object{"stdin": 5}} {
		refused(t, http.StatusBadRequest, "invalid_argument", proc+"SendInput", object{"process": selector, "input": input})
	}
	call(t, proc+"CloseStdin", object{"process": selector})
	call(t, proc+"CloseStdin", object{"process": selector})
	kill(t, pid)
	f.rest(t)
}

// Input that nobody reads ends with the time of the request, and loses the command nothing.
func TestStdinThatIsNotRead(t *testing.T) {
	f, pid := begin(t, object{"process": shell("exec sleep 1000")})
	text := base64.StdEncoding.EncodeToString(make([]byte, 200_000))
	refused(t, http.StatusGatewayTimeout, "deadline_exceeded", proc+"SendInput", object{"process": object{"pid": pid}, "input": object{"stdin": text}}, "Connect-Timeout-Ms", "100")
	kill(t, pid)
	f.rest(t)
}

func TestStreamInput(t *testing.T) {
	f, pid := begin(t, object{"process": object{"cmd": "cat"}})
	r, w := io.Pipe()
	answer := make(chan *flow)
	go func() { answer <- send(t, site.URL, proc+"StreamInput", r) }()
	put := func(message object) {
		t.Helper()
		if _, err := io.WriteString(w, envelope(0, encode(t, message))); err != nil {
			t.Fatal(err)
		}
	}
	put(object{"start": object{"process": object{"pid": pid}}})
	for _, text := range []string{"one", "two"} { // each is taken as it comes
		put(object{"data": object{"input": object{"stdin": base64.StdEncoding.EncodeToString([]byte(text))}}})
		until(t, f, "stdout", text)
		put(object{"keepalive": object{}})
	}
	w.Close()
	done := <-answer
	if all := done.rest(t); len(all) != 1 || len(all[0]) != 0 {
		t.Errorf("answered %v", all)
	}
	done.endedBy(t, "")

	// A client that has nothing to send is told when the command ends.
	r, w = io.Pipe()
	go func() { answer <- send(t, site.URL, proc+"StreamInput", r) }()
	put(object{"start": object{"process": object{"pid": pid}}})
	call(t, proc+"CloseStdin", object{"process": object{"pid": pid}})
	f.rest(t)
	(<-answer).failed(t, "not_found")
	w.Close()
}

func TestStreamInputThatIsNone(t *testing.T) {
	f, pid := begin(t, object{"process": object{"cmd": "cat"}})
	start := envelope(0, fmt.Sprintf(`{"start":{"process":{"pid":%d}}}`, pid))
	for body, code := range map[string]string{
		envelope(0, `{"data":{"input":{"stdin":"eA=="}}}`):         "invalid_argument",
		envelope(0, `{"start":{}}`):                                "invalid_argument",
		start + envelope(0, `{}`):                                  "invalid_argument",
		start + envelope(0, `{"data":{}}`):                         "invalid_argument",
		start + envelope(0, `{"data":{"input":{"stdin":"!"}}}`):    "invalid_argument",
		start + envelope(0, `{"data":{"input":{"pty":"eA=="}}}`):   "failed_precondition",
		start + "\x00\x00":                                         "invalid_argument",
		start + "\x00\x7f\xff\xff\xff":                             "resource_exhausted",
		start + envelope(1, `{"data":{"input":{"stdin":"eA=="}}}`): "unimplemented",
	} {
		send(t, site.URL, proc+"StreamInput", strings.NewReader(body)).failed(t, code)
	}
	impatient := serve(box, 100*time.Millisecond)
	defer impatient.Close()
	r, w := io.Pipe() // from which nothing comes
	send(t, impatient.URL, proc+"StreamInput", r).failed(t, "deadline_exceeded")
	w.Close()
	none := send(t, site.URL, proc+"StreamInput", strings.NewReader(""))
	if all := none.rest(t); len(all) != 1 {
		t.Errorf("of nothing: %v", all)
	}
	kill(t, pid)
	f.rest(t)
}

func TestTerminal(t *testing.T) {
	f, pid := begin(t, object{
		"process": object{"cmd": "/bin/bash", "args": []string{"--norc", "-i"}, "envs": object{"TERM": "xterm-256color", "FOO": "bar"}, "cwd": "/"},
		"pty":     object{"size": object{"cols": 80, "rows": 24}},
	})
	selector := object{"pid": pid}
	enter := func(line string) {
		t.Helper()
		call(t, proc+"SendInput", object{"process": selector, "input": object{"pty": base64.StdEncoding.EncodeToString([]byte(line + "\n"))}})
	}
	enter(`echo "<$FOO $TERM $PWD>"; stty size`)
	until(t, f, "pty", "<bar xterm-256color />")
	until(t, f, "pty", "24 80")
	call(t, proc+"Update", object{"process": selector, "pty": object{"size": object{"cols": 100, "rows": 30}}})
	enter(`stty size`)
	until(t, f, "pty", "30 100")
	refused(t, http.StatusBadRequest, "failed_precondition", proc+"SendInput", object{"process": selector, "input": object{"stdin": "eA=="}})
	refused(t, http.StatusBadRequest, "failed_precondition", proc+"CloseStdin", object{"process": selector})
	enter("exit 5")
	said, end := output(t, f)
	if said["stdout"] != "" || end["exitCode"] != 5.0 {
		t.Errorf("said %q, end %v", said, end)
	}
}

// SIGKILL ends all that a command has started, wherever it went, before the call returns.
func TestKill(t *testing.T) {
	f, pid := begin(t, object{"process": shell(`setsid sleep 1000 & sleep 1000 & echo $! >&2; echo $(pgrep -s0 -x nothing; echo ready); wait`), "stdin": false})
	until(t, f, "stdout", "ready")
	kill(t, pid)
	if _, end := output(t, f); end["exitCode"] != -1.0 || end["status"] != "signal: killed" {
		t.Errorf("end %v", end)
	}
	for _, given := range []any{"SIGNAL_UNSPECIFIED", "SIGNAL_NOTHING", 0, 99, true, nil, object{}} {
		f, pid := begin(t, object{"process": shell("exec sleep 1000"), "stdin": false})
		refused(t, http.StatusBadRequest, "invalid_argument", proc+"SendSignal", object{"process": object{"pid": pid}, "signal": given})
		call(t, proc+"SendSignal", object{"process": object{"pid": pid}, "signal": 9})
		gone(t, pid)
		f.rest(t)
	}
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
