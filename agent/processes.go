package agent

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/process"
)

// ProcessOptions describe a command or terminal.
type ProcessOptions struct {
	Cmd      string            // a line for /bin/sh; or
	Args     []string          // a program and its arguments
	Cwd      string            // "" is the sandbox's
	Envs     map[string]string // beside those that a kernel of the default context has
	Root     bool              // as root, where the sandbox has one
	Stdin    bool              // its stdin can be written to
	Input    string            // what is written to it from the start, all of it where Stdin is not set
	Terminal *process.Size     // give it a terminal
	Timeout  time.Duration     // after which it is ended; 0 is none
	Abrupt   bool              // its timeout kills it at once, without SIGTERM
}

// HasRoot reports whether commands can be started as root.
func (s *Sandbox) HasRoot() bool { return s.o.AsRoot != nil }

// StartProcess starts a command. Its errors are those of process.Table.Start,
// ErrClosed and ErrNoRoot.
func (s *Sandbox) StartProcess(o ProcessOptions) (*process.Job, error) {
	on := s.o.On
	if o.Root || s.o.RootCommands {
		if on = s.o.AsRoot; on == nil {
			return nil, ErrNoRoot
		}
	}
	j, err := s.table.Start(process.Spec{
		Cmd: o.Cmd, Args: o.Args, Dir: cmp.Or(o.Cwd, s.o.Cwd), Env: s.environOf(o), On: on,
		Stdin: o.Stdin, Input: o.Input, Terminal: o.Terminal, Timeout: o.Timeout, Abrupt: o.Abrupt,
	})
	if errors.Is(err, process.ErrClosed) {
		return nil, ErrClosed
	}
	if err != nil {
		return nil, s.noteLimit("", err)
	}
	s.noteProcess(j)
	return j, nil
}

// noteProcess tells the timeline of a process, and of its end once that comes.
func (s *Sandbox) noteProcess(j *process.Job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return // the timeline ends; so does the process
	}
	s.told[j.Pid()] = j
	s.note(TimelineEvent{Type: ProcessStarted, Pid: j.Pid(), Cmd: j.Cmd()})
	s.watches.Go(func() {
		end := j.End()
		s.mu.Lock()
		if s.told[j.Pid()] == j { // and no newer one has its pid
			delete(s.told, j.Pid())
		}
		s.mu.Unlock()
		e := TimelineEvent{Type: ProcessEnded, Pid: j.Pid(), ExitCode: &end.ExitCode, OOM: end.OOM}
		if end.Signal != nil {
			e.Signal = *end.Signal
		}
		s.note(e)
		s.ports.poke()
	})
}

// environOf returns the environment of a command: the one of a kernel, so that both
// find the same programs, without what that is told of a screen. A login shell, whose profile
// sets PATH anew, finds in K2_PATH what it was.
func (s *Sandbox) environOf(o ProcessOptions) []string {
	start := s.o.Start
	start.Environ, start.Spec = s.environ, s.over(s.o.Spec)
	asked := merge(s.o.Envs, o.Envs)
	env := slices.DeleteFunc(kernel.Environ(start), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		_, again := asked[name]
		return again || name == "COLUMNS" || name == "LINES" || name == "TERM" && o.Terminal != nil
	})
	if _, set := asked["TERM"]; o.Terminal != nil && !set {
		env = append(env, "TERM=xterm-256color")
	}
	for name, value := range asked {
		env = append(env, name+"="+value)
	}
	return append(env, "K2_PATH="+process.Variable(env, "PATH"))
}

// Process returns a command by its pid; process.ErrNotFound where there is none, or no
// longer.
func (s *Sandbox) Process(pid int) (*process.Job, error) { return s.table.Get(pid) }

// Processes tells about the commands that run and the newest of those that have ended,
// the newest first.
func (s *Sandbox) Processes() []process.Summary { return s.table.List() }

// StopProcess ends a command and all that it started: SIGTERM, and SIGKILL after a
// grace or when ctx is done. It returns when that is gone.
func (s *Sandbox) StopProcess(ctx context.Context, j *process.Job) error { return s.table.Stop(ctx, j) }

// DeleteProcess kills a command and all that it started, and returns when that is
// gone. One that had ended already is forgotten.
func (s *Sandbox) DeleteProcess(j *process.Job) error { return s.table.Delete(j) }
