package network

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Inside makes a sandbox's network, in the network namespace of the calling thread and
// with CAP_NET_ADMIN in it: loopback, and eth0 with its addresses and routes. The returned
// descriptor is the device, which is there for as long as a copy of it is open. device is the host's
// tun device, most times /dev/net/tun: it must be opened by who may, so before the host's /dev is gone. Without ipv6, or
// where the kernel has none, the sandbox has IPv4 alone.
func Inside(device string, ipv6 bool) (*os.File, error) {
	if err := Loopback(); err != nil {
		return nil, err
	}
	tun, err := create(device, "eth0")
	if err != nil {
		return nil, err
	}
	if err := configure("eth0", ipv6); err != nil {
		tun.Close()
		return nil, fmt.Errorf("cannot set up eth0: %w", err)
	}
	return tun, nil
}

// Loopback brings loopback up: all that a sandbox without network has.
func Loopback() error {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return fmt.Errorf("cannot find loopback: %w", err)
	}
	if err := linkUp(lo.Index, 0); err != nil {
		return fmt.Errorf("cannot bring loopback up: %w", err)
	}
	return nil
}

// create opens a new tun device.
func create(device, name string) (*os.File, error) {
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open %s: %w", device, err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(tunFlags)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot make the tun device: %w", err)
	}
	return os.NewFile(uintptr(fd), device), nil // not before it is one: until then, it cannot be polled
}

// configure brings a device up and gives it its addresses and routes.
func configure(name string, ipv6 bool) error {
	device, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	_ = noLinkLocal(device.Index) // fails where the kernel has no IPv6
	if err := linkUp(device.Index, mtu); err != nil {
		return err
	}
	if err := reach(device.Index, netip.PrefixFrom(Address4, bits4), Gateway4); err != nil {
		return err
	}
	if ipv6 {
		_ = reach(device.Index, netip.PrefixFrom(Address6, bits6), Gateway6)
	}
	return nil
}

func reach(index int, own netip.Prefix, gateway netip.Addr) error {
	if err := addAddress(index, own); err != nil {
		return err
	}
	return addDefaultRoute(index, gateway)
}
