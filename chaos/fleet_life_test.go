package chaos

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"
)

// life is that of a sandbox, from its creation to its end, whatever happens meanwhile.
type life struct {
	*crowd
	n       uint64
	rng     *rand.Rand
	servers bool      // the server may be killed
	until   time.Time // it goes on until then, with a pause now and then; zero: it does not
	id      string
	past    []string
	traces  *traces // of it on the host
}

func (l *life) live(ctx context.Context) error {
	fates := []string{
		"run", "run", "run", "two runs", "client away", "client away", "command", "files", "kernel", "kernel", "child", "reset", "pause",
	}
	if l.until.IsZero() {
		fates = append(fates, "agent")
	}
	if l.servers && l.rng.IntN(4) == 0 {
		fates = append(fates, "server", "stop of the server")
	}
	if l.rng.IntN(12) == 0 {
		return l.abandon(ctx)
	}
	if err := l.create(ctx); err != nil {
		return fmt.Errorf("cannot create: %w", err)
	}
	for n := 1 + l.rng.IntN(3); n > 0 || time.Now().Before(l.until); n-- {
		if !l.until.IsZero() {
			pause(ctx, upTo(l.rng, 2*longPause))
		}
		fate := oneOf(l.rng, fates)
		l.did(fate)
		over, err := l.meet(ctx, fate)
		if err != nil {
			return fmt.Errorf("%s: %w", fate, err)
		}
		if over {
			return l.expectGone(ctx, "crashed", "lost")
		}
	}
	if !l.until.IsZero() && l.rng.IntN(4) == 0 {
		l.did("agent")
		_, err := l.meet(ctx, "agent")
		return errors.Join(err, l.expectGone(ctx, "crashed", "lost"))
	}
	return l.end(ctx)
}

func (l *life) did(what string) {
	l.count.add(what)
	l.past = append(l.past, what)
}

func (l *life) at(path string) string { return "/v1/sandboxes/" + l.id + path }

func (l *life) name() string { return fmt.Sprintf("%d of seed %d", l.n, *seed) }

// created is what the answers to creates have for us.
type created struct {
	SandboxID string `json:"sandbox_id"`
	State     string
	Reason    string
}

// create creates the sandbox. What was created by a request whose answer did not come is
// found by its metadata, and ended.
func (l *life) create(ctx context.Context) error {
	for {
		var box created
		err := l.service.once(ctx, "POST", "/v1/sandboxes", map[string]any{"metadata": map[string]string{"chaos": l.name()}}, &box)
		if err == nil {
			l.count.add("creates")
			l.id = box.SandboxID
			l.traces, err = l.service.traces(l.id)
			return err
		}
		if !down(err) || ctx.Err() != nil {
			return err
		}
		l.did("create again")
		if err := l.forget(ctx); err != nil {
			return err
		}
	}
}

// forget ends what was created for nobody.
func (l *life) forget(ctx context.Context) error {
	var list struct{ Sandboxes []created }
	path := "/v1/sandboxes?metadata.chaos=" + strings.ReplaceAll(l.name(), " ", "%20")
	if err := l.service.call(ctx, "GET", path, nil, &list); err != nil {
		return err
	}
	for _, box := range list.Sandboxes {
		l.count.add("created for nobody")
		if err := l.service.call(ctx, "DELETE", "/v1/sandboxes/"+box.SandboxID, nil, nil); err != nil && !isGone(err) && !unknown(err) {
			return err
		}
	}
	return nil
}

// abandon creates the sandbox for a client that leaves meanwhile.
func (l *life) abandon(ctx context.Context) error {
	l.did("client gone during a create")
	brief, leave := context.WithTimeout(ctx, upTo(l.rng, 200*time.Millisecond))
	defer leave()
	err := l.service.once(brief, "POST", "/v1/sandboxes", map[string]any{"metadata": map[string]string{"chaos": l.name()}}, nil)
	if err != nil && !down(err) {
		return err
	}
	return l.forget(ctx)
}

// meet has something happen to the sandbox. over tells that its agent is dead.
func (l *life) meet(ctx context.Context, fate string) (over bool, err error) {
	switch fate {
	case "run":
		return false, l.run(ctx, 200, 0, nil, "ok")
	case "two runs":
		var work sync.WaitGroup
		var other error
		work.Go(func() { other = l.run(ctx, 50, time.Millisecond, nil, "ok") })
		err := l.run(ctx, 50, time.Millisecond, nil, "ok")
		work.Wait()
		return false, errors.Join(err, other)
	case "client away":
		return false, l.away(ctx, func() error { return nil })
	case "server":
		return false, l.away(ctx, func() error { l.count.add("SIGKILL of the server"); l.service.kill(); return nil })
	case "stop of the server":
		return false, l.away(ctx, func() error { l.service.again(syscall.SIGTERM); return nil })
	case "kernel":
		l.count.add("SIGKILL of the kernel")
		return false, errors.Join(l.run(ctx, 1000, 10*time.Millisecond, l.killKernel, "kernel_died"), l.run(ctx, 10, 0, nil, "ok"))
	case "child":
		if inside := l.traces.inside(); len(inside) > 0 {
			syscall.Kill(oneOf(l.rng, inside).pid, syscall.SIGKILL)
		}
		return false, l.run(ctx, 20, 0, nil, "ok", "kernel_died")
	case "command":
		return false, l.command(ctx)
	case "files":
		return false, l.files(ctx)
	case "reset":
		err := l.service.call(ctx, "POST", l.at("/reset"), map[string]any{}, nil)
		return false, errors.Join(err, l.run(ctx, 10, 0, nil, "ok"))
	case "pause":
		err := l.service.call(ctx, "POST", l.at("/pause"), map[string]any{}, nil)
		if is(err, http.StatusUnprocessableEntity) { // no cgroups here
			return false, nil
		}
		err = errors.Join(err, l.service.call(ctx, "POST", l.at("/resume"), map[string]any{}, nil))
		return false, errors.Join(err, l.run(ctx, 10, 0, nil, "ok"))
	}
	l.count.add("SIGKILL of the agent")
	return true, l.run(ctx, 1000, 10*time.Millisecond, func(string) { l.traces.killAgent() }, "sandbox_killed", "cut", "kernel_died", "")
}

// longPause is one between two things that a client does.
const longPause = 2 * time.Second

// files writes a file and reads it.
func (l *life) files(ctx context.Context) error {
	content := make([]byte, l.rng.IntN(1<<20))
	for i := range content {
		content[i] = byte(l.rng.Uint32())
	}
	path := l.at("/files?path=content")
	if err := l.service.call(ctx, "PUT", path, content, nil); err != nil {
		return err
	}
	for {
		resp, err := l.service.send(ctx, "GET", path, nil)
		if err == nil {
			var got []byte
			got, err = io.ReadAll(resp.Body)
			resp.Body.Close()
			if err == nil && !bytes.Equal(got, content) {
				return fmt.Errorf("a file of %d bytes has another content, of %d", len(content), len(got))
			}
		}
		if !down(err) || ctx.Err() != nil { // a file that is cut is read again
			return err
		}
		pause(ctx, 10*time.Millisecond)
	}
}

// killKernel kills the kernel that has told its pid inside.
func (l *life) killKernel(pid string) {
	if !l.traces.killInside(pid) {
		l.t.Errorf("sandbox %s: there is no process %s inside", l.id, pid)
	}
}

// code prints the kernel's pid, and then lines that are numbered from 1.
func code(lines int, each time.Duration) string {
	return fmt.Sprintf("import os, time\nprint(os.getpid(), flush=True)\nfor i in range(1, %d):\n    print(i, flush=True)\n    time.sleep(%v)\n", lines+1, each.Seconds())
}

// run runs code that prints numbered lines and sees that all come, up to the end, which has one
// of the statuses; "" is for that of a sandbox which has gone. meanwhile is called after the first lines.
func (l *life) run(ctx context.Context, lines int, each time.Duration, meanwhile func(pid string), statuses ...string) error {
	r := &reading{life: l, meanwhile: meanwhile}
	for {
		resp, err := l.service.send(ctx, "POST", l.at("/code"), map[string]any{"code": code(lines, each)})
		if down(err) && ctx.Err() == nil {
			continue // it may have run, for nobody
		}
		if err != nil {
			return err
		}
		r.events = "/executions/" + resp.Header.Get("X-Execution-Id") + "/events"
		if err := r.toTheEnd(ctx, resp.Body); err != nil {
			return err
		}
		return r.expect(lines, statuses)
	}
}

// submit runs code for nobody, and returns its id.
func (l *life) submit(ctx context.Context, code string) (id string, err error) {
	var run struct {
		ExecutionID string `json:"execution_id"`
	}
	err = l.service.call(ctx, "POST", l.at("/code"), map[string]any{"code": code, "detach": true}, &run)
	return run.ExecutionID, err
}

// away is comeBack with a run.
func (l *life) away(ctx context.Context, meanwhile func() error) error {
	id, err := l.submit(ctx, code(60, 10*time.Millisecond))
	if err != nil {
		return err
	}
	return l.comeBack(ctx, "/executions/"+id+"/events", meanwhile)
}

// command is comeBack with a command.
func (l *life) command(ctx context.Context) error {
	var job struct{ Pid int }
	script := "echo $$; i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo $i; sleep 0.01; done"
	if err := l.service.call(ctx, "POST", l.at("/processes"), map[string]any{"cmd": script, "background": true}, &job); err != nil {
		return err
	}
	return l.comeBack(ctx, fmt.Sprintf("/processes/%d/events", job.Pid), func() error { return nil })
}

// comeBack has the client follow what prints 60 lines, leave it while something happens, and take it up where it stood.
func (l *life) comeBack(ctx context.Context, events string, meanwhile func() error) error {
	r := &reading{life: l, events: events}
	brief, leave := context.WithTimeout(ctx, upTo(l.rng, 700*time.Millisecond))
	defer leave()
	if resp, err := l.service.send(brief, "GET", r.rest(), nil); err == nil {
		_ = r.read(resp.Body) // until we leave
	}
	if err := meanwhile(); err != nil {
		return err
	}
	if err := r.toTheEnd(ctx, nil); err != nil {
		return err
	}
	return r.expect(60, []string{"ok"})
}

// reading is a run, or a command, that is followed.
type reading struct {
	*life
	events    string           // its path
	meanwhile func(pid string) // called once, when the first lines are there

	seq    int64
	text   string
	status string // of the end
	ended  bool
}

func (r *reading) rest() string {
	return r.at(fmt.Sprintf("%s?after=%d", r.events, r.seq))
}

// toTheEnd reads a stream, and those that follow where it is cut, until the run or the sandbox ends.
func (r *reading) toTheEnd(ctx context.Context, body io.ReadCloser) error {
	for cuts := 0; ; cuts++ {
		if body != nil {
			if err := r.read(body); err != nil {
				return err
			}
		}
		if r.ended {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("after event %d: %w", r.seq, err)
		}
		if body != nil {
			r.count.add("taken up again")
		}
		resp, err := r.service.send(ctx, "GET", r.rest(), nil)
		switch {
		case isGone(err):
			return nil
		case down(err):
			body = nil
			pause(ctx, 10*time.Millisecond)
		case err != nil:
			return fmt.Errorf("after event %d: %w", r.seq, err)
		default:
			body = resp.Body
		}
	}
}

// read reads a stream as far as it goes.
func (r *reading) read(body io.ReadCloser) error {
	defer body.Close()
	lines := bufio.NewReader(body)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return nil // it is cut, or was at its end
		}
		var e struct {
			Seq                int64
			Type, Text, Status string
		}
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("line %q: %w", line, err)
		}
		switch {
		case e.Type == "ping":
			continue
		case r.ended:
			return fmt.Errorf("after the end: %s", line)
		case e.Seq != r.seq+1:
			return fmt.Errorf("after event %d: %s", r.seq, line)
		}
		r.seq = e.Seq
		r.text += e.Text
		r.status, r.ended = e.Status, e.Type == "end"
		if pid, _, ok := strings.Cut(r.text, "\n"); ok && r.meanwhile != nil {
			r.meanwhile(pid)
			r.meanwhile = nil
		}
	}
}

// expect sees that what came is complete.
func (r *reading) expect(lines int, statuses []string) error {
	var want strings.Builder
	for i := range lines {
		fmt.Fprintf(&want, "%d\n", i+1)
	}
	_, numbers, _ := strings.Cut(r.text, "\n") // behind the pid
	complete := numbers == want.String()
	r.count.add("ended as " + r.status)
	for _, status := range statuses {
		if status == r.status && (complete || status != "ok" && strings.HasPrefix(want.String(), numbers)) {
			return nil
		}
	}
	return fmt.Errorf("the run ended as %q after event %d, with %d of %d bytes, the last of which are %q; want %q",
		r.status, r.seq, len(numbers), want.Len(), r.text[max(0, len(r.text)-50):], statuses)
}

// end ends the sandbox in one of many ways.
func (l *life) end(ctx context.Context) error {
	l.traces.inside()
	way := oneOf(l.rng, []string{"kill", "kill", "close", "two kills", "kill in a run", "kill while closing"})
	l.did(way)
	var work sync.WaitGroup
	errs := make([]error, 2)
	other := func(do func() error) { work.Go(func() { errs[1] = do() }) }
	kill := func() error { return l.service.call(ctx, "DELETE", l.at(""), nil, nil) }
	shut := func() error { return l.service.call(ctx, "POST", l.at("/close"), map[string]any{}, nil) }
	switch way {
	case "close":
		errs[0] = shut()
	case "two kills":
		other(kill)
		errs[0] = kill()
	case "kill while closing":
		other(shut)
		errs[0] = kill()
	case "kill in a run":
		begun := make(chan struct{})
		begin := sync.OnceFunc(func() { close(begun) })
		other(func() error {
			defer begin()
			return l.run(ctx, 1000, 10*time.Millisecond, func(string) { begin() }, "sandbox_killed", "")
		})
		<-begun
		errs[0] = kill()
	default:
		errs[0] = kill()
	}
	left := l.traces.left() // the answer says that there is nothing
	work.Wait()
	for _, err := range errs {
		if err != nil && !isGone(err) {
			return fmt.Errorf("%s: %w", way, err)
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("after the answer to %s there is still: %s", way, strings.Join(left, "; "))
	}
	return l.expectGone(ctx, "killed", "closed", "lost")
}

// expectGone sees that the sandbox is known to have ended, for one of the reasons, and that nothing
// of it is left.
func (l *life) expectGone(ctx context.Context, reasons ...string) error {
	err := l.service.call(ctx, "GET", l.at(""), nil, nil)
	for begin := time.Now(); err == nil && time.Since(begin) < cleanup; err = l.service.call(ctx, "GET", l.at(""), nil, nil) {
		pause(ctx, 10*time.Millisecond) // an agent that was killed is noticed soon
	}
	if !isGone(err) {
		return fmt.Errorf("it should be gone: %v", err)
	}
	for _, reason := range reasons {
		if !strings.Contains(err.Error(), `"`+reason+`"`) {
			continue
		}
		l.count.add("reason " + reason)
		left := l.traces.left()
		for begin := time.Now(); len(left) > 0 && time.Since(begin) < cleanup; left = l.traces.left() {
			pause(ctx, 10*time.Millisecond) // the end may have begun only
		}
		if len(left) > 0 {
			return fmt.Errorf("there is still: %s", strings.Join(left, "; "))
		}
		return nil
	}
	return fmt.Errorf("it should be gone as %q: %w", reasons, err)
}
