package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// census counts what a server has, by what it is.
type census map[string]int

// more lists what c has more of than another one.
func (c census) more(than census) []string {
	var more []string
	for _, what := range slices.Sorted(maps.Keys(c)) {
		slack := 0
		switch what {
		case "threads": // of which Go ends none: idle are as many as blocked at a time, but not one for each sandbox
			slack = *many/8 + *clients
		case "descriptor of user:[N]": // kept for sandboxes that come after, as many as there were at a time
			slack = 3 * *clients
		}
		if c[what] > than[what]+slack {
			more = append(more, fmt.Sprintf("%s: %d, and %d before", what, c[what], than[what]))
		}
	}
	return more
}

var number = regexp.MustCompile(`[0-9]+`)

// look counts what the server has now, but for its goroutines.
func (s *service) look() census {
	c := census{}
	proc := fmt.Sprintf("/proc/%d/", s.pid.Load())
	files, _ := filepath.Glob(proc + "fd/*")
	for _, f := range files {
		if target, err := os.Readlink(f); err == nil {
			c["descriptor of "+number.ReplaceAllString(target, "N")]++
		}
	}
	threads, _ := filepath.Glob(proc + "task/*")
	c["threads"] = len(threads)
	ours, _ := os.Readlink("/proc/self/ns/net")
	for _, dir := range threads {
		if ns, err := os.Readlink(dir + "/ns/net"); err == nil && ns != ours {
			c["threads in other networks"]++
		}
	}
	mounts, _ := os.ReadFile(proc + "mountinfo")
	c["mounts"] = strings.Count(string(mounts), s.dir) // others on this machine may mount what they like
	for _, p := range descendants() {
		c[fmt.Sprintf("process, state %s: %.60s", living(p.state), p.command())]++
	}
	c["control groups"] = len(s.leftGroups())
	return c
}

func living(state byte) string {
	if state == 'Z' {
		return "Z"
	}
	return "alive"
}

// settled looks until it sees the same for a second, for disks are kept ready.
func (s *service) settled() census {
	now := s.look()
	for since := time.Now(); time.Since(since) < time.Second; time.Sleep(50 * time.Millisecond) {
		if next := s.look(); !maps.Equal(next, now) {
			now, since = next, time.Now()
		}
	}
	return now
}

// expect waits until the server has no more than it had.
func (s *service) expect(before census) {
	s.client.CloseIdleConnections()
	more := s.look().more(before)
	for begin := time.Now(); len(more) > 0 && time.Since(begin) < cleanup; more = s.look().more(before) {
		time.Sleep(50 * time.Millisecond)
	}
	for _, l := range more {
		s.t.Errorf("the server has more than at its start: %s", l)
	}
}

// goroutines ends the server, which tells what goroutines it had, by where they were made.
func (s *service) goroutines() census {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(syscall.SIGQUIT)
	c := census{}
	for line := range strings.Lines(s.said.String()) {
		if by, ok := strings.CutPrefix(strings.TrimSpace(line), "created by "); ok {
			by, _, _ = strings.Cut(by, " in goroutine")
			c["goroutines of "+by]++
		}
	}
	s.launch()
	return c
}

// warm has the server make all that it makes once.
func (s *service) warm() {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	var box created
	if err := s.call(ctx, "POST", "/v1/sandboxes", map[string]any{}, &box); err != nil {
		s.t.Fatalf("the first sandbox: %v\n%s", err, s.said)
	}
	if s.groups == nil {
		s.findGroups(box.SandboxID)
	}
	err := s.call(ctx, "POST", "/v1/sandboxes/"+box.SandboxID+"/pause", map[string]any{}, nil)
	if err != nil && !is(err, http.StatusUnprocessableEntity) { // no cgroups here
		s.t.Fatal(err)
	}
	if err := s.call(ctx, "DELETE", "/v1/sandboxes/"+box.SandboxID, nil, nil); err != nil {
		s.t.Fatal(err)
	}
	s.client.CloseIdleConnections()
}

// endAll ends all sandboxes that there are.
func (s *service) endAll() {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	var list struct{ Sandboxes []created }
	if err := s.call(ctx, "GET", "/v1/sandboxes?limit=1000", nil, &list); err != nil {
		s.t.Error(err)
	}
	for _, box := range list.Sandboxes {
		s.t.Errorf("sandbox %s is %s, and nobody's", box.SandboxID, box.State)
		if err := s.call(ctx, "DELETE", "/v1/sandboxes/"+box.SandboxID, nil, nil); err != nil {
			s.t.Error(err)
		}
	}
}

// findGroups finds where control groups of sandboxes are made, and how those of this server are named.
func (s *service) findGroups(id string) {
	traces, err := s.traces(id)
	if err != nil {
		s.t.Fatal(err)
	}
	mark, own, _ := strings.Cut(traces.name, "-")
	s.groups = []string{}
	filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasSuffix(path, mark+"-"+own) {
			s.groups = append(s.groups, strings.TrimSuffix(path, own))
		}
		return nil
	})
	s.t.Logf("control groups: %q", s.groups)
}

// leftGroups lists the control groups of all sandboxes of the server.
func (s *service) leftGroups() []string {
	var left []string
	for _, prefix := range s.groups {
		found, _ := filepath.Glob(prefix + "*")
		for _, dir := range found {
			left = append(left, "control group "+dir)
		}
	}
	return left
}

// reap does for what servers that were killed have left what init would, until done: without it the
// end of a PID namespace waits for what somebody outside has forked into it.
func (s *service) reap(done chan struct{}) {
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		select {
		case <-tick.C:
		case <-done:
			tick.Stop()
			return
		}
		for s.reapOne() {
		}
	}
}

// reapOne reports whether there was one, and others may be behind it.
func (s *service) reapOne() bool {
	s.starting.Lock()
	defer s.starting.Unlock()
	pid := ended()
	if pid == 0 || pid == int(s.pid.Load()) || pid == s.command {
		return false
	}
	syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
	return true
}

// ended returns the pid of a child that has ended, 0 where none has: all of /proc is too much to look at so often.
func ended() int {
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != nil {
		return 0
	}
	return int((*struct {
		_   [4]int32 // signal, errno, code, and what aligns the rest
		pid int32
	})(unsafe.Pointer(&info)).pid)
}

// expectNothing sees that nothing is left of a server that was stopped, and of its sandboxes.
func (s *service) expectNothing() {
	left := s.left()
	for begin := time.Now(); len(left) > 0 && time.Since(begin) < cleanup; left = s.left() {
		time.Sleep(50 * time.Millisecond)
	}
	for _, l := range left {
		s.t.Errorf("left behind: %s", l)
	}
	for _, p := range descendants() {
		syscall.Kill(p.pid, syscall.SIGKILL)
	}
}

// kept is what stays in the directory of a server for the next one.
var kept = regexp.MustCompile(`^(registry\.db|server|sandboxes|ids|disks(/[0-9]+\.img)?|templates(/.*)?)$`)

func (s *service) left() []string {
	left := s.leftGroups()
	for _, p := range descendants() {
		left = append(left, fmt.Sprintf("process %d, state %c: %s", p.pid, p.state, p.command()))
	}
	for _, dir := range []string{s.dir, s.temp} {
		filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if name := strings.TrimPrefix(path, s.dir+"/"); err == nil && path != dir && !kept.MatchString(name) {
				left = append(left, "file "+path)
			}
			return nil
		})
	}
	loops, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, name := range loops {
		if of, err := os.ReadFile(name); err == nil && strings.HasPrefix(string(of), s.dir) {
			left = append(left, fmt.Sprintf("loop device %s of %s", name, of))
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	if strings.Contains(string(mounts), s.dir) {
		left = append(left, "mounts: "+string(mounts))
	}
	return left
}

// traces are what there is of a sandbox on the host.
type traces struct {
	service   *service
	id        string
	name      string // of its control groups and of its range of user ids
	dir       string
	slot      string         // the file that says whose range of user ids it is
	agent     int            // pid
	processes map[int]string // its agent, and what else was seen, with when they were started
}

func (s *service) traces(id string) (*traces, error) {
	t := &traces{service: s, id: id, dir: filepath.Join(s.dir, "sandboxes", id)}
	text, err := os.ReadFile(filepath.Join(t.dir, "machine.json"))
	if err != nil {
		return nil, err
	}
	var record struct {
		Name      string
		PID, Slot int
	}
	if err := json.Unmarshal(text, &record); err != nil || record.PID == 0 {
		return nil, fmt.Errorf("no pid in %s: %w", text, err)
	}
	t.name = record.Name
	t.slot = filepath.Join(s.dir, "ids", strconv.Itoa(record.Slot))
	t.agent, t.processes = record.PID, map[int]string{record.PID: started(record.PID)}
	return t, nil
}

// started tells when a process was started, "" where it has ended.
func started(pid int) string {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" {
		return ""
	}
	return fields[19]
}

// left lists what is still there.
func (t *traces) left() []string {
	var left []string
	if _, err := os.Lstat(t.dir); err == nil {
		left = append(left, t.dir)
	}
	if owner, err := os.ReadFile(t.slot); err == nil && string(owner) == t.name {
		left = append(left, t.slot)
	}
	for pid, when := range t.processes {
		if now := started(pid); now != "" && now == when {
			left = append(left, fmt.Sprintf("process %d: %s", pid, proc{pid: pid}.command()))
		}
	}
	for _, group := range t.service.leftGroups() {
		if strings.HasSuffix(group, t.name) {
			left = append(left, group)
		}
	}
	return left
}

// inside returns the processes that the agent or its children have started, and remembers them.
func (t *traces) inside() []proc {
	found := below(t.agent)
	for _, p := range found {
		t.processes[p.pid] = started(p.pid)
	}
	return found
}

func (t *traces) killAgent() {
	if started(t.agent) == t.processes[t.agent] {
		syscall.Kill(t.agent, syscall.SIGKILL)
	}
}

// killInside kills the process that has the pid inside.
func (t *traces) killInside(pid string) bool {
	for _, p := range t.inside() {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
		for line := range strings.Lines(string(status)) {
			if ids := strings.Fields(line); len(ids) > 1 && ids[0] == "NSpid:" && ids[len(ids)-1] == pid {
				return syscall.Kill(p.pid, syscall.SIGKILL) == nil
			}
		}
	}
	return false
}
