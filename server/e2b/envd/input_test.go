package envd_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

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
	impatient := serve(box, 400*time.Millisecond)
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
