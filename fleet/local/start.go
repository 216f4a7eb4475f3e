package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/fleet/local/cage"
)

// Complete implements fleet.Runtime.
func (r *Runtime) Complete(s fleet.Spec) (fleet.Spec, error) {
	if !r.knows(s.Template) {
		return s, fmt.Errorf("%w %q", fleet.ErrUnknownTemplate, s.Template)
	}
	s.Template = Template
	s.Limits = r.limits(s.Limits)
	s.Network.Mode = cmp.Or(s.Network.Mode, full)
	m := machine{dir: filepath.Join(r.sandboxes(), s.ID), record: record{Level: r.level}}
	s.Cwd = cmp.Or(s.Cwd, m.home())
	return s, networkOf(r.level, s.Network)
}

// Start implements fleet.Runtime.
func (r *Runtime) Start(ctx context.Context, s fleet.Spec) (fleet.Machine, error) {
	s, err := r.Complete(s)
	if err != nil {
		return nil, err
	}
	m, err := r.enter(ctx, s, r.level)
	if err != nil {
		return nil, err
	}
	m.work.Go(func() { m.fork(m.life) })
	served := m.serve()
	err = m.expect(ctx, func(got message) bool { return got.Ready })
	if err = cmp.Or(err, served); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start sandbox: %w", m.explain(err)), m.Kill())
	}
	m.process.control.close()
	return m, nil
}

// enter starts a sandbox up to where its first process is confined. What fails has left nothing.
func (r *Runtime) enter(ctx context.Context, s fleet.Spec, level string) (*machine, error) {
	m := r.machine(s.ID)
	m.record = record{ID: s.ID, Level: level, Slot: noSlot, Limits: r.limits(s.Limits), Network: s.Network, Isolation: r.isolation(level)}
	if err := os.Mkdir(m.dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the sandbox's directory: %w", err)
	}
	err := m.confine(ctx, s)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start sandbox: %w", m.explain(err)), m.Kill())
	}
	return m, nil
}

func (m *machine) confine(ctx context.Context, s fleet.Spec) error {
	given := kit{}
	defer given.close()
	u, err := m.users()
	if err != nil {
		return err
	}
	if err := m.makeDirs(u); err != nil {
		return err
	}
	if err := m.makeDisk(ctx, u, given); err != nil {
		return err
	}
	if err := m.makeGroup(); err != nil {
		return err
	}
	if err := m.spawn(u); err != nil {
		return err
	}
	if err := m.join(); err != nil {
		return err
	}
	if err := m.configure(s, u, given); err != nil {
		return err
	}
	err = m.expect(ctx, func(got message) bool { m.record.Tun = got.Tun; return got.Entered })
	if err != nil {
		return err
	}
	return m.record.save(m.dir)
}

// fork has the zygote fork into the sandbox. Where it does not, the agent finds the end of their
// socket closed, and starts kernels anew.
func (m *machine) fork(ctx context.Context) {
	r := m.runtime
	if r.zygote == nil {
		return
	}
	defer m.forked.Close()
	e, err := m.entry()
	if err == nil {
		err = r.zygote.fork(ctx, e)
		closeAll(e.Cgroups)
	}
	if err != nil {
		r.options.Log.Warn("kernels of a sandbox start without the zygote", "sandbox", m.record.ID, "error", err)
	}
}

func (m *machine) entry() (e entry, err error) {
	e = entry{Pidfd: m.pidfd, Inside: m.forked, UID: userID, GID: userID, Rules: m.rules()}
	if e.Filter, err = cage.Filter(); err != nil || m.group == nil {
		return e, err
	}
	for _, path := range m.group.Procs() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			closeAll(e.Cgroups)
			return e, err
		}
		e.Cgroups = append(e.Cgroups, f)
	}
	return e, nil
}

// users finds ids for the sandbox.
func (m *machine) users() (users, error) {
	switch {
	case os.Geteuid() != 0 && m.record.Level == "namespace":
		return oneUser(), nil
	case os.Geteuid() != 0 || m.record.Level != "namespace" && !m.runtime.ownIDs:
		return thisUser(os.Geteuid(), os.Getegid()), nil
	}
	slot, err := m.runtime.slots.take(m.record.ID)
	if err != nil {
		return users{}, err
	}
	m.record.Slot = slot
	base := m.runtime.slots.base(slot)
	if m.record.Level != "namespace" {
		return thisUser(base+userID, base+userID), nil
	}
	return rangeUsers(base), nil
}

// spawn starts the first process, and notes which it is before it runs anything of the sandbox: it
// ends by itself if this process ends first.
func (m *machine) spawn(u users) (err error) {
	if m.process, err = m.runtime.spawn(m.record.Level, u); err != nil {
		return err
	}
	m.pidfd = m.process.pidfd
	go m.watch()
	if err := m.record.identify(m.process.cmd.Process.Pid); err != nil {
		return err
	}
	return m.record.save(m.dir)
}

// configure sends the first process what it needs to know and to have.
func (m *machine) configure(s fleet.Spec, u users, given kit) (err error) {
	c := m.config(s, u)
	if err := m.trees(&c.Setup, u, given); err != nil {
		return err
	}
	if err := m.makeNetwork(c, u, given); err != nil {
		return err
	}
	if m.runtime.zygote != nil {
		if m.forked, given["zygote"], err = socketPair(unix.SOCK_SEQPACKET); err != nil {
			return err
		}
	}
	if given["listener"], err = listen(m.dir); err != nil {
		return err
	}
	if given["config"], err = memory(c); err != nil {
		return err
	}
	if err := m.record.save(m.dir); err != nil { // with what has come to it
		return err
	}
	return given.send(m.process.control)
}

func (m *machine) config(s fleet.Spec, u users) *Config {
	c := &Config{
		ID: s.ID, Level: m.record.Level, Hostname: "sandbox", Home: m.home(), Scratch: m.scratch(), Cwd: cmp.Or(s.Cwd, m.home()), Envs: s.Envs,
		Environ: m.environ(), Interpreter: m.runtime.options.Interpreter, UID: u.code, GID: u.code,
		Rules: m.rules(), Limits: m.record.Limits, Network: s.Network, Agent: m.runtime.options.Agent,
	}
	c.Setup.SetUID = u.setUID
	c.Setup.Cgroups = m.group != nil
	c.Setup.Size = m.record.Limits.Disk
	c.Setup.Files = networkFiles(s.Network, c.Hostname)
	c.Setup.Files["/etc/hostname"] = c.Hostname + "\n"
	return c
}

// trees adds the file trees that the root is made of: those that only the server can map to the
// sandbox's ids as descriptors, else as paths.
func (m *machine) trees(s *setup, u users, given kit) error {
	if m.record.Level != "namespace" {
		return nil
	}
	t := &m.runtime.template
	paths := append([]string{t.dir}, t.binds...)
	sources := make([]source, len(paths))
	if m.runtime.idmaps && u.setUID {
		ns, err := os.Open(m.proc("ns/user"))
		if err != nil {
			return fmt.Errorf("cannot open the sandbox's user namespace: %w", err)
		}
		defer ns.Close()
		for i, path := range paths {
			f, err := tree(path, ns, readOnly)
			if err != nil {
				return err
			}
			sources[i].File = fmt.Sprintf("tree %d", i)
			given[sources[i].File] = f
		}
	} else {
		for i, path := range paths {
			sources[i].Path = path
		}
	}
	s.Lower = sources[0]
	for i, target := range t.binds {
		s.Binds = append(s.Binds, bind{Source: sources[i+1], Target: target})
	}
	return nil
}

// proc returns the path of a file in /proc of the first process.
func (m *machine) proc(name string) string { return fmt.Sprintf("/proc/%d/%s", m.record.PID, name) }

// expect waits for a message of the first process. What it says is that of a process which
// may have been taken over.
func (m *machine) expect(ctx context.Context, good func(message) bool) error {
	stop := context.AfterFunc(ctx, func() { _ = m.process.control.conn.SetDeadline(longAgo) })
	defer stop()
	got, files, err := m.process.control.receive()
	closeAll(files)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("its first process has ended: %w", err)
	case got.Error != "":
		return errors.New(got.Error)
	case !good(got):
		return errors.New("its first process gave an answer that makes no sense")
	}
	return nil
}

// explain adds to an error of the start what the process wrote before its end.
func (m *machine) explain(err error) error {
	if m.process == nil {
		return err
	}
	if words := m.process.words.String(); words != "" && !strings.Contains(err.Error(), words) {
		return fmt.Errorf("%w (%s)", err, words)
	}
	return err
}

// listen makes the socket of the agent's API, whose path nobody inside is to know.
func listen(dir string) (*os.File, error) {
	path, release, err := shortPath(dir, socketFile)
	if err != nil {
		return nil, err
	}
	defer release()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("cannot make the agent's socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	f, err := l.File()
	if err != nil {
		return nil, fmt.Errorf("cannot hand over the agent's socket: %w", err)
	}
	return f, nil
}

// kit is what a first process is given, by what it is.
type kit map[string]*os.File

func (k kit) send(c control) error {
	var names []string
	var files []*os.File
	for name, f := range k {
		names, files = append(names, name), append(files, f)
	}
	return c.send(message{Files: names}, files...)
}

func (k kit) close() {
	for _, f := range k {
		f.Close()
	}
}
