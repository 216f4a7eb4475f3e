package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/fleet/local/cage"
	"github.com/k2sandbox/k2sandbox/fleet/local/network"
	"github.com/k2sandbox/k2sandbox/sudo"
)

// Inside is what the first process of a sandbox has, once it is confined.
type Inside struct {
	Config
	Listener net.Listener // for the agent's HTTP API; its peer is the server
	Zygote   *os.File     // end of a SOCK_SEQPACKET socket, at whose other end kernels are forked; nil where there is none
	Starting bool         // that one says first that it is ready
	OOM      *os.File     // counts what the out-of-memory killer does in the sandbox: see process.Thread; nil where nothing does
	Sudo     net.Listener // for those who want a command run as root, see package sudo; nil where nobody can become root

	tun int // descriptor of the network device, or 0

	// Forked says, before Ready, that the first kernel was forked and not started anew.
	Forked bool

	// Ready tells the server that the agent answers, or why it cannot. Only the first call counts.
	Ready func(error) error
}

// Enter confines this process, which a Runtime has started, as the first thing that it does:
// what it has open, its working directory and its privileges are then those of
// the sandbox. control is the descriptor that it was started with.
// After an error, which the server has been told, the process is to end.
func Enter(controlFile *os.File) (*Inside, error) {
	os.Clearenv() // of what Go itself was to know
	c, err := newControl(controlFile)
	if err != nil {
		return nil, err
	}
	in, c, err := enter(c)
	if err == nil {
		err = c.send(message{Entered: true, Tun: in.tun})
	}
	if err != nil {
		_ = c.send(message{Error: err.Error()})
		c.close()
		return nil, err
	}
	in.Ready = in.ready(c)
	return in, nil
}

// Confine puts this process as a whole under what an agent can do with, and returns the rules that threads enter on
// which code is started.
func (in *Inside) Confine() (cage.Rules, error) {
	rules := in.Rules
	if err := rules.EnterProcess(in.UID, in.GID); err != nil {
		return rules, err
	}
	rules.Seccomp, rules.AnyUser = false, false // they have it
	if os.Getuid() != in.UID {
		rules.NoCaps = false // they take becoming the user, and do not survive the exec
	}
	return rules, nil
}

// Root returns the rules that a thread enters, after Confine, on which commands are started as root.
func (in *Inside) Root() cage.Rules { return cage.Rules{NoNewPrivs: true, Caps: cage.Root} }

// EnterFiles makes the calling thread, which nobody else is to have then, one that uses files as root, with the capabilities of
// commands of root.
func (in *Inside) EnterFiles() error {
	if err := in.Root().Enter(); err != nil {
		return err
	}
	for _, call := range []uintptr{unix.SYS_SETFSGID, unix.SYS_SETFSUID} { // which answer what was before
		unix.RawSyscall(call, 0, 0, 0)
	}
	return nil
}

// blames are the settings that can keep a sandbox from starting.
var blames = map[string]error{"cwd": fleet.ErrCwd, "envs": fleet.ErrEnvs, "template": fleet.ErrTemplate}

func (in *Inside) ready(c control) func(error) error {
	var once sync.Once
	return func(failed error) (err error) {
		once.Do(func() {
			m := message{Ready: true, Forked: in.Forked}
			if failed != nil {
				m = message{Error: failed.Error()}
				for setting, err := range blames {
					if errors.Is(failed, err) {
						m.Blame = setting
					}
				}
			}
			err = c.send(m)
			c.close()
		})
		return err
	}
}

// enter makes the process's surroundings as the server says, and then, when the server says for which
// sandbox, confines it. It returns the socket to the server, too.
func enter(c control) (*Inside, control, error) {
	var to setup
	given, err := next(c, "setup", &to)
	if err != nil {
		return nil, c, err
	}
	defer given.close()
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return nil, c, fmt.Errorf("cannot close the process to others: %w", err)
	}
	unix.Umask(0o022)
	if to.Level == fleet.LevelNamespace {
		if err := surround(&to, given); err != nil {
			return nil, c, err
		}
	}
	var zygote *os.File
	if to.Warm != nil {
		if zygote, err = to.Warm.start(to.UID, to.GID); err != nil {
			fmt.Fprintln(os.Stderr, err) // kernels start without it
		}
	}
	if !to.Again {
		if err := c.send(message{Prepared: true}); err != nil {
			return nil, c, err
		}
	}
	var s settings
	more, err := next(c, "settings", &s)
	if err != nil {
		return nil, c, err
	}
	defer more.close()
	if to.Level == fleet.LevelLandlock {
		if c, err = underRules(c, to, &s, more); err != nil {
			return nil, c, err
		}
	}
	in, err := settle(&to, &s, given, more)
	if err == nil && zygote != nil {
		in.Zygote, in.Starting = zygote, true
	}
	return in, c, err
}

// settle is what a process does when it knows which sandbox it is for.
func settle(to *setup, s *settings, given, more kit) (in *Inside, err error) {
	in = &Inside{Config: s.Config, Zygote: more["zygote"], OOM: more["oom"]}
	delete(more, "zygote")
	delete(more, "oom")
	if tun := given["tun"]; tun != nil && in.Network.Mode != fleet.NetworkNone {
		// A descriptor that nobody closes, nor Go for want of a user: the device is there as long as it is, and a
		// server that follows takes it.
		if in.tun, err = unix.FcntlInt(tun.Fd(), unix.F_DUPFD_CLOEXEC, 3); err != nil {
			return nil, fmt.Errorf("cannot keep the network device: %w", err)
		}
	}
	if to.Root {
		if in.Sudo, err = sudo.Listen(); err != nil {
			return nil, err
		}
	}
	if err := confine(to, s, given); err != nil {
		return nil, err
	}
	if more["listener"] == nil {
		return nil, errors.New("the server has sent no listener")
	}
	if in.Listener, err = net.FileListener(more["listener"]); err != nil {
		return nil, fmt.Errorf("cannot use the listener: %w", err)
	}
	return in, nil
}

// next reads what the server sends next: a file of that name with JSON, and others.
func next(c control, name string, into any) (kit, error) {
	m, files, err := c.receive()
	if err != nil {
		return nil, fmt.Errorf("cannot receive the sandbox's %s: %w", name, err)
	}
	given := kit{}
	for i, name := range m.Files {
		given[name] = files[i]
	}
	if given[name] == nil {
		given.close()
		return nil, fmt.Errorf("the server has sent no %s", name)
	}
	text, err := io.ReadAll(io.NewSectionReader(given[name], 0, 1<<30))
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		given.close()
		return nil, fmt.Errorf("cannot read the sandbox's %s: %w", name, err)
	}
	return given, nil
}

// surround makes all that a sandbox has around it.
func surround(to *setup, given kit) error {
	if to.SetUID {
		if err := syscall.Setgroups(nil); err != nil {
			return fmt.Errorf("cannot leave groups: %w", err)
		}
	}
	if err := connect(to, given); err != nil {
		return err
	}
	if err := mountRoot(to, given); err != nil {
		return err
	}
	return isolate(to)
}

// confine takes the process where its level says.
func confine(to *setup, s *settings, given kit) error {
	if to.Level != fleet.LevelNamespace {
		return beParent(&s.Config)
	}
	if err := resize(s.Sizes, given["disk"]); err != nil {
		return err
	}
	for path, text := range s.Files {
		if err := writeFile(path, text); err != nil {
			return err
		}
	}
	if !to.SetUID {
		if err := closeRoot(to); err != nil {
			return err
		}
	}
	if err := os.Chdir(s.Home); err != nil {
		return err
	}
	return drop(to)
}

// writeFile writes one of the sandbox's own files, in place of a link that an image has there: programs are those that say what
// runs them.
func writeFile(path, text string) error {
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	mode := os.FileMode(0o644)
	if strings.HasPrefix(text, "#!") {
		mode = 0o755
	}
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode))
}

// connect makes the network, but for what the server has made: loopback, at least.
func connect(c *setup, given kit) (err error) {
	switch {
	case c.Tun:
		given["tun"], err = network.Inside(tunDevice, c.IPv6)
	case given["tun"] == nil:
		err = network.Loopback()
	}
	return err
}
