package process_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/process"
)

// begin starts a job in the test's environment.
func begin(t *testing.T, tab *process.Table, spec process.Spec) *process.Job {
	t.Helper()
	spec.Env = append(spec.Env, path)
	j, err := tab.Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// event is a line of a job.
type event struct {
	journal.Line `json:"-"`
	Pid          int
	Text         *string
	Data         *string
	process.End
}

func decode(t *testing.T, line journal.Line) (e event) {
	t.Helper()
	if err := json.Unmarshal(line.JSON, &e); err != nil {
		t.Fatalf("%v: %s", err, line.JSON)
	}
	e.Line = line
	return e
}

// all follows a job from a number on to its end.
func all(t *testing.T, j *process.Job, after int64) []event {
	t.Helper()
	var events []event
	for line, err := range j.Lines(t.Context(), after) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, decode(t, line))
	}
	if n := len(events); n == 0 || events[n-1].Type != journal.End {
		t.Fatalf("no end: %+v", events)
	}
	return events
}

// said joins what a stream says in events.
func said(events []event, stream journal.Type) string {
	var b strings.Builder
	for _, e := range events {
		if p, ok := process.Bytes(e.Line); ok && e.Type == stream {
			b.Write(p)
		}
	}
	return b.String()
}

// until follows a job until stdout has had the text, and returns all of it.
func until(t *testing.T, j *process.Job, text string) string {
	t.Helper()
	return follow(t, j, func(out string) bool { return strings.Contains(out, text) })
}

// words follows a job until stdout has had so many lines of a word, and returns those.
func words(t *testing.T, j *process.Job, n int) []string {
	t.Helper()
	return strings.Fields(follow(t, j, func(out string) bool { return strings.Count(out, "\n") >= n }))
}

func follow(t *testing.T, j *process.Job, enough func(out string) bool) string {
	t.Helper()
	out := ""
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // it says what it had where it waits in vain
	defer cancel()
	for line, err := range j.Lines(ctx, 0) {
		if err != nil {
			t.Fatalf("%v after %q", err, out)
		}
		if p, _ := process.Bytes(line); line.Type == process.Stdout {
			if out += string(p); enough(out) {
				return out
			}
		}
	}
	t.Fatalf("it ended with %q", out)
	return ""
}

func TestJobTellsAll(t *testing.T) {
	tab := table(t, process.Options{})
	dir := t.TempDir()
	j := begin(t, tab, process.Spec{Cmd: "pwd; echo $A; cat; echo oops >&2; exit 3", Dir: dir, Env: []string{"A=b"}})
	events := all(t, j, 0)
	if first := events[0]; first.Type != process.Started || first.Seq != 1 || first.Pid != j.Pid() {
		t.Errorf("first is %s", first.JSON)
	}
	if got, want := said(events, process.Stdout), dir+"\nb\n"; got != want {
		t.Errorf("stdout %q, want %q", got, want)
	}
	if got := said(events, process.Stderr); got != "oops\n" {
		t.Errorf("stderr %q", got)
	}
	last := events[len(events)-1]
	if last.Status != process.Failed || last.ExitCode != 3 || last.Signal != nil || last.TimedOut {
		t.Errorf("end %s", last.JSON)
	}
	if again := all(t, j, events[0].Seq); len(again) != len(events)-1 || string(again[0].JSON) != string(events[1].JSON) {
		t.Errorf("replay: %+v", again)
	}
	if s := j.Summary(); s.State != process.Done || *s.ExitCode != 3 || s.EndedAt == nil || s.Events != last.Seq || s.Cwd != dir {
		t.Errorf("%+v", s)
	}
	killed := begin(t, tab, process.Spec{Args: []string{"sleep", "1000"}})
	if err := killed.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if end := killed.End(); end.Status != process.Failed || end.ExitCode != -1 || *end.Signal != "SIGTERM" {
		t.Errorf("%+v", end)
	}
	if err := killed.Signal(syscall.SIGTERM); !errors.Is(err, process.ErrEnded) {
		t.Errorf("a signal after the end: %v", err)
	}
}

// Text is cut between characters; bytes that are no text come as they are.
func TestTextAndData(t *testing.T) {
	tab := table(t, process.Options{})
	long := "a" + strings.Repeat("é€😀", 30_000) // no read ends where a character does
	for script, want := range map[string][]string{
		`cat`:                     {long},
		`printf 'a\303'`:          {"a", "=" + base64.StdEncoding.EncodeToString([]byte{0o303})},
		`printf '\377\376'`:       {"=" + base64.StdEncoding.EncodeToString([]byte{0o377, 0o376})},
		`printf '<\001\000"\\>é'`: {"<\x01\x00\"\\>é"},
	} {
		j := begin(t, tab, process.Spec{Cmd: script, Input: long})
		var got []string
		for _, e := range all(t, j, 0) {
			switch {
			case e.Data != nil:
				got = append(got, "="+*e.Data)
			case e.Text != nil && len(got) > 0 && script == "cat":
				got[0] += *e.Text
			case e.Text != nil:
				got = append(got, *e.Text)
			}
		}
		if strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("%s: %.200q", script, got)
		}
	}
}

func TestStdin(t *testing.T) {
	tab := table(t, process.Options{})
	j := begin(t, tab, process.Spec{Args: []string{"cat"}, Stdin: true})
	for _, text := range []string{"one\n", "two\n"} {
		if _, err := j.Write(t.Context(), []byte(text)); err != nil {
			t.Fatal(err)
		}
		until(t, j, text)
	}
	if err := j.CloseStdin(t.Context()); err != nil {
		t.Fatal(err)
	}
	if end := j.End(); end.Status != process.OK {
		t.Errorf("%+v", end)
	}
	if _, err := j.Write(t.Context(), []byte("late")); !errors.Is(err, process.ErrEnded) {
		t.Errorf("a write after the end: %v", err)
	}
	none := begin(t, tab, process.Spec{Cmd: "sleep 1000"})
	if _, err := none.Write(t.Context(), []byte("x")); !errors.Is(err, process.ErrStdinClosed) {
		t.Errorf("a write to none: %v", err)
	}
	closed := begin(t, tab, process.Spec{Cmd: "exec <&-; echo closed; sleep 1000", Stdin: true})
	until(t, closed, "closed")
	if _, err := closed.Write(t.Context(), []byte("x")); !errors.Is(err, process.ErrStdinClosed) {
		t.Errorf("a write to what is closed: %v", err)
	}
}

// A process that does not read holds up who writes to it, until that gives up or it ends.
func TestStdinIsNotRead(t *testing.T) {
	tab := table(t, process.Options{})
	j := begin(t, tab, process.Spec{Cmd: "sleep 1000", Stdin: true})
	ctx, cancel := context.WithCancel(t.Context())
	big := make([]byte, 1<<20)
	results := make(chan error, 2)
	for _, ctx := range []context.Context{ctx, t.Context()} {
		go func() {
			n, err := j.Write(ctx, big)
			if n == len(big) {
				err = errors.New("all was taken")
			}
			results <- err
		}()
	}
	cancel()
	if err := <-results; !errors.Is(err, context.Canceled) {
		t.Errorf("who gave up: %v", err)
	}
	if err := j.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-results; !errors.Is(err, process.ErrEnded) && !errors.Is(err, process.ErrStdinClosed) {
		t.Errorf("who did not: %v", err)
	}
}

// When the time is up the whole group ends, also what minds no SIGTERM and hides its mark.
func TestTimeout(t *testing.T) {
	tab := table(t, process.Options{Grace: 50 * time.Millisecond})
	j := begin(t, tab, process.Spec{
		Cmd:     `env -i sh -c 'trap "" TERM; echo $$; while :; do sleep 0.01; done' & setsid sleep 1000 & echo $!; wait`,
		Timeout: 300 * time.Millisecond,
	})
	events := all(t, j, 0)
	if last := events[len(events)-1]; last.Status != process.TimedOut || !last.TimedOut || last.Signal == nil {
		t.Errorf("%s", last.JSON)
	}
	for _, pid := range strings.Fields(said(events, process.Stdout)) {
		awaitGone(t, pid)
	}
}

// One that is to be killed at its timeout has no grace.
func TestAbruptTimeout(t *testing.T) {
	tab := table(t, process.Options{Grace: time.Hour})
	j := begin(t, tab, process.Spec{Cmd: `trap "" TERM; sleep 1000 & echo $!; wait; sleep 1000`, Timeout: 300 * time.Millisecond, Abrupt: true})
	events := all(t, j, 0)
	if last := events[len(events)-1]; last.Status != process.TimedOut || *last.Signal != "SIGKILL" {
		t.Errorf("%s", last.JSON)
	}
	for _, pid := range strings.Fields(said(events, process.Stdout)) {
		awaitGone(t, pid)
	}
}

// What outlives its leader has the grace too.
func TestStopGivesTheGroupItsGrace(t *testing.T) {
	tab := table(t, process.Options{})
	j := begin(t, tab, process.Spec{Cmd: `sh -c 'trap "sleep 0.1; echo cleaned; exit" TERM; echo ready; while :; do sleep 0.01; done' & wait`})
	until(t, j, "ready")
	if err := j.Stop(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	if out := said(all(t, j, 0), process.Stdout); !strings.Contains(out, "cleaned") {
		t.Errorf("stdout %q", out)
	}
}

// Nobody has to read.
func TestMuchOutput(t *testing.T) {
	tab := table(t, process.Options{Memory: 256 << 10, Limit: 1 << 20})
	j := begin(t, tab, process.Spec{Cmd: "yes 0123456789abcdef | head -c 20000000; echo; echo last"})
	<-j.Done()
	if s := j.Summary(); s.Bytes > 2<<20 {
		t.Errorf("%d bytes are kept", s.Bytes)
	}
	events := all(t, j, 0)
	if events[0].Type != journal.Truncated || !strings.HasSuffix(said(events, process.Stdout), "\nlast\n") {
		t.Errorf("first %s, last %q", events[0].JSON, events[len(events)-2].JSON)
	}
}

// A list stays short, whatever was started.
func TestLongCommands(t *testing.T) {
	tab := table(t, process.Options{})
	long := strings.Repeat("é", 40_000)
	for _, spec := range []process.Spec{{Cmd: ": " + long + "\necho $#"}, {Args: []string{"sh", "-c", "echo $#", "", "a", long, long}}} {
		j := begin(t, tab, spec)
		if out := said(all(t, j, 0), process.Stdout); out != "0\n" && out != "3\n" {
			t.Errorf("%q", out)
		}
		s := j.Summary()
		if n := len(s.Cmd) + len(strings.Join(s.Args, "")); n > 20_000 || !strings.HasSuffix(j.Cmd(), "é…") || !utf8.ValidString(s.Cmd) {
			t.Errorf("%d bytes, %.20q", n, j.Cmd())
		}
	}
}
