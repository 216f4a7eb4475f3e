package network_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/k2sandbox/k2sandbox/fleet/local/network"
)

// The classes of addresses as the policy has them.
const (
	always = iota // reachable
	asked         // reachable where private networks are allowed
	never
)

var judged = map[string]int{
	"1.1.1.1": always, "93.184.216.34": always, "172.15.255.255": always, "172.32.0.0": always,
	"9.255.255.255": always, "11.0.0.0": always, "126.255.255.255": always, "128.0.0.1": always,
	"192.167.255.255": always, "192.169.0.0": always, "223.255.255.255": always, "169.253.255.255": always,
	"100.63.255.255": always, "100.128.0.0": always, "198.17.255.255": always, "198.20.0.0": always,
	"2600:1f18::34": always, "2a00::1": always, "64:ff9b::101:101": always, "::ffff:1.1.1.1": always,

	"10.0.0.1": asked, "10.255.255.255": asked, "172.16.0.1": asked, "172.31.255.255": asked, "192.168.0.1": asked,
	"100.64.0.1": asked, "100.127.255.255": asked, "198.18.0.1": asked, "198.51.100.1": asked, "192.0.2.1": asked,
	"203.0.113.1": asked, "fd12:3456::7": asked, "fc00::1": asked, "2001:db8::1": asked, "3fff::1": asked,
	"::ffff:10.0.0.1": asked, "64:ff9b::10.0.0.1": asked, "64:ff9b::192.168.1.1": asked,

	"127.0.0.1": never, "127.0.0.53": never, "127.255.255.255": never, "::1": never, "0.0.0.0": never,
	"0.1.2.3": never, "::": never, "169.254.169.254": never, "169.254.0.1": never, "169.254.170.2": never,
	"100.100.100.200": never, "168.63.129.16": never, "192.0.0.1": never, "192.0.0.2": never, "192.0.0.192": never,
	"192.88.99.1": never, "224.0.0.1": never, "239.255.255.255": never, "240.0.0.1": never, "255.255.255.255": never,
	"fe80::1": never, "fe80::1%eth0": never, "febf::1": never, "fec0::1": never, "ff02::1": never, "fd00:ec2::254": never,
	"fd20:ce::254": never, "::ffff:127.0.0.1": never, "::ffff:169.254.169.254": never, "::ffff:0:127.0.0.1": never,
	"::127.0.0.1": never, "::169.254.169.254": never, "64:ff9b::127.0.0.1": never, "64:ff9b::169.254.169.254": never,
	"64:ff9b::0.0.0.0": never, "64:ff9b:1::10.0.0.1": never, "2002:7f00:1::": never, "2002:a9fe:a9fe::1": never,
	"2002:101:101::1": never, "2001:0:7f00:1::": never, "2001::a9fe:a9fe": never, "100::1": never, "5f00::1": never,
	"4000::1": never,
	// This host's own, public or not.
	"198.51.100.7": never, "2600:1f19::5": never, "::ffff:198.51.100.7": never, "64:ff9b::198.51.100.7": never,
	"8.8.4.4": never, "64:ff9b::8.8.4.4": never,
}

func own(a netip.Addr) (bool, error) {
	switch a.String() {
	case "198.51.100.7", "2600:1f19::5", "8.8.4.4":
		return true, nil
	}
	return false, nil
}

func TestPolicy(t *testing.T) {
	for address, class := range judged {
		a := netip.MustParseAddr(address)
		safe := network.Policy{Own: own}.Check(a)
		if (safe == nil) != (class == always) {
			t.Errorf("%s: %v", address, safe)
		}
		open := network.Policy{Own: own, AllowPrivate: true}.Check(a)
		if (open == nil) != (class != never) {
			t.Errorf("%s with private networks: %v", address, open)
		}
		if open != nil && !errors.Is(open, network.ErrRefused) {
			t.Errorf("%s: %v is not ErrRefused", address, open)
		}
	}
	if err := (network.Policy{Own: own}).Check(netip.Addr{}); err == nil {
		t.Error("no address is allowed")
	}
}

func TestPolicyRefusesWhatItCannotJudge(t *testing.T) {
	broken := func(netip.Addr) (bool, error) { return false, errors.New("no netlink") }
	if err := (network.Policy{Own: broken}).Check(netip.MustParseAddr("1.1.1.1")); !errors.Is(err, network.ErrRefused) {
		t.Errorf("got %v", err)
	}
}

func TestOwn(t *testing.T) {
	w := newWorld(t)
	for address, want := range map[string]bool{
		"127.0.0.1": true, "127.9.9.9": true, "203.0.113.5": true, "203.0.113.255": true, "::1": true,
		"2600:1f19::5": true, "255.255.255.255": true, "224.0.0.1": true,
		"203.0.113.1": false, public4: false, public6: false, "10.1.2.3": false,
	} {
		got, err := w.own(netip.MustParseAddr(address))
		if err != nil || got != want {
			t.Errorf("%s: %v, %v", address, got, err)
		}
	}
}

// FuzzPolicy holds what no spelling of an address may change.
func FuzzPolicy(f *testing.F) {
	for a := range judged {
		b, _ := netip.MustParseAddr(a).MarshalBinary()
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := netip.AddrFromSlice(b)
		if !ok || (network.Policy{AllowPrivate: true, Own: own}).Check(a) != nil {
			return
		}
		a = a.Unmap()
		if a.IsLoopback() || a.IsMulticast() || a.IsUnspecified() || a.IsLinkLocalUnicast() {
			t.Errorf("%s is allowed", a)
		}
	})
}
