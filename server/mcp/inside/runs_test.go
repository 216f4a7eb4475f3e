package inside_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
)

func TestCode(t *testing.T) {
	run, text := code(t, "print('a'); import sys; print('b', file=sys.stderr); 1 + 1")
	if run.Status != "ok" || run.Stdout != "a\n" || run.Stderr != "b\n" || run.Result != "2\n" || run.ExecutionCount == nil || run.ContextID != "default" {
		t.Errorf("%+v", run)
	}
	if want := "a\n\nstderr:\nb\n\nresult:\n2"; text != want {
		t.Errorf("%q, want %q", text, want)
	}
	if run, text = code(t, "1 + 2"); text != "3" || run.Result != "3\n" {
		t.Errorf("%q, %+v", text, run)
	}
	if _, text = code(t, "x = 1"); text != "(no output)" {
		t.Errorf("%q", text)
	}
}

func TestFailures(t *testing.T) {
	run, text := code(t, "print('before'); 1 / 0")
	if run.Status != "error" || run.Error == nil || run.Error.Name != "ZeroDivisionError" || run.Error.Value != "division by zero" {
		t.Fatalf("%+v", run)
	}
	if !strings.Contains(text, "before\n\nerror:\n") || !strings.Contains(text, "----> 1 print('before'); 1 / 0") || strings.Contains(text, "\x1b") {
		t.Error(text)
	}
	a, text := use(t, api.ToolRunCode, api.MCPRunCode{Code: "import time; kept = 7; time.sleep(60)", KillAfterS: 2})
	if a.Run.Status != "timeout" || a.Run.Error.Name != "TimeoutError" || !strings.Contains(text, "KeyboardInterrupt") {
		t.Errorf("%+v %s", a.Run, text)
	}
	if _, text = code(t, "kept"); text != "7" {
		t.Error(text)
	}
	run, text = code(t, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
	if run.Status != "kernel_died" || !run.StateLost || run.Error.Name != "KernelDied" || !strings.Contains(text, "SIGSEGV") || !strings.Contains(text, "variables and imports are gone") {
		t.Errorf("%+v %s", run, text)
	}
	if run, _ = code(t, "kept"); run.Error == nil || run.Error.Name != "NameError" {
		t.Errorf("%+v", run)
	}
}

func TestWhatATerminalWouldShow(t *testing.T) {
	code(t, "from IPython.display import clear_output")
	for source, want := range map[string]string{
		`print('\x1b[1;31mred\x1b[0m \x1b]8;;http://a\x1b\\link\x1b]8;;\x07 end')`:                                "red link end\n",
		`for i in range(101): print(f'\r{i:3d}%|###', end='')` + "\nprint()":                                      "100%|###\n",
		`print('longer\rab\b\x1b[K!'); print('12345\r\x1b[2C_')`:                                                  "a!\n12_45\n",
		`print('a\0b\x07c\x85d\r\ne')`:                                                                            "abcd\ne\n",
		`print('über 🐍', end='')`:                                                                                 "über 🐍",
		`print('\x1b]0;never ends\n' + 'x' * 5000 + 'y')`:                                                         strings.Repeat("x", 5000-(4097-len("0;never ends\n"))) + "y\n",
		"print('gone'); clear_output(); print('stays')":                                                           "stays\n",
		"print('gone'); clear_output(wait=True); print('too'); clear_output(wait=True); print('stays')":           "stays\n",
		"print('not gone'); clear_output(wait=True)":                                                              "not gone\n",
		"import sys; n = sys.stdout.write('no end'); sys.stdout.flush(); sys.stdout.write('\\rof line') and None": "of line",
	} {
		if run, _ := code(t, source); run.Stdout != want {
			t.Errorf("%s: %.200q, want %.200q", source, run.Stdout, want)
		}
	}
}

// A long output is cut in the middle, with an exact count, and can be read to the last character.
func TestLongOutput(t *testing.T) {
	const lines = 10_000
	var whole strings.Builder
	for i := range lines {
		fmt.Fprintf(&whole, "line %d %s\n", i, strings.Repeat("ü", i%100))
	}
	run, text := code(t, fmt.Sprintf("for i in range(%d): print('line', i, 'ü' * (i %% 100))", lines))
	all := []rune(whole.String())
	checkCut(t, run, all)
	if !strings.Contains(text, "characters were left out here: get_run with run_id "+run.RunID+" and after "+run.Omitted[0].After) {
		t.Errorf("%.500s", text[len(text)/2:])
	}
	id, seen := run.RunID, head(run.Stdout)
	for run.Truncated {
		a, _ := use(t, api.ToolGetRun, api.MCPGetRun{RunID: id, After: run.Omitted[0].After, MaxOutputChars: api.MaxMCPChars})
		if run = a.Run; run.Truncated {
			seen += head(run.Stdout)
		} else {
			seen += run.Stdout
		}
	}
	if seen != whole.String() {
		t.Errorf("read %d bytes, want %d", len(seen), whole.Len())
	}
}

// head returns what is before the mark of what was left out.
func head(text string) string {
	before, _, _ := strings.Cut(text, "[… ")
	return before
}

func checkCut(t *testing.T, run *api.MCPRun, all []rune) {
	t.Helper()
	before, rest, _ := strings.Cut(run.Stdout, "[… ")
	_, after, cut := strings.Cut(rest, " …]\n")
	if !run.Truncated || !cut || len(run.Omitted) != 1 || run.Omitted[0].Stream != "stdout" {
		t.Fatalf("%v %+v", cut, run.Omitted)
	}
	before = strings.TrimSuffix(before, "\n")
	shown := len([]rune(before)) + len([]rune(after))
	if !strings.HasPrefix(string(all), before) || !strings.HasSuffix(string(all), after) {
		t.Error("what is shown is not the beginning and the end")
	}
	if left := len(all) - shown; left != int(run.Omitted[0].Chars) && left != int(run.Omitted[0].Chars)+1 {
		t.Errorf("told %d, left out %d", run.Omitted[0].Chars, left)
	}
	if shown > api.MCPChars || shown < api.MCPChars/2 {
		t.Errorf("%d characters are shown", shown)
	}
}

// One line of 5 MB is no other.
func TestLongLine(t *testing.T) {
	run, _ := code(t, "print('abcdefghij' * 500_000)")
	checkCut(t, run, []rune(strings.Repeat("abcdefghij", 500_000)+"\n"))
	a, _ := use(t, api.ToolGetRun, api.MCPGetRun{RunID: run.RunID, After: run.Omitted[0].After, MaxOutputChars: 100})
	if n := len(head(run.Stdout)) - 1; !strings.HasPrefix(strings.Repeat("abcdefghij", 500_000)[n:], head(a.Run.Stdout)[:40]) { // less a line end
		t.Errorf("after %d characters: %s", n, a.Run.Stdout)
	}
}

// Streams share what there is room for, and each gets what it needs where that is little.
func TestShares(t *testing.T) {
	a, _ := use(t, api.ToolRunCode, api.MCPRunCode{Code: "import sys\nfor i in range(1000): print('out', i); print('err', i, file=sys.stderr)\n'few'", MaxOutputChars: 1000})
	run := a.Run
	if len(run.Omitted) != 2 || run.Result != "'few'\n" || len(run.Stdout) > 700 || len(run.Stderr) > 700 || len(run.Stdout) < 300 || len(run.Stderr) < 300 {
		t.Errorf("%+v", run)
	}
}

func TestRunThatGoesOn(t *testing.T) {
	quick := 0.2
	a, text := use(t, api.ToolRunCode, api.MCPRunCode{Code: "import time; print('begun', flush=True)\nwhile not globals().get('stop'): time.sleep(0.05)\n", TimeoutS: &quick})
	if a.Run.Status != "running" || !strings.Contains(text, "still running after") || !strings.Contains(text, a.Run.RunID) {
		t.Fatalf("%+v %s", a.Run, text)
	}
	id := a.Run.RunID
	queued, text := use(t, api.ToolRunCode, api.MCPRunCode{Code: "print('next')", TimeoutS: &quick})
	if queued.Run.Status != "queued" || !strings.Contains(text, "queued behind") {
		t.Errorf("%+v %s", queued.Run, text)
	}
	cursor := a.Run.NextCursor
	for a.Run.Stdout != "begun\n" { // the kernel is slow
		a, _ = use(t, api.ToolGetRun, api.MCPGetRun{RunID: id, WaitS: &quick})
		cursor = a.Run.NextCursor
	}
	a, text = use(t, api.ToolInterruptRun, api.MCPInterruptRun{RunID: id})
	if a.Run.Status != "interrupted" || !strings.Contains(text, "KeyboardInterrupt") {
		t.Errorf("%+v %s", a.Run, text)
	}
	a, _ = use(t, api.ToolGetRun, api.MCPGetRun{RunID: id, After: cursor})
	if a.Run.Status != "interrupted" || a.Run.Stdout != "" {
		t.Errorf("%+v", a.Run)
	}
	if a, _ = use(t, api.ToolGetRun, api.MCPGetRun{RunID: queued.Run.RunID}); a.Run.Status != "ok" || a.Run.Stdout != "next\n" {
		t.Errorf("%+v", a.Run)
	}
	if a, _ = use(t, api.ToolInterruptRun, api.MCPInterruptRun{RunID: id}); a.Run.Status != "interrupted" {
		t.Errorf("interrupted again: %+v", a.Run)
	}
}

// Who reads on at the end of a run that has ended is told how.
func TestReadingOnAtTheEnd(t *testing.T) {
	a, _ := use(t, api.ToolRunCode, api.MCPRunCode{Code: "print('all')"})
	none := 0.0
	for _, wait := range []*float64{nil, &none} {
		again, text := use(t, api.ToolGetRun, api.MCPGetRun{RunID: a.Run.RunID, After: a.Run.NextCursor, WaitS: wait})
		if again.Run.Status != "ok" || again.Run.Stdout != "" || again.Run.NextCursor != a.Run.NextCursor || text != "(no output)" {
			t.Errorf("%+v %s", again.Run, text)
		}
	}
	a, _ = use(t, api.ToolRunCommand, api.MCPRunCommand{Command: "exit 3"})
	if again, _ := use(t, api.ToolGetRun, api.MCPGetRun{RunID: a.Run.RunID, After: a.Run.NextCursor}); again.Run.ExitCode == nil || *again.Run.ExitCode != 3 {
		t.Errorf("%+v", again.Run)
	}
}

// What is hardly too long is cut by little.
func TestHardlyTooLong(t *testing.T) {
	run, _ := code(t, fmt.Sprintf("print('x' * 99)\n"+"for i in range(%d): print('y' * 99)", api.MCPChars/100))
	if n := len(run.Stdout); !run.Truncated || n < api.MCPChars*9/10 {
		t.Errorf("%d characters are shown, %+v", n, run.Omitted)
	}
}

// Progress comes at once, tells the newest line, and grows.
func TestProgress(t *testing.T) {
	progress, a := lines(t, send(t.Context(), t, api.ToolRunCode, api.MCPRunCode{Code: "import time\nfor i in range(13): print(f'\\r{i} of 13', end='', flush=True); time.sleep(0.2)"}))
	if a.Run.Stdout != "12 of 13" || len(progress) < 2 || progress[0].RunID != a.Run.RunID {
		t.Fatalf("%v %+v", progress, a.Run)
	}
	for i, p := range progress[1:] {
		if p.ElapsedS <= progress[i].ElapsedS {
			t.Errorf("%v", progress)
		}
	}
	if last := progress[len(progress)-1].Line; !strings.HasSuffix(last, " of 13") || strings.Contains(last, "\r") {
		t.Errorf("%q", last)
	}
}

// Who leaves has the code interrupted, and nothing else is lost.
func TestLeaving(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	resp := send(ctx, t, api.ToolRunCode, api.MCPRunCode{Code: "state = 5; import time; time.sleep(300)"})
	first, err := bufio.NewReader(resp.Body).ReadString('\n')
	var line api.MCPLine
	if err != nil || json.Unmarshal([]byte(first), &line) != nil {
		t.Fatal(err, first)
	}
	e, err := box.Execution(line.Progress.RunID)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	<-e.Done()
	if s := e.Summary(); s.Status != "interrupted" && s.Status != "aborted" {
		t.Errorf("%+v", s)
	}
	if _, text := code(t, "1 + 1"); text != "2" {
		t.Error(text)
	}
}

// begun waits until a command has said that it has begun.
func begun(t *testing.T, a *api.MCPAnswer) *api.MCPAnswer {
	t.Helper()
	quick := 0.2
	for a.Run.Stdout != "begun\n" && a.Run.Status == "running" {
		a, _ = use(t, api.ToolGetRun, api.MCPGetRun{RunID: a.Run.RunID, WaitS: &quick})
	}
	return a
}

func TestCommands(t *testing.T) {
	a, text := use(t, api.ToolRunCommand, api.MCPRunCommand{Command: "echo out; echo err >&2; exit 3"})
	if a.Run.Status != "error" || a.Run.ExitCode == nil || *a.Run.ExitCode != 3 || text != "out\n\nstderr:\nerr\n[exit status 3]" {
		t.Errorf("%+v %q", a.Run, text)
	}
	a, _ = use(t, api.ToolRunCommand, api.MCPRunCommand{Argv: []string{"printf", "%s|", "a b", "$HOME", "\xff"}, Cwd: "/"})
	if a.Run.Stdout != "a b|$HOME|\ufffd|" || a.Run.Status != "ok" {
		t.Errorf("%+v", a.Run)
	}
	quick := 0.2
	a, _ = use(t, api.ToolRunCommand, api.MCPRunCommand{Command: "echo begun; sleep 300", TimeoutS: &quick})
	if a.Run.Status != "running" || !strings.HasPrefix(a.Run.RunID, "cmd_") {
		t.Fatalf("%+v", a.Run)
	}
	a = begun(t, a)
	a, text = use(t, api.ToolInterruptRun, api.MCPInterruptRun{RunID: a.Run.RunID})
	if a.Run.Signal != "SIGINT" || a.Run.Stdout != "begun\n" || !strings.Contains(text, "ended by the signal SIGINT") {
		t.Errorf("%+v %s", a.Run, text)
	}
	a, _ = use(t, api.ToolRunCommand, api.MCPRunCommand{Command: "trap '' INT TERM; echo begun; sleep 300", TimeoutS: &quick})
	a = begun(t, a)
	if a, _ = use(t, api.ToolInterruptRun, api.MCPInterruptRun{RunID: a.Run.RunID}); a.Run.Signal != "SIGKILL" {
		t.Errorf("of one that withstands: %+v", a.Run)
	}
	a, text = use(t, api.ToolRunCommand, api.MCPRunCommand{Command: "sleep 300", KillAfterS: 0.2})
	if a.Run.Status != "timeout" || !strings.Contains(text, "kill_after_s") {
		t.Errorf("%+v %s", a.Run, text)
	}
}

func TestFilesChanged(t *testing.T) {
	run, text := code(t, "open('made.txt', 'w').write('x'); import os; os.makedirs('sub', exist_ok=True); open('sub/b.csv', 'w').close(); open('.hidden', 'w').close()")
	if len(run.FilesChanged) != 2 || !strings.HasSuffix(text, "[files changed: made.txt, sub/b.csv]") {
		t.Errorf("%v %s", run.FilesChanged, text)
	}
}

func TestRefusals(t *testing.T) {
	type o = map[string]any
	run, _ := code(t, "1")
	for _, bad := range []struct {
		tool  string
		args  any
		code  api.Code
		field string
	}{
		{api.ToolRunCode, o{}, api.InvalidRequest, "code"},
		{api.ToolRunCode, o{"code": 1}, api.InvalidRequest, "code"},
		{api.ToolRunCode, o{"code": "1", "timeout_s": 61}, api.InvalidRequest, "timeout_s"},
		{api.ToolRunCode, o{"code": "1", "timeout_s": -1}, api.InvalidRequest, "timeout_s"},
		{api.ToolRunCode, o{"code": "1", "kill_after_s": -1}, api.InvalidRequest, "kill_after_s"},
		{api.ToolRunCode, o{"code": "1", "max_output_chars": 1_000_000}, api.InvalidRequest, "max_output_chars"},
		{api.ToolRunCode, o{"code": "1", "images": "all"}, api.InvalidRequest, "images"},
		{api.ToolRunCode, o{"code": "1", "language": "klingon"}, api.InvalidRequest, "language"},
		{api.ToolRunCode, o{"code": "1", "language": "python", "context_id": "default"}, api.InvalidRequest, "language"},
		{api.ToolRunCode, o{"code": "1", "sandbox_id": "x"}, api.InvalidRequest, "sandbox_id"},
		{api.ToolRunCode, o{"code": "1", "context_id": "ctx_none"}, api.NotFound, ""},
		{api.ToolGetRun, o{"run_id": "ex_none"}, api.NotFound, ""},
		{api.ToolGetRun, o{"run_id": "cmd_1_2"}, api.NotFound, ""},
		{api.ToolGetRun, o{"run_id": "in_none"}, api.NotFound, ""},
		{api.ToolGetRun, o{"run_id": run.RunID, "after": "x"}, api.InvalidRequest, "after"},
		{api.ToolGetRun, o{"run_id": run.RunID, "after": "900.0"}, api.InvalidRequest, "after"},
		{api.ToolGetRun, o{"run_id": run.RunID, "after": "01.0"}, api.InvalidRequest, "after"},
		{api.ToolInterruptRun, o{"run_id": ""}, api.NotFound, ""},
		{api.ToolRunCommand, o{}, api.InvalidRequest, "command"},
		{api.ToolRunCommand, o{"command": "a", "argv": []string{"a"}}, api.InvalidRequest, "argv"},
		{api.ToolRunCommand, o{"argv": []string{"/no/such"}}, api.Unprocessable, "argv"},
		{api.ToolRunCommand, o{"command": "true", "cwd": "/no/such"}, api.Unprocessable, "cwd"},
		{api.ToolRunCommand, o{"command": "true", "cwd": "tmp"}, api.InvalidRequest, "cwd"},
		{api.ToolReadFile, o{"path": "none.txt"}, api.NotFound, ""},
		{api.ToolReadFile, o{"path": "/"}, api.Conflict, ""},
		{api.ToolReadFile, o{"path": "/dev/zero"}, api.Unprocessable, ""},
		{api.ToolReadFile, o{"path": "/etc/passwd", "offset": 100000}, api.InvalidRequest, "offset"},
		{api.ToolWriteFile, o{"path": "x", "mode": "w"}, api.InvalidRequest, "mode"},
		{api.ToolWriteFile, o{"path": "x", "base64": "!"}, api.InvalidRequest, "base64"},
		{api.ToolWriteFile, o{"path": "x", "base64": "QQ==", "content": ""}, api.InvalidRequest, "base64"},
		{api.ToolListFiles, o{"path": "/no/such"}, api.NotFound, ""},
		{api.ToolListFiles, o{"depth": 99}, api.InvalidRequest, "depth"},
		{api.ToolInstallPackages, o{"packages": []string{}}, api.InvalidRequest, "packages"},
		{api.ToolInstallPackages, o{"packages": []string{"a b c"}}, api.InvalidRequest, "packages[0]"},
	} {
		e := refused(t, bad.tool, bad.args, bad.code)
		if field, _ := e.Details["field"].(string); field != bad.field {
			t.Errorf("%s %v: field %q, want %q: %s", bad.tool, bad.args, field, bad.field, e.Message)
		}
	}
	resp, err := http.Get(site.URL + "/output?run_id=" + run.RunID + "&output=99")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("status %d", resp.StatusCode)
	}
}

// What a kernel died of is told behind the answer to the one call that was there.
func TestDeathsAreTold(t *testing.T) {
	for _, c := range []struct {
		code string
		want api.Death
	}{{"1", ""}, {"import os; os._exit(3)", api.DeathByExit}} {
		resp := send(t.Context(), t, api.ToolRunCode, api.MCPRunCode{Code: c.code})
		_, a := lines(t, resp)
		again := send(t.Context(), t, api.ToolGetRun, api.MCPGetRun{RunID: a.Run.RunID})
		lines(t, again)
		if got, more := resp.Trailer.Get(api.DeathTrailer), again.Trailer.Get(api.DeathTrailer); got != string(c.want) || more != "" {
			t.Errorf("%s: got %q and %q, want %q", c.code, got, more, c.want)
		}
	}
}

// Of many who wait for a run, one tells what its kernel died of: it counts once.
func TestADeathIsToldOnce(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	source := fmt.Sprintf("import os; open(%q).read(); os._exit(3)", fifo)
	answers := []*http.Response{send(t.Context(), t, api.ToolRunCode, api.MCPRunCode{Code: source})}
	first, err := bufio.NewReader(answers[0].Body).ReadString('\n')
	var line api.MCPLine
	if err != nil || json.Unmarshal([]byte(first), &line) != nil || line.Progress == nil {
		t.Fatalf("%v: %s", err, first)
	}
	for range 2 { // an answer begins when it waits
		answers = append(answers, send(t.Context(), t, api.ToolGetRun, api.MCPGetRun{RunID: line.Progress.RunID}))
	}
	if err := os.WriteFile(fifo, nil, 0); err != nil { // which waits for the reader
		t.Fatal(err)
	}
	var told []string
	for _, a := range answers {
		if _, err := io.Copy(io.Discard, a.Body); err != nil {
			t.Fatal(err)
		}
		if cause := a.Trailer.Get(api.DeathTrailer); cause != "" {
			told = append(told, cause)
		}
	}
	if len(told) != 1 || told[0] != string(api.DeathByExit) {
		t.Errorf("told %q", told)
	}
}
