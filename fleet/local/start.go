package local

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/fleet/local/cage"
	"github.com/k2sandbox/k2sandbox/trace"
)

// Complete implements fleet.Runtime.
func (r *Runtime) Complete(s fleet.Spec) (fleet.Spec, error) {
	var err error
	if s.Template, err = r.named(s.Template); err != nil {
		return s, err
	}
	s.Limits = r.limits(s.Limits)
	s.Network.Mode = cmp.Or(s.Network.Mode, r.network())
	if s.Cwd == "" {
		s.Cwd = r.cwd(s)
	}
	return s, r.checkNetwork(s.Network)
}

// cwd returns where code of a sandbox starts that asks for no directory.
func (r *Runtime) cwd(s fleet.Spec) string {
	if s.Template != Template && s.Template != RootTemplate {
		if t, err := r.lookUp(s.Template); err == nil {
			return cmp.Or(t.Workdir, homeOf(t))
		}
	}
	m := machine{runtime: r, dir: filepath.Join(r.sandboxes(), s.ID), record: record{Level: r.level}}
	return m.home()
}

// Start implements fleet.Runtime.
func (r *Runtime) Start(ctx context.Context, s fleet.Spec) (fleet.Machine, error) {
	s, err := r.Complete(s)
	if err != nil {
		return nil, err
	}
	if err := trace.Do(ctx, "wait for turn", func(ctx context.Context) error { return r.starts.take(ctx, s.Owner) }); err != nil {
		return nil, fmt.Errorf("cannot start sandbox: %w", err)
	}
	defer r.starts.give()
	if err := r.admit(); err != nil {
		return nil, err
	}
	k := kind{limits: s.Limits, root: s.Template == RootTemplate}
	if s.Template != Template && !k.root {
		if k.image, err = r.imageTemplate(ctx, s.Template); err != nil {
			return nil, fmt.Errorf("cannot start sandbox: %w", err)
		}
		defer k.image.users.Add(-1)
	}
	m, err := r.take(ctx, k)
	if err != nil {
		return nil, err
	}
	defer r.spares.more(k) // only now, so that it takes no time from this
	if err := m.begin(ctx, s); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start sandbox: %w", m.explain(err)), m.Kill())
	}
	m.process.control.close()
	r.machines.Store(m, true)
	return m, nil
}

// begin has a sandbox that waits be one of that kind. It returns when its agent is ready.
func (m *machine) begin(ctx context.Context, s fleet.Spec) error {
	if err := m.limit(s.Limits); err != nil {
		return err
	}
	if err := trace.Do(ctx, "confine", func(ctx context.Context) error { return m.enter(ctx, s) }); err != nil {
		return err
	}
	served := m.serve()
	if err := m.awaitKernel(ctx); err != nil {
		return err
	}
	return cmp.Or(served, m.limitCPUs())
}

// awaitKernel returns when the agent has a kernel.
func (m *machine) awaitKernel(ctx context.Context) (err error) {
	ctx, step := trace.Step(ctx, "start kernel")
	defer func() { trace.Done(step, err) }()
	forked := false
	if err = m.expect(ctx, func(got message) bool { forked = got.Forked; return got.Ready }); err != nil {
		return err
	}
	step.Set(trace.Attr{Key: "k2sandbox.kernel.forked", Value: forked})
	m.runtime.counts.kernel(forked)
	return nil
}

// take returns a sandbox that waits, or makes one.
func (r *Runtime) take(ctx context.Context, k kind) (m *machine, err error) {
	ctx, step := trace.Step(ctx, "take process")
	defer func() { trace.Done(step, err) }()
	m = r.spares.take(k)
	step.Set(trace.Attr{Key: "k2sandbox.spare", Value: m != nil})
	if m != nil {
		r.counts.waited.Add(1)
		return m, nil
	}
	r.counts.fresh.Add(1)
	return r.prepared(ctx, r.level, k)
}

// prepared starts a first process, and returns when it has its surroundings, and waits to be
// told for which sandbox. It ends by itself if this process ends before. What fails has left nothing.
func (r *Runtime) prepared(ctx context.Context, level string, k kind) (*machine, error) {
	m := r.machine()
	m.waits = k.waits
	if m.image = k.image; m.image != nil {
		m.image.users.Add(1) // until its release
	}
	m.record = record{Name: r.mark + "-" + rand.Text(), Level: level, Root: k.root, Slot: noSlot, Limits: k.limits, Isolation: r.isolation(level)}
	m.record.Template = filepath.Base(m.template().dir)
	r.naming.RLock()
	r.live.Store(m.record.Name, true)
	r.naming.RUnlock()
	if m.image != nil {
		if _, err := r.hold(ctx, m.record.Name, *m.image.image); err != nil { // until remove
			return nil, errors.Join(fmt.Errorf("cannot start sandbox: %w", err), m.Kill())
		}
	}
	if err := m.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start sandbox: %w", m.explain(err)), m.Kill())
	}
	if r.zygote == nil || m.template().cold {
		return m, nil
	}
	var err error
	if m.forked, m.theirs, err = socketPair(unix.SOCK_SEQPACKET); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start sandbox: %w", err), m.Kill())
	}
	e, err := m.entry()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start sandbox: %w", err), m.Kill())
	}
	m.work.Go(func() { m.fork(m.life, e) })
	return m, nil
}

func (m *machine) prepare(ctx context.Context) (err error) {
	given := kit{}
	defer given.close()
	if m.users, err = m.findUsers(); err != nil {
		return err
	}
	if err := m.makeDisk(ctx, given); err != nil {
		return err
	}
	if err := m.makeGroup(); err != nil {
		return err
	}
	if m.process, err = m.runtime.spawn(m.record.Level, m.users); err != nil {
		return err
	}
	m.pidfd = m.process.pidfd
	placed := make(chan struct{})
	go m.watch(placed)
	err = m.place()
	close(placed)
	if err != nil {
		return err
	}
	if err := m.sendSetup(given); err != nil {
		return err
	}
	return m.expect(ctx, func(got message) bool { return got.Prepared })
}

// place does what takes the first process by its number.
func (m *machine) place() error {
	if err := m.record.identify(m.process.cmd.Process.Pid); err != nil {
		return err
	}
	if m.users.helped {
		if err := mapIDs(m.record.PID, m.users); err != nil {
			return fmt.Errorf("cannot map the sandbox's users: %w", err)
		}
	}
	return m.join()
}

// sendSetup sends the first process what it needs for its surroundings.
func (m *machine) sendSetup(given kit) (err error) {
	to := setup{
		Command: m.runtime.command, Level: m.record.Level, Hostname: hostname, Home: m.home(), Own: m.template().own, UID: m.users.code, GID: m.users.group, SetUID: m.users.setUID,
		Cgroups: m.group != nil, Root: m.record.Root, Warm: m.warmth(), Sizes: m.sizes(),
	}
	if err := m.trees(&to, given); err != nil {
		return err
	}
	if err := m.makeNetwork(&to, given); err != nil {
		return err
	}
	if given["setup"], err = memory(to); err != nil {
		return err
	}
	return given.send(m.process.control)
}

const hostname = "sandbox" // of all

// enter tells a first process which sandbox it is for, and returns when it is confined. The sandbox
// is on record from before that.
func (m *machine) enter(ctx context.Context, s fleet.Spec) error {
	dir := filepath.Join(m.runtime.sandboxes(), s.ID)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("cannot make the sandbox's directory: %w", err)
	}
	m.dir, m.record.ID, m.record.Network = dir, s.ID, s.Network
	if err := m.makeDirs(); err != nil {
		return err
	}
	if err := m.record.save(m.dir); err != nil {
		return err
	}
	if err := m.sendSettings(s); err != nil {
		return err
	}
	return m.expect(ctx, func(got message) bool { m.record.Tun = got.Tun; return got.Entered })
}

// sendSettings sends the first process what it needs to know and to have as an agent.
func (m *machine) sendSettings(s fleet.Spec) (err error) {
	given := kit{}
	defer given.close()
	if m.theirs != nil {
		given["zygote"], m.theirs = m.theirs, nil
	}
	if given["listener"], err = listen(m.dir); err != nil {
		return err
	}
	if m.group != nil {
		if path := m.group.OOMFile(); path != "" {
			if given["oom"], err = os.Open(path); err != nil {
				delete(given, "oom")
				return err
			}
		}
	}
	c := settings{Config: m.config(s), Sizes: m.sizes()}
	if m.record.Level == fleet.LevelNamespace {
		c.Files = networkFiles(s.Network, hostname)
		c.Files["/etc/hostname"] = hostname + "\n"
		if m.record.Root && !m.builds() {
			maps.Copy(c.Files, rootFiles(m.template(), c.Interpreter))
		}
	}
	if given["settings"], err = memory(c); err != nil {
		return err
	}
	return given.send(m.process.control)
}

// fork has the zygote fork into the sandbox. Where it does not, the agent finds the end of their
// socket closed, and starts kernels anew.
func (m *machine) fork(ctx context.Context, e entry) {
	defer m.forked.Close()
	defer closeAll(e.Cgroups)
	if err := m.runtime.zygote.fork(ctx, e); err != nil && ctx.Err() == nil {
		m.runtime.options.Log.Warn("kernels of a sandbox start without the zygote", "name", m.record.Name, "error", err)
	}
}

func (m *machine) entry() (e entry, err error) {
	e = entry{Pidfd: m.pidfd, Inside: m.forked, UID: m.users.code, GID: m.users.group, Rules: m.rules()}
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

// findUsers finds ids for the sandbox.
func (m *machine) findUsers() (users, error) {
	code, group := m.template().code, m.template().group
	switch {
	case os.Geteuid() != 0 && m.record.Level == fleet.LevelNamespace && m.runtime.subIDs != nil:
		return m.runtime.subIDs.users(code, group), nil
	case os.Geteuid() != 0 && m.record.Level == fleet.LevelNamespace:
		return oneUser(code, group), nil
	case os.Geteuid() != 0 || m.record.Level != fleet.LevelNamespace && !m.runtime.ownIDs:
		return thisUser(os.Geteuid(), os.Getegid()), nil
	}
	slot, err := m.runtime.slots.take(m.record.Name, m.record.Level == fleet.LevelNamespace)
	if err != nil {
		return users{}, err
	}
	m.record.Slot = slot
	base := m.runtime.slots.base(slot)
	if m.record.Level != fleet.LevelNamespace {
		return thisUser(base+userID, base+userID), nil
	}
	return rangeUsers(base, code, group), nil
}

func (m *machine) config(s fleet.Spec) Config {
	return Config{
		ID: s.ID, Level: m.record.Level, Home: m.home(), Scratch: m.scratch(), Cwd: cmp.Or(s.Cwd, m.home()), Envs: s.Envs,
		Environ: environFor(s.Network, m.environ()), Interpreter: cmp.Or(m.template().interpreter, m.runtime.options.Interpreter), Packages: m.template().packages, Image: m.image != nil, Builds: m.builds(), UID: m.users.code, GID: m.users.group,
		Rules: m.rules(), Limits: m.record.Limits, Network: s.Network, Agent: m.runtime.options.Agent, Lease: s.Lease,
	}
}

// expect waits for a message of the first process. What it says is that of a process which
// may have been taken over.
func (m *machine) expect(ctx context.Context, good func(message) bool) error {
	stop := context.AfterFunc(ctx, func() { _ = m.process.control.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	got, files, err := m.process.control.receive()
	closeAll(files)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("its first process has ended: %w", err)
	case got.Error != "" && blames[got.Blame] != nil:
		return fmt.Errorf("%w: %s", blames[got.Blame], got.Error)
	case got.Error != "":
		return errors.New(got.Error)
	case !good(got):
		return errors.New("its first process gave an answer that makes no sense")
	}
	return nil
}

// explain adds to an error of the start how the process ended, if it has, and what it wrote before.
func (m *machine) explain(err error) error {
	if m.process == nil {
		return err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) { // it is about to be gone
		select {
		case <-m.done:
			err = fmt.Errorf("%w: exit code %d, signal %q", err, m.exit.Code, m.exit.Signal)
		case <-time.After(lastWords):
		}
	}
	if words := m.process.words.String(); words != "" && !strings.Contains(err.Error(), words) {
		return fmt.Errorf("%w (%s)", err, words)
	}
	return err
}

// lastWords is how long a process that has closed its end may take to end, and what it wrote to be read.
const lastWords = time.Second

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
