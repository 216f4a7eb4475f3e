package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"time"
)

// victim is a context, with what happens in it.
type victim struct {
	*box
	rng     *rand.Rand
	context string
	work    work
}

// work is code that runs until something happens to it.
type work struct {
	name, code string
	deaf       bool // to interrupts
}

// works all begin with the pid of their kernel.
var works = []work{
	{name: "sleep", code: "time.sleep(1000)"},
	{name: "spin", code: "while True: pass"},
	{name: "await", code: "import asyncio; await asyncio.sleep(1000)"},
	{name: "flood", code: "for _ in range(100_000): print('x' * 1000)\ntime.sleep(1000)"},
	{name: "lines", code: "while True: print('x', flush=True)"},
	{name: "displays", code: "while True: display({'text/html': '<b>x</b>', 'text/plain': 'x'}, raw=True)"},
	{name: "big", code: "print('y' * 50_000_000)\ntime.sleep(1000)"},
	{name: "input", code: "input('?')"},
	{name: "threads", code: `
import threading
def say():
    while True: print('thread', flush=True); time.sleep(0.001)
for _ in range(3): threading.Thread(target=say, daemon=True).start()
time.sleep(1000)`},
	{name: "children", code: `
import subprocess
kids = [subprocess.Popen(['sleep', '1000']) for _ in range(3)]
kids.append(subprocess.Popen(['sleep', '1000'], start_new_session=True))
kids.append(subprocess.Popen("trap '' INT TERM HUP; while :; do sleep 0.05; done", shell=True))
time.sleep(1000)`},
	{name: "daemon", code: `
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: time.sleep(1000)
    os._exit(0)
time.sleep(1000)`},
	{name: "forks", code: `
for _ in range(5):
    if os.fork() == 0:
        while True: time.sleep(0.01)
while True: time.sleep(0.01)`},
	{name: "deaf", deaf: true, code: `
import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)
while True: pass`},
	{name: "catcher", deaf: true, code: `
while True:
    try: time.sleep(1000)
    except BaseException: pass`},
}

// deaths are what code can do to its own kernel.
var deaths = []string{
	"os._exit(3)", "os.abort()", "os.kill(os.getpid(), 9)", "import ctypes; ctypes.string_at(0)", "os.kill(os.getpid(), 15)",
}

// fates are what can happen to a context, by weight.
var fates = []string{
	"kill", "kill", "kill", "leave", "leave", "delete", "delete", "restart", "interrupt", "timeout", "die", "detach",
}

// meet has the victim work and meet its fate. over tells that it is done for.
func (v *victim) meet(ctx context.Context, fate string) (over bool, err error) {
	fit := works
	if fate == "leave" || fate == "interrupt" || fate == "timeout" && !v.host.impatient() {
		fit = slices.DeleteFunc(slices.Clone(works), func(w work) bool { return w.deaf })
	}
	v.work = fit[v.rng.IntN(len(fit))]
	switch fate {
	case "kill":
		return false, v.killed(ctx)
	case "leave":
		return false, v.left(ctx)
	case "delete":
		return true, v.deleted(ctx)
	case "restart":
		return false, v.restarted(ctx)
	case "interrupt":
		return false, v.interrupted(ctx)
	case "timeout":
		return false, v.timedOut(ctx)
	case "die":
		return false, v.dies(ctx)
	}
	return true, v.detached(ctx)
}

// begin starts the work, and goes on at a random point in it. Work that ended before it
// said anything is an error, and its end in the stream.
func (v *victim) begin(ctx context.Context, options map[string]any) (*stream, error) {
	s, err := v.start(ctx, v.work.code, options)
	if err != nil {
		return nil, err
	}
	if err := s.readPid(); err != nil {
		s.close()
		return s, err
	}
	s.keepReading()
	pause(ctx, upTo(v.rng, 300*time.Millisecond))
	return s, nil
}

func (v *victim) killed(ctx context.Context) error {
	s, err := v.begin(ctx, nil)
	if err != nil {
		return err
	}
	syscall.Kill(s.pid, syscall.SIGKILL)
	if err := s.expect("kernel_died"); err != nil {
		return err
	}
	if s.end.Exit.Signal != "SIGKILL" {
		return fmt.Errorf("its exit is %+v", s.end.Exit)
	}
	v.count.add("kernels") // the one in its place
	return v.lives(ctx, "")
}

func (v *victim) dies(ctx context.Context) error {
	v.work = work{name: "death", code: fmt.Sprintf("time.sleep(%f)\n%s", v.rng.Float64()/5, deaths[v.rng.IntN(len(deaths))])}
	s, err := v.begin(ctx, nil)
	if err == nil {
		err = s.expect("kernel_died")
	}
	if err != nil && (s == nil || s.end.Status != "kernel_died") { // death can take what was said just before
		return err
	}
	v.count.add("kernels")
	return v.lives(ctx, "")
}

func (v *victim) left(ctx context.Context) error {
	how := []string{"interrupt", "continue"}[v.rng.IntN(2)]
	s, err := v.begin(ctx, map[string]any{"on_disconnect": how})
	if err != nil {
		return err
	}
	s.close()
	if how == "continue" {
		if err := v.post(ctx, "/v1/contexts/"+v.context+"/interrupt", struct{}{}, nil); err != nil {
			return err
		}
	}
	return v.lives(ctx, "")
}

func (v *victim) deleted(ctx context.Context) error {
	s, err := v.begin(ctx, nil)
	if err != nil {
		return err
	}
	if err := v.call(ctx, "DELETE", "/v1/contexts/"+v.context, nil, nil); err != nil {
		return err
	}
	if !gone(s.pid) {
		return errors.New("its kernel lives on")
	}
	return s.expect("aborted")
}

func (v *victim) restarted(ctx context.Context) error {
	s, err := v.begin(ctx, nil)
	if err != nil {
		return err
	}
	if err := v.post(ctx, "/v1/contexts/"+v.context+"/restart", struct{}{}, nil); err != nil {
		return err
	}
	v.count.add("kernels")
	if !gone(s.pid) {
		return errors.New("its kernel lives on")
	}
	if err := s.expect("aborted"); err != nil {
		return err
	}
	return v.lives(ctx, "")
}

func (v *victim) interrupted(ctx context.Context) error {
	s, err := v.begin(ctx, nil)
	if err != nil {
		return err
	}
	if err := v.post(ctx, "/v1/contexts/"+v.context+"/interrupt", struct{}{}, nil); err != nil {
		return err
	}
	if err := s.expect("interrupted"); err != nil {
		return err
	}
	return v.lives(ctx, "")
}

func (v *victim) timedOut(ctx context.Context) error {
	s, err := v.begin(ctx, map[string]any{"timeout": 0.5 + v.rng.Float64()/5})
	if err == nil {
		err = s.expect("timeout")
	}
	if err != nil && (s == nil || s.end.Status != "timeout") { // it can come before the first word
		return err
	}
	if err == nil && v.work.deaf && !s.end.StateLost {
		return errors.New("its state is said to be kept")
	}
	if s.end.StateLost {
		v.count.add("kernels")
	}
	return v.lives(ctx, "")
}

// detached leaves the work to the end of its sandbox.
func (v *victim) detached(ctx context.Context) error {
	s, err := v.start(ctx, v.work.code, map[string]any{"detach": true})
	if err != nil {
		return err
	}
	s.close()
	pause(ctx, upTo(v.rng, 300*time.Millisecond))
	return nil
}

// lives sees that the context runs code. One run before it may end with the other status.
func (v *victim) lives(ctx context.Context, other string) error {
	s, err := v.start(ctx, "print(6 * 7)", nil)
	if err != nil {
		return err
	}
	s.keepReading()
	err = s.expect("ok")
	if err != nil && other != "" && s.end.Status == other {
		return v.lives(ctx, "")
	}
	if err != nil {
		return fmt.Errorf("the next run: %w", err)
	}
	if !strings.Contains(s.text, "42") {
		return fmt.Errorf("the next run says %q", s.text)
	}
	return nil
}
