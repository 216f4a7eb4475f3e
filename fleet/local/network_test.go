package local_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/fleet/local"
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
