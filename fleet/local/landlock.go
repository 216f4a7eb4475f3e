package local

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/fleet/local/cage"
)

// Sandboxes of the levels "landlock" and "none" are ordinary processes of the host, with a
// directory each. Where root starts them they have a user id of their own, if such a user can reach
// what they need.

// landlockRead is what code of the level "landlock" may read beside the template's directories.
var landlockRead = []string{
	"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/sys/devices/system/cpu",
	"/etc/passwd", "/etc/group", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/host.conf",
}

// landlockWrite are the devices that it may write.
var landlockWrite = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/pts"}

// prepareDirs finds out whether sandboxes can have user ids of their own. Those of the level "landlock" never run
// as root, whom Landlock does not keep from changing modes and owners of what is root's, nor from its sockets.
func (r *Runtime) prepareDirs(level string) error {
	if os.Geteuid() != 0 {
		r.missing["ids"] = "only root can give each sandbox a user id of its own: all run as the same user"
		return nil
	}
	for _, dir := range append([]string{r.dir}, r.template.binds...) {
		for parent := filepath.Dir(dir); parent != "/"; parent = filepath.Dir(parent) {
			info, err := os.Stat(parent)
			if err != nil {
				return err
			}
			if info.Mode()&0o001 == 0 && level == fleet.LevelNone {
				r.missing["ids"] = "sandboxes run as root, as no other user can enter " + parent
				return nil
			}
			if info.Mode()&0o001 == 0 {
				return fmt.Errorf("no other user than root can enter %s on the way to %s, and as root code would not be confined", parent, dir)
			}
		}
	}
	r.ownIDs = true
	return errors.Join(os.Chmod(r.dir, 0o711), os.Chmod(r.sandboxes(), 0o711), os.Chmod(r.templates(), 0o711))
}

// makeDirs makes the directories that a sandbox without a root of its own has.
func (m *machine) makeDirs() error {
	if m.record.Level == fleet.LevelNamespace {
		return nil
	}
	if m.runtime.ownIDs {
		if err := os.Chmod(m.dir, 0o711); err != nil {
			return err
		}
	}
	for _, dir := range []string{m.home(), m.scratch()} {
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, m.users.uid, m.users.gid)); err != nil {
			return fmt.Errorf("cannot make the sandbox's directories: %w", err)
		}
	}
	profile := filepath.Join(m.home(), ".profile") // the host's /etc/profile.d is not ours
	if err := errors.Join(os.WriteFile(profile, []byte(loginScript), 0o644), os.Chown(profile, m.users.uid, m.users.gid)); err != nil {
		return fmt.Errorf("cannot write the sandbox's .profile: %w", err)
	}
	return nil
}

func (m *machine) home() string {
	if m.record.Level == fleet.LevelNamespace {
		return m.template().home
	}
	return filepath.Join(m.dir, "home")
}

func (m *machine) scratch() string {
	if m.record.Level == fleet.LevelNamespace {
		return "/var/tmp"
	}
	return filepath.Join(m.dir, "tmp")
}

// environ returns the environment of code inside.
func (m *machine) environ() []string {
	t := m.template()
	if m.record.Level == fleet.LevelNamespace {
		return t.environ
	}
	environ := []string{"TMPDIR=" + m.scratch()}
	for _, v := range t.environ {
		name, value, _ := strings.Cut(v, "=")
		switch {
		case name == "HOME":
			value = m.home()
		case strings.HasPrefix(value, settingsDir+"/"):
			value = t.dir + value
		}
		environ = append(environ, name+"="+value)
	}
	return environ
}

// landlockRules narrow the rules of the level "namespace" to what the sandbox may see of the host.
func (m *machine) landlockRules(rules *cage.Rules) {
	t := m.template()
	rules.Read = slices.Concat([]string{t.dir + settingsDir}, landlockRead, t.files, t.binds)
	rules.Write = append([]string{m.home(), m.scratch()}, landlockWrite...)
	rules.Rlimits[unix.RLIMIT_FSIZE] = uint64(m.record.Limits.Disk)
}

// underRules has the agent itself reach no more of the host's files than the code that it starts, as it touches
// what its clients name. All its threads have to be under one domain of Landlock, which can look after those of
// what they start: so the process starts its program anew, on a thread that has entered, with all that it was sent
// and the control socket, which is returned once that is done.
func underRules(c control, to setup, s *settings, more kit) (control, error) {
	if to.Again {
		server, err := newControl(more["control"])
		delete(more, "control")
		c.close()
		return server, err
	}
	to.Again = true
	given, err := again(c, &to, s, more)
	if err != nil {
		return c, err
	}
	defer given.Close()
	runtime.LockOSThread()
	rules := cage.Rules{NoNewPrivs: true, Landlock: true, Read: append(s.Rules.Read, "/proc/self/exe"), Write: s.Rules.Write}
	if err := rules.Enter(); err != nil {
		return c, err
	}
	if err := unix.Dup3(int(given.Fd()), controlFD, 0); err != nil {
		return c, err
	}
	return c, fmt.Errorf("cannot start the program anew: %w", syscall.Exec("/proc/self/exe", to.Command, goSettings))
}

// again returns a control socket that has all that has come from this one.
func again(c control, to *setup, s *settings, more kit) (theirs *os.File, err error) {
	ours, theirs, err := controlPair()
	if err != nil {
		return nil, err
	}
	defer ours.close()
	first := kit{}
	defer first.close()
	if first["setup"], err = memory(to); err != nil {
		return theirs, err
	}
	if more["control"], err = c.conn.File(); err != nil {
		return theirs, err
	}
	return theirs, errors.Join(first.send(ours), more.send(ours))
}

// beParent makes this process the agent of a sandbox without a root of its own: what is left of its
// children when their parents end becomes its own.
func beParent(c *Config) error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot become the parent of orphans: %w", err)
	}
	if c.Level == fleet.LevelLandlock {
		if err := capabilities(0, 0); err != nil {
			return err
		}
	}
	return os.Chdir(c.Home)
}

// killTree ends the processes of a sandbox that has no pid namespace: all of its user, or all that
// descend from its agent, which is kept from making more, and goes last.
func (m *machine) killTree() error {
	if m.pidfd != nil {
		_ = signalProcess(m.pidfd, unix.SIGSTOP)
	}
	deadline := time.Now().Add(endTimeout)
	pause := time.Millisecond
	for quiet := 0; quiet < 2; quiet++ { // none twice in a row: one may have been forked behind the first look, by one that has ended since
		left := m.processes()
		if len(left) == 0 {
			continue
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("cannot end %d processes of the sandbox", len(left))
		}
		for _, pid := range left {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		time.Sleep(pause)
		quiet, pause = -1, min(2*pause, 20*time.Millisecond)
	}
	return nil
}

// processes lists the sandbox's processes but the first.
func (m *machine) processes() []int {
	entries, _ := os.ReadDir("/proc")
	parent, own := map[int]int{}, map[int]bool{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == m.record.PID {
			continue
		}
		status, err := os.ReadFile("/proc/" + e.Name() + "/status")
		if err != nil || bytes.Contains(status, []byte("\nState:\tZ")) {
			continue
		}
		parent[pid] = field(status, "PPid:")
		own[pid] = m.runtime.ownIDs && m.record.Slot != noSlot && field(status, "Uid:") == m.runtime.slots.base(m.record.Slot)+userID
	}
	var found []int
	for pid := range parent {
		up := pid
		for range 1000 { // a pid that is used anew meanwhile could make a circle
			if up = parent[up]; up == 0 || up == m.record.PID {
				break
			}
		}
		if own[pid] || up == m.record.PID && m.pidfd != nil {
			found = append(found, pid)
		}
	}
	return found
}

// field returns the number after a name in /proc/PID/status, or 0.
func field(status []byte, name string) int {
	_, rest, _ := bytes.Cut(status, []byte("\n"+name))
	fields := bytes.Fields(rest[:min(len(rest), 64)])
	if len(fields) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(string(fields[0]))
	return n
}
