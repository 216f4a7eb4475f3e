package local

import (
	"cmp"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/fleet/local/network"
)

// tunDevice makes network devices.
const tunDevice = "/dev/net/tun"

// makeNetwork gives the sandbox its network device, if root has to make it, or tells the
// first process to. Without it there is none.
func (m *machine) makeNetwork(to *setup, given kit) (err error) {
	if m.record.Level != fleet.LevelNamespace || m.runtime.missing["network"] != "" {
		return nil
	}
	ipv6 := network.RoutesIPv6() // of the host
	if os.Geteuid() != 0 {
		to.Tun, to.IPv6 = true, ipv6
		return nil
	}
	given["tun"], err = m.tun(ipv6)
	return err
}

// tun makes the device from outside, as the device file may be root's alone, on a thread
// that enters the sandbox's network and ends there.
func (m *machine) tun(ipv6 bool) (*os.File, error) {
	conn, err := m.pidfd.SyscallConn()
	if err != nil {
		return nil, err
	}
	var made *os.File
	err = onThread(func() (err error) {
		if bad := conn.Control(func(fd uintptr) { err = unix.Setns(int(fd), unix.CLONE_NEWNET) }); bad != nil || err != nil {
			return fmt.Errorf("cannot enter the sandbox's network: %w", cmp.Or(bad, err))
		}
		made, err = network.Inside(tunDevice, ipv6)
		return err
	})
	return made, err
}

// serve carries what goes through the sandbox's device, from now on.
func (m *machine) serve() error {
	if m.record.Tun == 0 {
		return nil
	}
	o := m.runtime.options.Network
	rules, err := m.runtime.rules(m.record.Network)
	if err != nil {
		return err
	}
	refusals := make(chan fleet.Refusal, 64)
	o.Rules, o.Aliases, m.refusals = rules, m.aliases(), refusals
	o.Refused = func(r network.Refusal) {
		select {
		case refusals <- fleet.Refusal{Protocol: r.Protocol, Destination: r.Destination, Reason: r.Reason}:
		default: // so many wait that one more tells nothing
		}
	}
	var tun *os.File
	conn, err := m.pidfd.SyscallConn()
	if err == nil {
		err = errors.Join(conn.Control(func(fd uintptr) {
			var bad error
			if tun, bad = network.Take(int(fd), m.record.Tun); bad != nil {
				err = bad
			}
		}), err)
	}
	if err != nil {
		return err
	}
	m.stack, err = network.New(tun, o)
	return err
}

// rules returns those of a network; nil for one that the policy alone bounds.
func (r *Runtime) rules(n fleet.Network) (*network.Rules, error) {
	var indexes []network.Endpoint
	switch n.Mode {
	case fleet.NetworkFull:
		return nil, nil
	case fleet.NetworkPackages:
		indexes = r.options.Indexes
	}
	rules, err := r.options.Network.Policy.NewRules(n.Allow, indexes)
	if errors.Is(err, network.ErrClosed) {
		err = fmt.Errorf("%w: %w", err, fleet.ErrUnsupported)
	}
	return rules, err
}

// SetNetwork implements fleet.Networked.
func (m *machine) SetNetwork(n fleet.Network) error {
	if err := m.runtime.checkNetwork(n); err != nil {
		return err
	}
	rules, err := m.runtime.rules(n)
	if err != nil {
		return err
	}
	m.kill.Lock()
	defer m.kill.Unlock()
	switch {
	case m.stack != nil:
		m.stack.SetRules(rules)
	case m.record.Network.Mode != n.Mode:
		return fmt.Errorf("a sandbox that was created with the network %q has no device for another: %w", m.record.Network.Mode, fleet.ErrUnsupported)
	}
	m.record.Network = n
	return nil
}

// Refusals implements fleet.Networked.
func (m *machine) Refusals() <-chan fleet.Refusal { return m.refusals }

// networkFiles returns the files of a sandbox that have to do with its network.
func networkFiles(n fleet.Network, hostname string) map[string]string {
	switch n.Mode {
	case fleet.NetworkFull:
	case fleet.NetworkNone:
		return map[string]string{"/etc/hosts": network.Hosts("", hostname), "/etc/resolv.conf": ""}
	default: // the host's names are its name server's, too
		return map[string]string{"/etc/hosts": network.Hosts("", hostname), "/etc/resolv.conf": network.ResolvConf("")}
	}
	hosts, _ := os.ReadFile("/etc/hosts")
	resolv, _ := os.ReadFile("/etc/resolv.conf")
	return map[string]string{"/etc/hosts": network.Hosts(string(hosts), hostname), "/etc/resolv.conf": network.ResolvConf(string(resolv))}
}

// checkNetwork refuses what only a network namespace can do, and what none does here.
func (r *Runtime) checkNetwork(n fleet.Network) error {
	switch why := r.missing["network"]; {
	case r.level != fleet.LevelNamespace && n.Mode != fleet.NetworkFull:
		return fmt.Errorf("a sandbox of level %q cannot be kept from the network: %w", r.level, fleet.ErrUnsupported)
	case r.level == fleet.LevelNamespace && n.Mode != fleet.NetworkNone && why != "":
		return fmt.Errorf("%s: %w", why, fleet.ErrUnsupported)
	}
	_, err := r.rules(n)
	return err
}

// network returns the mode of sandboxes for which none is asked.
func (r *Runtime) network() string {
	if r.level == fleet.LevelNamespace && r.missing["network"] != "" {
		return fleet.NetworkNone
	}
	return fleet.NetworkFull
}

// environFor is the environment of a sandbox with a network.
func environFor(n fleet.Network, environ []string) []string {
	if n.Mode == fleet.NetworkFull || n.Mode == fleet.NetworkNone {
		return environ
	}
	return network.ByRules(environ)
}
