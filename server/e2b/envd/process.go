package envd

import (
	"cmp"
	"context"
	"errors"
	"math"
	"net/http"
	"strings"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/process"
)

// processConfig is process.ProcessConfig.
type processConfig struct {
	Cmd  string            `json:"cmd"`
	Args []string          `json:"args,omitempty"`
	Envs map[string]string `json:"envs,omitempty"`
	Cwd  *string           `json:"cwd,omitempty"`
}

// pty is process.PTY.
type pty struct {
	Size *struct {
		Cols number `json:"cols"`
		Rows number `json:"rows"`
	} `json:"size"`
}

// size returns that of the terminal, where nothing is said the usual one.
func (p *pty) size() (process.Size, error) {
	size := process.Size{Rows: 24, Cols: 80}
	if p.Size == nil {
		return size, nil
	}
	if p.Size.Cols > math.MaxUint16 || p.Size.Rows > math.MaxUint16 {
		return size, errorf(invalidArgument, "pty.size: expected at most %d columns and rows, got %d and %d", math.MaxUint16, p.Size.Cols, p.Size.Rows)
	}
	return process.Size{Rows: cmp.Or(int(p.Size.Rows), size.Rows), Cols: cmp.Or(int(p.Size.Cols), size.Cols)}, nil
}

type processInfo struct {
	Config processConfig `json:"config"`
	Pid    int           `json:"pid"`
	Tag    *string       `json:"tag,omitempty"`
}

type listProcesses struct {
	Processes []processInfo `json:"processes"`
}

// list tells of the commands that run, however they were started.
func (h *handler) list(context.Context, *http.Request, *empty) (a listProcesses, err error) {
	a.Processes = []processInfo{}
	for _, s := range h.box.Processes() {
		job, err := h.box.Process(s.Pid)
		if s.State != process.Running || err != nil {
			continue
		}
		c := h.commands.of(h.box, job)
		a.Processes = append(a.Processes, processInfo{c.config, s.Pid, c.tag})
	}
	return a, nil
}

type startRequest struct {
	Process *processConfig `json:"process"`
	Pty     *pty           `json:"pty"`
	Tag     *string        `json:"tag"`
	Stdin   *bool          `json:"stdin"` // unset means true, as old clients say nothing
}

// maxTag is the longest tag in bytes.
const maxTag = 1 << 10

// options returns what is to be started.
func (h *handler) options(r *http.Request, q *startRequest) (o agent.ProcessOptions, err error) {
	if q.Process == nil || q.Process.Cmd == "" {
		return o, errorf(invalidArgument, "process.cmd is required")
	}
	if q.Tag != nil && len(*q.Tag) > maxTag {
		return o, errorf(invalidArgument, "tag is longer than %d bytes", maxTag)
	}
	if err := api.ValidEnvs("process.envs", q.Process.Envs); err != nil {
		return o, err
	}
	cwd, home := "", h.home
	if q.Process.Cwd != nil {
		cwd = *q.Process.Cwd
	}
	o.Envs = q.Process.Envs
	if name, _, _ := r.BasicAuth(); name == root && h.box.HasRoot() {
		o.Root, o.Envs = true, rootEnvs(o.Envs)
		home = rootHome
	}
	if o.Cwd, err = resolve(home, cwd); err != nil {
		return o, err
	}
	if q.Pty != nil {
		size, err := q.Pty.size()
		if err != nil {
			return o, err
		}
		o.Terminal = &size
	}
	o.Args = append([]string{q.Process.Cmd}, q.Process.Args...)
	o.Stdin = q.Stdin == nil || *q.Stdin
	o.Timeout, err = timeout(r)
	o.Abrupt = true
	return o, err
}

// start starts a command, in the home directory where nothing else is said, and streams what
// it writes. It lives on when the client leaves. When the time of the request is over it is
// killed, with all of its group.
func (h *handler) start(r *http.Request, q *startRequest, s *stream) error {
	o, err := h.options(r, q)
	if err != nil {
		return err
	}
	job, err := h.box.StartProcess(o)
	if errors.Is(err, process.ErrDirectory) {
		return errorf(invalidArgument, "cwd '%s' does not exist, or cannot be entered", o.Cwd)
	}
	if err != nil {
		return err
	}
	c := &command{job: job, config: *q.Process, tag: q.Tag}
	c.config.abridge()
	h.commands.add(h.box, c)
	*q = startRequest{} // which may be large, as the stream may be long
	return h.follow(r.Context(), c, 1, o.Timeout, s)
}

// abridge leaves out what is too long to be kept.
func (c *processConfig) abridge() {
	size := 0
	for name, value := range c.Envs {
		size += len(name) + len(value)
	}
	if size > maxEnvs {
		c.Envs = nil
	}
	size = 0
	for i, arg := range c.Args {
		if size += len(arg); size > maxEnvs {
			c.Args = append(c.Args[:i:i], strings.ToValidUTF8(arg[:max(0, len(arg)-(size-maxEnvs))], "")+"…")
			return
		}
	}
}

type connectRequest struct {
	Process *selector `json:"process"`
}

// How much of what a command has written Connect sends before it follows: the header
// K2-Replay, which is an extension.
const (
	replayMissed = "missed" // what no client was sent, so that nothing is lost and nothing comes twice
	replayAll    = "all"    // from the beginning, as far as it is kept
	replayNone   = "none"   // nothing, as E2B does
)

// connect streams what a command writes. One that has ended tells how.
func (h *handler) connect(r *http.Request, q *connectRequest, s *stream) error {
	c, err := h.find(q.Process)
	if err != nil {
		return err
	}
	var after int64
	switch replay := cmp.Or(r.Header.Get("K2-Replay"), replayMissed); replay {
	case replayMissed:
		after = max(1, c.seen.Load())
	case replayAll:
		after = 1
	case replayNone:
		after = max(1, c.job.Events())
	default:
		return errorf(invalidArgument, "K2-Replay: expected %q, %q or %q, got %q", replayMissed, replayAll, replayNone, replay)
	}
	if c.ended() {
		after = min(after, c.job.Events()-1) // the end is always told
	}
	ctx, cancel := bounded(r)
	defer cancel()
	return h.follow(ctx, c, after, 0, s)
}
