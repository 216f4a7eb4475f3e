package interpreter_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
)

func TestMessages(t *testing.T) {
	p := shared
	first := p.run(t, "import sys")
	resp := p.call(t.Context(), t, "POST", "/execute", request("print('one')\nprint('two', file=sys.stderr)\n'text'"))
	if typ := resp.Header.Get("Content-Type"); typ != "application/x-ndjson" {
		t.Errorf("content type %q", typ)
	}
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")
	if len(lines) != 5 || !strings.HasPrefix(lines[0], `{"type":"number_of_executions","execution_count":`) || lines[4] != `{"type":"end_of_execution"}` {
		t.Errorf("messages %q", lines)
	}
	if !strings.Contains(string(raw), `{"type":"stdout","text":"one\n","timestamp":"20`) {
		t.Errorf("no stdout in %s", raw)
	}
	e := p.run(t, "print('one')\nprint('two', file=sys.stderr)\n'text'")
	if want := []string{"one\n"}; !reflect.DeepEqual(e.Stdout, want) {
		t.Errorf("stdout %q", e.Stdout)
	}
	if want := []string{"two\n"}; !reflect.DeepEqual(e.Stderr, want) {
		t.Errorf("stderr %q", e.Stderr)
	}
	if want := []object{{"text": "text", "extra": object{}, "is_main_result": true}}; !reflect.DeepEqual(e.Results, want) {
		t.Errorf("results %v", e.Results)
	}
	if e.Count != first.Count.(float64)+2 {
		t.Errorf("count %v after %v", e.Count, first.Count)
	}
}

func TestMessagesAreASCII(t *testing.T) {
	text := "a\u0085\u2028\u2029é\U0001F600\u007f\x00\"\\\n"
	e := shared.run(t, `
from IPython.display import display
text = "a\u0085\u2028\u2029é\U0001F600\x7f\x00\"\\\n"
print(text, end="")
display({"application/x-\u00e9": text}, raw=True)
raise ValueError(text)`)
	if strings.Join(e.Stdout, "") != text || e.Error["value"] != text {
		t.Errorf("stdout %q, error %q", e.Stdout, e.Error["value"])
	}
	if got := e.Results[0]["extra"].(object)["application/x-é"]; got != text {
		t.Errorf("result %q", got)
	}
}

func TestErrors(t *testing.T) {
	e := shared.run(t, "print('before')\n1/0")
	if e.Error["name"] != "ZeroDivisionError" || e.Error["value"] != "division by zero" || !strings.Contains(e.Error["traceback"].(string), "----> 2 1/0") {
		t.Errorf("error %v", e.Error)
	}
	if strings.Contains(e.Error["traceback"].(string), "\x1b") {
		t.Error("the traceback has colours")
	}
	if e := shared.run(t, "def"); e.Error["name"] != "SyntaxError" {
		t.Errorf("error %v", e.Error)
	}
	if e := shared.run(t, "input()"); e.Error["name"] != "StdinNotImplementedError" {
		t.Errorf("error %v", e.Error)
	}
}

func TestVariablesAreData(t *testing.T) {
	wild := "it's \"wild\"\n'''; import os; os._exit(1) #"
	e := shared.run(t, "import os; os.environ['WILD'], os.environ['K2_B']", object{"env_vars": object{"WILD": wild, "K2_B": ""}})
	shared.run(t, "import json; print(json.dumps(os.environ.get('WILD')))")
	if e.Error != nil {
		t.Fatal(e.Error)
	}
	e = shared.run(t, "print(os.environ['WILD'], end='')", object{"env_vars": object{"WILD": wild}})
	if got := strings.Join(e.Stdout, ""); got != wild {
		t.Errorf("WILD is %q", got)
	}
	if e := shared.run(t, "'WILD' in os.environ"); e.Results[0]["text"] != "False" {
		t.Errorf("the variable stayed: %v", e.Results)
	}
}

func TestUpdatesOfDisplays(t *testing.T) {
	e := shared.run(t, "from IPython.display import display\nh = display('first', display_id=True)\nh.update('second')")
	var texts []any
	for _, r := range e.Results {
		texts = append(texts, r["text"])
		if r["is_main_result"] != false {
			t.Errorf("%v is the main result", r)
		}
	}
	if want := []any{"first", "second"}; !reflect.DeepEqual(texts, want) {
		t.Errorf("results %v", e.Results)
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		method, path string
		body         any
		status       int
		words        string
	}{
		{"POST", "/execute", object{"code": "1", "context_id": "default", "language": "python"}, 400, "context_id"},
		{"POST", "/execute", object{"code": "1", "context_id": "none"}, 404, "Context none not found"},
		{"POST", "/execute", object{"code": "1", "language": "cobol"}, 400, "cobol"},
		{"POST", "/execute", object{"code": "1", "language": "../x"}, 400, "../x"},
		{"POST", "/execute", object{}, 400, "code"},
		{"POST", "/execute", object{"code": 1}, 400, "code"},
		{"POST", "/execute", []int{1}, 400, "object"},
		{"POST", "/execute", object{"code": "1", "env_vars": object{"A=": "x"}}, 400, "env_vars"},
		{"POST", "/execute", object{"code": "1", "env_vars": object{"A": "\x00"}}, 400, "env_vars"},
		{"POST", "/execute", object{"code": "1", "env_vars": object{"K2_TIMEOUT": "soon"}}, 400, "K2_TIMEOUT"},
		{"POST", "/execute", object{"code": "1", "timeout": -1}, 400, "timeout"},
		{"POST", "/execute", object{"code": strings.Repeat("#", 1<<20+1)}, 413, "code"},
		{"GET", "/execute", nil, 405, "GET"},
		{"POST", "/contexts", object{"language": "cobol"}, 400, "cobol"},
		{"POST", "/contexts", object{"cwd": "relative"}, 400, "cwd"},
		{"POST", "/contexts", object{"cwd": "/no/such"}, 400, "cwd: /no/such"},
		{"POST", "/contexts/none/restart", nil, 404, "Context none not found"},
		{"DELETE", "/contexts/none", nil, 404, "Context none not found"},
		{"DELETE", "/contexts/default", nil, 409, "default"},
		{"POST", "/executions/none/input", object{"value": "x"}, 404, "none"},
		{"GET", "/none", nil, 404, "/none"},
	} {
		status, words := shared.ask(t, c.method, c.path, c.body)
		if status != c.status || !strings.Contains(words, c.words) || strings.HasPrefix(words, "{") {
			t.Errorf("%s %s %.80v: %d %s, want %d with %q", c.method, c.path, c.body, status, words, c.status, c.words)
		}
	}
}

func TestMoreFieldsAreNoError(t *testing.T) {
	e := shared.run(t, "1", object{"new": object{"a": []int{1}}, "context_id": nil, "language": nil, "env_vars": nil})
	if e.Results[0]["text"] != "1" {
		t.Errorf("results %v", e.Results)
	}
}

// leave runs code up to its first output, and then closes the connection.
func (p place) leave(t *testing.T, code string, more ...object) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p.open(ctx, t, request(code, more...)).until(t, "stdout")
}

func TestLeavingInterrupts(t *testing.T) {
	shared.leave(t, "import time\nkept = 1\nprint('begun')\ntime.sleep(300)")
	if e := shared.run(t, "kept"); e.Results[0]["text"] != "1" {
		t.Errorf("results %v", e.Results)
	}
}

func TestLeavingEndsWhatWithstandsInterrupts(t *testing.T) {
	shared.leave(t, `
import time
kept = 1
print("begun")
while True:
    try:
        time.sleep(300)
    except KeyboardInterrupt:
        pass`)
	e := shared.run(t, "'kept' in globals()")
	if e.Results[0]["text"] != "False" || !strings.Contains(strings.Join(e.Stderr, ""), "without its variables") {
		t.Errorf("results %v, stderr %q", e.Results, e.Stderr)
	}
}

func TestSilenceIsKeptAlive(t *testing.T) {
	p, err := newPlace(server.Options{Ping: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := p.open(ctx, t, request("import time; time.sleep(300)"))
	if m := s.until(t, "keepalive"); len(m) != 1 {
		t.Errorf("keepalive %v", m)
	}
}

func TestKillingCutsTheAnswer(t *testing.T) {
	p, err := newPlace(server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := p.open(t.Context(), t, request("print('begun'); import time; time.sleep(300)"))
	s.until(t, "stdout")
	if err := p.box.Close(); err != nil {
		t.Error(err)
	}
	left, err := io.ReadAll(s.Body)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the answer ended with %q, %v", left, err)
	}
	if status, words := p.ask(t, "POST", "/execute", object{"code": "1"}); status != http.StatusBadGateway || !strings.Contains(words, "was not found") {
		t.Errorf("%d %s", status, words)
	}
	if err := p.close(); err != nil {
		t.Error(err)
	}
}

func TestDeathOfAKernel(t *testing.T) {
	for code, words := range map[string]string{
		"import os, signal; os.kill(os.getpid(), signal.SIGSEGV)": "SIGSEGV",
		"import os; os._exit(7)":                                  "status 7",
	} {
		e := shared.run(t, code)
		if e.Error["name"] != "KernelDied" || !strings.Contains(e.Error["value"].(string), words) {
			t.Errorf("%s: %v", code, e.Error)
		}
		if e := shared.run(t, "1+1"); e.Results[0]["text"] != "2" || e.Count != 1.0 {
			t.Errorf("then %v", e)
		}
	}
	if e := shared.run(t, "exit()"); e.Error != nil || !strings.Contains(strings.Join(e.Stderr, ""), "without its variables") {
		t.Errorf("exit(): %v", e)
	}
	if e := shared.run(t, "1+1"); e.Results[0]["text"] != "2" {
		t.Errorf("then %v", e)
	}
}

// What it died of is told behind the answer, for who counts.
func TestDeathsAreTold(t *testing.T) {
	for code, want := range map[string]api.Death{"1": "", "import os; os._exit(3)": api.DeathByExit} {
		resp := shared.call(t.Context(), t, "POST", "/execute", object{"code": code})
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		if got := resp.Trailer.Get(api.DeathTrailer); got != string(want) {
			t.Errorf("%s: got %q, want %q", code, got, want)
		}
	}
}

func TestTimeout(t *testing.T) {
	for _, more := range []object{{"timeout": 0.3}, {"env_vars": object{"K2_TIMEOUT": "0.3"}}} {
		e := shared.run(t, "import time; time.sleep(300)", more)
		if e.Error["name"] != "TimeoutError" || !strings.Contains(e.Error["value"].(string), "0.3 s") || !strings.Contains(e.Error["traceback"].(string), "sleep") {
			t.Errorf("%v: %v", more, e)
		}
	}
}

func TestInput(t *testing.T) {
	s := shared.open(t.Context(), t, request("name = input('Who? ')\nname", object{"allow_stdin": true}))
	m := s.until(t, "input_request")
	if m["prompt"] != "Who? " || m["password"] != false {
		t.Errorf("message %v", m)
	}
	path := "/executions/" + m["execution_id"].(string) + "/input"
	if got := get[any](t, shared, "POST", path, object{"value": "Ada"}); got != nil {
		t.Errorf("answer %v", got)
	}
	if e := s.rest(t); e.Results[0]["text"] != "Ada" {
		t.Errorf("results %v", e.Results)
	}
	if status, _ := shared.ask(t, "POST", path, object{"value": "Ada"}); status != http.StatusConflict {
		t.Errorf("status %d after the end", status)
	}
}

func TestHealth(t *testing.T) {
	if got := get[string](t, shared, "GET", "/health", nil); got != "OK" {
		t.Errorf("health %q", got)
	}
}

func TestMuchOutput(t *testing.T) {
	e := shared.run(t, "print('é' * 3_000_000)")
	if got := strings.Join(e.Stdout, ""); len(got) != 6_000_001 || strings.Trim(got, "é\n") != "" {
		t.Errorf("%d bytes", len(got))
	}
	e = shared.run(t, `
from IPython.display import display
display({"image/png": "A" * 4_000_000}, raw=True)`)
	if got := e.Results[0]["png"].(string); len(got) != 4_000_000 || !bytes.Equal([]byte(got[:4]), []byte("AAAA")) {
		t.Errorf("%d bytes", len(got))
	}
}
