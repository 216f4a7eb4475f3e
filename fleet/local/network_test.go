package local_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/fleet/local"
	"github.com/k2sandbox/k2sandbox/fleet/local/network"
)

func TestNetwork(t *testing.T) {
	var l net.Listener
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello ", r.Host) })}
	go server.Serve(l) // until it is closed
	t.Cleanup(func() { server.Close() })
	r := open(t, func(o *local.Options) {
		o.Network.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		}
	})
	spec, err := r.Complete(fleet.Spec{ID: "sb_a"})
	if err != nil {
		t.Fatal(err)
	}
	if why := r.Isolation().Missing["network"]; (why == "") != (spec.Network.Mode == "full") {
		t.Errorf("the network is %q, and what is missing of it %q", spec.Network.Mode, why)
	} else if _, err := r.Complete(fleet.Spec{Network: fleet.Network{Mode: "full"}}); (why != "") != errors.Is(err, fleet.ErrUnsupported) {
		t.Errorf("a network that is missing for %q: %v", why, err)
	}
	m := start(t, r, spec)
	fetch := func(address string) string {
		return "python3 -c 'import urllib.request as u; print(u.urlopen(\"http://" + address + "/\", timeout=20).read().decode())' 2>&1 | tail -1"
	}
	if m.Isolation().Missing["network"] == "" {
		wants(t, m, fetch("192.88.98.1"), "hello 192.88.98.1")
		if u, err := m.Usage(); err != nil || u.Received == 0 || u.Sent == 0 {
			t.Errorf("usage %+v, %v", u, err)
		}
	}
	alone := start(t, r, fleet.Spec{ID: "sb_b", Network: fleet.Network{Mode: "none"}})
	for name, each := range map[string]fleet.Machine{"full": m, "none": alone} {
		if got := run(t, each, fetch(l.Addr().String())); !strings.Contains(got, "refused") {
			t.Errorf("%s reaches the host's loopback: %s", name, got)
		}
	}
	if got := run(t, alone, fetch("192.88.98.1")); !strings.Contains(got, "unreachable") {
		t.Errorf("no network reaches the outside: %s", got)
	}
}

func TestNetworkWithRules(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello ", r.Host) })}
	go server.Serve(l) // until it is closed
	t.Cleanup(func() { server.Close() })
	r := open(t, func(o *local.Options) {
		o.Environ = append(o.Environ, "HTTPS_PROXY=http://proxy.test:8080")
		o.Indexes = []network.Endpoint{{Host: "index.test", Port: 80}}
		o.Network.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		}
		o.Network.Lookup = func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("192.88.98.1")}, nil
		}
	})
	if r.Isolation().Missing["network"] != "" {
		if _, err := r.Complete(fleet.Spec{Network: fleet.Network{Mode: "packages"}}); !errors.Is(err, fleet.ErrUnsupported) {
			t.Errorf("a network that is missing: %v", err)
		}
		return
	}
	for _, bad := range []string{"127.0.0.0/8", "169.254.169.254", "10.0.0.0/8", "::1"} {
		if _, err := r.Complete(fleet.Spec{Network: fleet.Network{Mode: "allow", Allow: []string{bad}}}); !errors.Is(err, fleet.ErrUnsupported) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	m := start(t, r, fleet.Spec{ID: "sb_a", Network: fleet.Network{Mode: "allow", Allow: []string{"good.test", "*.good.test:80"}}})
	reach := func(step string, want map[string]string) {
		t.Helper()
		for host, words := range want {
			got := run(t, m, "python3 -c 'import urllib.request as u; print(u.urlopen(\"http://"+host+"/\", timeout=60).read().decode())' 2>&1 | tail -1")
			if !strings.Contains(got, words) {
				t.Errorf("%s: %s: %q, want %q", step, host, got, words)
			}
		}
	}
	const unknown, refused = "not known", "refused"
	reach("allow", map[string]string{"good.test": "hello good.test", "a.good.test": "hello a.good.test", "bad.test": unknown, "192.88.98.1": refused, "169.254.169.254": refused, "127.0.0.1": refused})
	wants(t, m, "echo $HTTPS_PROXY", "http://192.0.0.1:3128")
	if got := <-m.(fleet.Networked).Refusals(); got.Destination == "" || got.Reason == "" {
		t.Errorf("told of %+v", got)
	}
	set := func(n fleet.Network) {
		t.Helper()
		if err := m.(fleet.Networked).SetNetwork(n); err != nil {
			t.Fatal(err)
		}
	}
	set(fleet.Network{Mode: "packages", Allow: []string{"extra.test"}})
	reach("packages", map[string]string{"index.test": "hello index.test", "extra.test": "hello extra.test", "good.test": unknown, "index.test:81": refused, "192.88.98.1": refused})
	set(fleet.Network{Mode: "none"})
	reach("none", map[string]string{"index.test": unknown, "192.88.98.1": refused})
	if !strings.Contains(string(m.Record()), `"mode":"none"`) {
		t.Errorf("the record is %s", m.Record())
	}
	set(fleet.Network{Mode: "full"})
	reach("full", map[string]string{"192.88.98.1": "hello 192.88.98.1", "10.1.2.3": refused})
	if err := m.(fleet.Networked).SetNetwork(fleet.Network{Mode: "allow", Allow: []string{"127.0.0.1"}}); !errors.Is(err, fleet.ErrUnsupported) {
		t.Errorf("loopback is allowed: %v", err)
	}
	alone := start(t, r, fleet.Spec{ID: "sb_b", Network: fleet.Network{Mode: "none"}})
	if err := alone.(fleet.Networked).SetNetwork(fleet.Network{Mode: "full"}); !errors.Is(err, fleet.ErrUnsupported) {
		t.Errorf("a sandbox without a device gets a network: %v", err)
	}
}
