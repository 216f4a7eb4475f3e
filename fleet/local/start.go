package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/k2sandbox/k2sandbox/fleet"
)

// Start implements fleet.Runtime.
func (r *Runtime) Start(ctx context.Context, s fleet.Spec) (fleet.Machine, error) {
	m := &machine{runtime: r, dir: filepath.Join(r.sandboxes(), s.ID), done: make(chan struct{})}
	m.record = record{ID: s.ID, Level: "namespace", Slot: -1, Loop: -1, Limits: r.limits(s.Limits)}
	if err := os.Mkdir(m.dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the sandbox's directory: %w", err)
	}
	if err := m.start(ctx, s); err != nil {
		return nil, errors.Join(err, m.Kill())
	}
	return m, nil
}

func (m *machine) start(ctx context.Context, s fleet.Spec) error {
	u, err := m.users()
	if err != nil {
		return err
	}
	if m.process, err = m.runtime.spawn(m.record.Level, u); err != nil {
		return err
	}
	m.pidfd = m.process.pidfd
	go m.watch()
	if err := m.record.identify(m.process.cmd.Process.Pid); err != nil {
		return err
	}
	if err := m.record.save(m.dir); err != nil {
		return err
	}
	if err := m.configure(s, u); err != nil {
		return m.explain(err)
	}
	if err := m.expect(ctx, func(got message) bool { return got.Entered }); err != nil {
		return m.explain(err)
	}
	if err := m.expect(ctx, func(got message) bool { return got.Ready }); err != nil {
		return m.explain(err)
	}
	m.process.control.close()
	return nil
}

// users finds ids for the sandbox.
func (m *machine) users() (users, error) {
	if os.Geteuid() != 0 {
		return oneUser(), nil
	}
	slot, err := m.runtime.slots.take(m.record.ID)
	if err != nil {
		return users{}, err
	}
	m.record.Slot = slot
	return rangeUsers(m.runtime.slots.base(slot)), nil
}

// configure sends the first process what it needs to know and to have.
func (m *machine) configure(s fleet.Spec, u users) error {
	c := m.config(s, u)
	given := map[string]*os.File{}
	defer func() {
		for _, f := range given {
			f.Close()
		}
	}()
	if err := m.trees(&c.Setup, u, given); err != nil {
		return err
	}
	var err error
	if given["listener"], err = listen(m.dir); err != nil {
		return err
	}
	if given["config"], err = memory(c); err != nil {
		return err
	}
	var names []string
	var files []*os.File
	for name, f := range given {
		names, files = append(names, name), append(files, f)
	}
	return m.process.control.send(message{Files: names}, files...)
}

func (m *machine) config(s fleet.Spec, u users) *Config {
	home := "/home/user"
	c := &Config{
		ID: s.ID, Level: m.record.Level, Hostname: "sandbox", Home: home, Cwd: s.Cwd, Envs: s.Envs,
		Interpreter: m.runtime.options.Interpreter, UID: userID, GID: userID,
		Limits: m.record.Limits, Network: s.Network,
	}
	if c.Cwd == "" {
		c.Cwd = home
	}
	c.Environ = m.runtime.environ()
	c.Setup.SetUID = u.setUID
	c.Setup.Size = m.record.Limits.Disk
	c.Setup.Files = map[string]string{
		"/etc/hostname": c.Hostname + "\n",
		"/etc/hosts":    "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 " + c.Hostname + "\n",
	}
	return c
}

// trees adds the file trees that the root is made of: those that only the server can map to the
// sandbox's ids as descriptors, else as paths.
func (m *machine) trees(s *setup, u users, given map[string]*os.File) error {
	t := &m.runtime.template
	paths := append([]string{t.dir}, t.binds...)
	sources := make([]source, len(paths))
	if u.setUID {
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", m.record.PID))
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

// expect waits for a message of the first process. What it says is that of a process which
// may have been taken over.
func (m *machine) expect(ctx context.Context, good func(message) bool) error {
	stop := context.AfterFunc(ctx, func() { m.process.control.conn.SetDeadline(longAgo) })
	defer stop()
	got, files, err := m.process.control.receive()
	closeAll(files)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("the sandbox's first process has ended: %w", err)
	case got.Error != "":
		return errors.New(got.Error)
	case !good(got):
		return errors.New("the sandbox's first process gave an answer that makes no sense")
	}
	return nil
}

// explain adds to an error of the start what the process wrote before its end.
func (m *machine) explain(err error) error {
	if words := m.process.words.String(); words != "" {
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
