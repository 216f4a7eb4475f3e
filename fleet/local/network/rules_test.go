package network_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/k2sandbox/k2sandbox/fleet/local/network"
)

// zone is what the world's name servers say. A name that has several lists tells each once, and then the last.
var zone = map[string][][]string{
	"good.test": {{public4}}, "api.good.test": {{public4, public6}}, "v6.test": {{public6}}, "index.test": {{public4}}, "mixed.test": {{"169.254.169.254", "10.1.2.3", public4}},
	"elsewhere.test": {{public4}}, "rebound.test": {{public4}, {"169.254.169.254"}},

	"private.test": {{"10.1.2.3"}}, "private2.test": {{"192.168.7.7"}}, "private3.test": {{"172.20.0.9"}}, "shared.test": {{"100.64.3.4"}}, "unique.test": {{"fd12:3456::7"}},
	"documents.test": {{"192.0.2.77"}}, "loopback.test": {{"127.0.0.1"}}, "loopback6.test": {{"::1"}}, "loopback2.test": {{"127.9.9.9"}}, "unspecified.test": {{"0.0.0.0"}},
	"metadata.test": {{"169.254.169.254"}}, "metadata2.test": {{"100.100.100.200"}}, "metadata3.test": {{"168.63.129.16"}}, "metadata6.test": {{"fd00:ec2::254"}},
	"mapped.test": {{"::ffff:10.1.2.3"}}, "mapped2.test": {{"::ffff:127.0.0.1"}}, "translated.test": {{"64:ff9b::a9fe:a9fe"}}, "translated2.test": {{"64:ff9b::a01:203"}}, "tunnelled.test": {{"2002:a9fe:a9fe::1"}},
	"own.test": {{"203.0.113.5"}}, "own6.test": {{"2600:1f19::5"}}, "gateway.test": {{"192.0.0.1"}}, "neighbour.test": {{"192.0.0.2"}}, "alias.test": {{"198.19.0.1"}}, "multicast.test": {{"224.0.0.1"}},
	"broadcast.test": {{"255.255.255.255"}}, "local.test": {{"fe80::1"}},
}

// liars are the names whose addresses nobody is to reach.
func liars() []string {
	var names []string
	for name := range zone {
		if !slices.Contains([]string{"good.test", "api.good.test", "v6.test", "index.test", "mixed.test", "elsewhere.test", "rebound.test"}, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// forbidden are addresses that nobody is to reach, whatever is allowed by name.
var forbidden = []string{
	"10.1.2.3", "192.168.7.7", "172.20.0.9", "100.64.3.4", "192.0.2.77", "fd12:3456::7", "64:ff9b::a01:203", "169.254.169.254", "100.100.100.200", "168.63.129.16", "fd00:ec2::254",
	"64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "203.0.113.5", "2600:1f19::5", "127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "192.0.0.1", "192.0.0.3", "fd6b:3273:616e::1", "198.18.0.1", "198.19.0.1", "198.19.255.254",
	"224.0.0.1", "240.0.0.1", "255.255.255.255", "fc00::1", "2001:db8::1", "3fff::1", "100::1", "192.88.99.1", "64:ff9b::7f00:1", "2001:0:7f00:1::", "fe80::1", "ff02::1", "169.254.170.2", "198.51.100.1", "203.0.113.255", "0.1.2.3",
}

// ruled is a world whose name servers say what is in zone, and who is visited in it.
type ruled struct {
	*world
	stack        *network.Stack
	outer, inner *visits // the outside's, and the host's own

	mu    sync.Mutex
	asked map[string]int
	told  map[string]int // refusals, by protocol and destination
}

// newRuled serves a sandbox that reaches what it is allowed; nil: whatever the policy lets.
func newRuled(t *testing.T, rules func(network.Policy) *network.Rules) *ruled {
	t.Helper()
	r := &ruled{world: newWorld(t), asked: map[string]int{}, told: map[string]int{}}
	p := r.host.listenPacket(t, "127.0.0.53:53")
	go r.answer(p)
	r.options.Resolvers = func() []netip.AddrPort { return []netip.AddrPort{netip.MustParseAddrPort("127.0.0.53:53")} }
	r.options.Lookup = func(_ context.Context, name string) ([]netip.Addr, error) {
		found := r.zone(strings.TrimSuffix(name, "."))
		if found == nil {
			return nil, errors.New("no such host")
		}
		return found, nil
	}
	r.options.Refused = func(refusal network.Refusal) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.told[refusal.Protocol+" "+refusal.Destination]++
	}
	if rules != nil {
		r.options.Rules = rules(r.options.Policy)
	}
	r.outer, r.inner = visited(r.outside.listen(t, "[::]:80")), visited(r.host.listen(t, "[::]:80"))
	r.stack = r.start(t)
	return r
}

// allowing are rules with destinations.
func allowing(t *testing.T, allow ...string) func(network.Policy) *network.Rules {
	return func(p network.Policy) *network.Rules {
		rules, err := p.NewRules(allow, nil)
		if err != nil {
			t.Fatal(err)
		}
		return rules
	}
}

func (r *ruled) zone(name string) []netip.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	turns := zone[name]
	if turns == nil {
		return nil
	}
	var found []netip.Addr
	for _, a := range turns[min(r.asked[name], len(turns)-1)] {
		found = append(found, netip.MustParseAddr(a))
	}
	r.asked[name]++
	return found
}

// answer is a name server.
func (r *ruled) answer(p net.PacketConn) {
	b := make([]byte, 4096)
	for {
		n, from, err := p.ReadFrom(b)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(b[:n]) != nil {
			continue
		}
		q := m.Questions[0]
		m.Response, m.Additionals = true, nil
		found := r.zone(strings.TrimSuffix(q.Name.String(), "."))
		if found == nil {
			m.RCode = dnsmessage.RCodeNameError
		}
		for _, a := range found {
			head := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}
			switch {
			case a.Is4() && q.Type == dnsmessage.TypeA:
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: a.As4()}})
			case a.Is6() && q.Type == dnsmessage.TypeAAAA:
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
			}
		}
		reply, _ := m.Pack()
		_, _ = p.WriteTo(reply, from)
	}
}

// byName reaches a host as most programs do: they look its name up, and try each address.
func (r *ruled) byName(t *testing.T, host string) (string, error) {
	t.Helper()
	found, err := r.resolver().LookupNetIP(t.Context(), "ip", host+".")
	for _, a := range found {
		var said string
		if said, err = r.byAddress(t, a.Unmap().String()); err == nil {
			return said, nil
		}
	}
	return "", err
}

func (r *ruled) byAddress(t *testing.T, address string) (string, error) {
	c, err := r.box.Dial(t.Context(), "tcp", net.JoinHostPort(address, "80"))
	if err != nil {
		return "", err
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	return string(b), err
}

// byProxy has the gateway's proxy connect to a host.
func (r *ruled) byProxy(t *testing.T, host string) (string, error) {
	c, err := r.box.Dial(t.Context(), "tcp", "192.0.0.1:3128")
	if err != nil {
		return "", err
	}
	defer c.Close()
	at := net.JoinHostPort(host, "80")
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", at, at)
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", errors.New(resp.Status)
	}
	b, err := io.ReadAll(in)
	return string(b), err
}

// byURL has the gateway's proxy fetch a page.
func (r *ruled) byURL(t *testing.T, host string) (string, error) {
	c, err := r.box.Dial(t.Context(), "tcp", "192.0.0.1:3128")
	if err != nil {
		return "", err
	}
	defer c.Close()
	fmt.Fprintf(c, "GET http://%s/ HTTP/1.1\r\nHost: %[1]s\r\n\r\n", net.JoinHostPort(host, "80"))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", errors.New(resp.Status)
	}
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// TestRefusedByRules has code try all that it is not to reach, with each network, and in each way.
func TestRefusedByRules(t *testing.T) {
	most := slices.Concat(liars(), []string{"good.test", "*.good.test", "mixed.test", "v6.test", "rebound.test"})
	for name, c := range map[string]struct {
		rules     func(network.Policy) *network.Rules
		addresses []string          // that are refused beside forbidden ones
		names     []string          // that are refused beside liars
		reached   map[string]string // names, and where they are
	}{
		"full":                {nil, nil, nil, map[string]string{"good.test": public4, "api.good.test": public4, "v6.test": public6, "mixed.test": public4}},
		"none":                {allowing(t), []string{public4, public6}, []string{"good.test", "api.good.test", "v6.test", "index.test", "mixed.test", "elsewhere.test"}, nil},
		"allow":               {allowing(t, most...), []string{public4, public6}, []string{"elsewhere.test", "index.test", "unknown.test", "test", "good.test.elsewhere.test", "xgood.test"}, map[string]string{"good.test": public4, "api.good.test": public4, "v6.test": public6, "mixed.test": public4}},
		"allow all names":     {allowing(t, "*"), []string{public4, public6}, nil, map[string]string{"good.test": public4, "elsewhere.test": public4}},
		"allow all addresses": {allowing(t, "0.0.0.0/0", "::/0"), nil, []string{"good.test", "elsewhere.test"}, nil},
		"packages": {func(p network.Policy) *network.Rules {
			rules, err := p.NewRules(nil, []network.Endpoint{{Host: "index.test", Port: 80}, {Host: "good.test", Port: 443}})
			if err != nil {
				t.Fatal(err)
			}
			return rules
		}, []string{public4, public6}, []string{"good.test", "api.good.test", "v6.test", "mixed.test", "elsewhere.test"}, map[string]string{"index.test": public4}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRuled(t, c.rules)
			ways := map[string]func(*testing.T, string) (string, error){"name": r.byName, "proxy": r.byProxy, "URL": r.byURL}
			for host, want := range c.reached {
				for way, reach := range ways {
					if way != "name" && c.rules == nil || way == "URL" { // who is visited there speaks no HTTP
						continue
					}
					if said, err := reach(t, host); err != nil || said != "secret" || !r.outer.at(want) {
						t.Errorf("%s by %s: %q, %v", host, way, said, err)
					}
				}
			}
			r.outer.forget()
			attempts := 0
			for _, host := range slices.Concat(liars(), c.names) {
				for way, reach := range ways {
					attempts++
					if said, err := reach(t, host); err == nil {
						t.Errorf("%s by its %s: %q", host, way, said)
					}
				}
			}
			for _, address := range slices.Concat(forbidden, c.addresses) {
				for way, reach := range map[string]func(*testing.T, string) (string, error){"itself": r.byAddress, "proxy": r.byProxy, "URL": r.byURL} {
					attempts++
					if said, err := reach(t, address); err == nil {
						t.Errorf("%s by %s: %q", address, way, said)
					}
				}
			}
			if from := slices.Concat(r.outer.all(), r.inner.all()); len(from) > 0 {
				t.Errorf("visited: %v", from)
			}
			if attempts < 40 {
				t.Errorf("only %d attempts", attempts)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.told["tcp 10.1.2.3:80"] == 0 && r.told["tcp private.test:80"] == 0 {
				t.Errorf("refusals are not told: %v", r.told)
			}
		})
	}
}

// TestANameThatChangesItsAddressIsRefused has a name that is allowed lead to a metadata service once it was looked up.
func TestANameThatChangesItsAddressIsRefused(t *testing.T) {
	r := newRuled(t, allowing(t, "rebound.test"))
	if said, err := r.byName(t, "rebound.test"); err != nil || said != "secret" {
		t.Fatalf("%q, %v", said, err)
	}
	r.outer.forget()
	if said, err := r.byName(t, "rebound.test"); err == nil || len(r.outer.all()) > 0 {
		t.Errorf("%q, %v", said, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.told["tcp rebound.test:80"] == 0 {
		t.Errorf("told of %v", r.told)
	}
}

func TestPrivateNetworksThatAreNamed(t *testing.T) {
	p := network.Policy{Nameable: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd12:3456::/32")}}
	for text, good := range map[string]bool{
		"10.1.0.0/16": true, "10.1.2.3": true, "fd12:3456::/48": true, "0.0.0.0/0": true, "::/0": true, "8.0.0.0/6": true, "93.184.216.0/24": true, "2000::/3": true,
		"192.168.0.0/16": false, "10.0.0.0/8": true, "fd00::/8": false, "127.0.0.0/8": false, "127.0.0.1": false, "169.254.169.254": false, "169.254.0.0/16": false, "::1": false, "fe80::/10": false,
		"224.0.0.0/4": false, "fd00:ec2::254": false, "64:ff9b::a01:203": false, "192.0.0.1": false, "198.18.0.0/15": false,
	} {
		if _, err := p.NewRules([]string{text}, nil); (err == nil) != good || err != nil && !errors.Is(err, network.ErrClosed) {
			t.Errorf("%s: %v", text, err)
		}
	}
	r := newRuled(t, func(own network.Policy) *network.Rules {
		p.Own = own.Own
		return allowing(t, "10.0.0.0/8:80", "private.test", "private2.test")(p)
	})
	for host, good := range map[string]bool{"10.1.2.3": true, "192.168.7.7": false, "203.0.113.5": false} {
		if _, err := r.byAddress(t, host); (err == nil) != good {
			t.Errorf("%s: %v", host, err)
		}
		if _, err := r.byProxy(t, host); (err == nil) != good {
			t.Errorf("%s by the proxy: %v", host, err)
		}
	}
	for host, good := range map[string]bool{"private.test": true, "private2.test": false} {
		if _, err := r.byName(t, host); (err == nil) != good {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestRulesChange(t *testing.T) {
	r := newRuled(t, allowing(t, "good.test", "93.184.216.34:81"))
	go echo(r.outside.listen(t, "[::]:81"))
	good, err := r.resolver().LookupNetIP(t.Context(), "ip4", "good.test.")
	if err != nil || len(good) != 1 {
		t.Fatal(good, err)
	}
	open := map[string]net.Conn{}
	for _, at := range []string{good[0].Unmap().String() + ":81", public4 + ":81"} {
		c, err := r.box.Dial(t.Context(), "tcp", at)
		if err != nil {
			t.Fatal(at, err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "x"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		open[at] = c
	}
	r.stack.SetRules(allowing(t, "elsewhere.test", "93.184.216.34:81")(r.options.Policy))
	if _, err := open[good[0].Unmap().String()+":81"].Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("what is not allowed any more goes on: %v", err)
	}
	if said, err := say(open[public4+":81"], "goes on"); err != nil || said != "goes on" {
		t.Errorf("what is still allowed is cut: %q, %v", said, err)
	}
	if _, err := r.byName(t, "good.test"); err == nil {
		t.Error("a name of before is reached")
	}
	if _, err := r.byAddress(t, good[0].Unmap().String()); err == nil {
		t.Error("the address of a name of before is reached")
	}
	if _, err := r.byName(t, "elsewhere.test"); err != nil {
		t.Error(err)
	}
	r.stack.SetRules(nil)
	for _, at := range []string{good[0].Unmap().String(), public4} {
		if said, err := r.byAddress(t, at); err != nil || said != "secret" {
			t.Errorf("with all of the network, %s: %q, %v", at, said, err)
		}
	}
}

// A private range that rules open no more is closed to what is open, by whatever name or rule that was made.
func TestRulesClosePrivateRanges(t *testing.T) {
	r := newRuled(t, nil)
	p := r.options.Policy
	p.Nameable = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	go echo(r.outside.listen(t, "[::]:81"))
	for _, narrower := range [][]string{{"private.test"}, {"0.0.0.0/0", "private.test"}, nil} {
		r.stack.SetRules(allowing(t, "private.test", "10.0.0.0/8")(p))
		found, err := r.resolver().LookupNetIP(t.Context(), "ip4", "private.test.")
		if err != nil {
			t.Fatal(err)
		}
		var open []net.Conn
		for _, at := range []string{found[0].Unmap().String() + ":81", "10.1.2.3:81"} {
			c, err := r.box.Dial(t.Context(), "tcp", at)
			if err != nil {
				t.Fatal(at, err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, "x"); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Fatalf("%s: %v", at, err)
			}
			open = append(open, c)
		}
		if narrower == nil {
			r.stack.SetRules(nil)
		} else {
			r.stack.SetRules(allowing(t, narrower...)(p))
		}
		for _, c := range open {
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Second)) // which only what goes on comes to
			if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, io.EOF) {
				t.Errorf("with %q, %s goes on: %v", narrower, c.RemoteAddr(), err)
			}
		}
	}
}

func TestDatagramsByRules(t *testing.T) {
	r := newRuled(t, allowing(t, "good.test", "private.test"))
	p := r.outside.listenPacket(t, public4+":99")
	go func() {
		b := make([]byte, 100)
		for {
			n, from, err := p.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = p.WriteTo(b[:n], from)
		}
	}()
	good, err := r.resolver().LookupNetIP(t.Context(), "ip4", "good.test.")
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[string]bool{good[0].Unmap().String(): true, public4: false, "198.19.255.254": false} {
		c, err := r.box.Dial(t.Context(), "udp", at+":99")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, "hello")
		if n, err := c.Read(make([]byte, 100)); (err == nil) != want {
			t.Errorf("%s: %d bytes, %v", at, n, err)
		}
	}
}

// TestProxy is an HTTP server behind the gateway's proxy.
func TestProxy(t *testing.T) {
	r := newRuled(t, allowing(t, "good.test"))
	l := r.outside.listen(t, public4+":8080")
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		fmt.Fprintf(w, "%s %s %s %s %q", q.Method, q.Host, q.RequestURI, body, q.Header.Get("Proxy-Authorization"))
	})}
	go server.Serve(l) // until it is closed
	t.Cleanup(func() { server.Close() })
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       r.box.Dial,
		Proxy:             func(*http.Request) (*url.URL, error) { return url.Parse("http://me:secret@192.0.0.1:3128") },
	}}
	resp, err := client.Post("http://good.test:8080/a?b=%20", "text/plain", strings.NewReader(strings.Repeat("x", 100_000)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || string(got) != "POST good.test:8080 /a?b=%20 "+strings.Repeat("x", 100_000)+` ""` {
		t.Errorf("%.100q, %v", got, err)
	}
	resp, err = client.Get("http://elsewhere.test:8080/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusForbidden || !strings.Contains(string(got), "no rule") {
		t.Errorf("%s: %s", resp.Status, got)
	}
	for _, bad := range []string{
		"x\r\n\r\n", "GET / HTTP/1.1\r\nHost: good.test\r\n\r\n", "CONNECT good.test HTTP/1.1\r\nHost: good.test\r\n\r\n", "CONNECT good.test:0 HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET https://good.test/ HTTP/1.1\r\nHost: good.test\r\n\r\n", "GET ftp://good.test/ HTTP/1.1\r\nHost: good.test\r\n\r\n", "\x16\x03\x01\x00\x00",
		"CONNECT good.test:99999 HTTP/1.1\r\n\r\n", "GET http://good.test/ HTTP/1.1\r\nX: " + strings.Repeat("x", 70_000) + "\r\n\r\n",
	} {
		c, err := r.box.Dial(t.Context(), "tcp", "192.0.0.1:3128")
		if err != nil {
			t.Fatal(err)
		}
		if said, _ := say(c, bad); said != "" && !strings.HasPrefix(said, "HTTP/1.1 400 ") {
			t.Errorf("%.60q: %.100q", bad, said)
		}
		c.Close()
	}
}

// TestProxyOfHostileServers has servers that answer without end, or not at all.
func TestProxyOfHostileServers(t *testing.T) {
	r := newRuled(t, allowing(t, "good.test"))
	l := r.outside.listen(t, public4+":8081")
	gone := make(chan error, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			q, err := http.ReadRequest(bufio.NewReader(c))
			if err != nil {
				c.Close()
				continue
			}
			if q.URL.Path == "/silent" {
				go func() {
					_, err := c.Read(make([]byte, 1))
					gone <- err
					c.Close()
				}()
				continue
			}
			line := []byte("X: " + strings.Repeat("x", 1000) + "\r\n")
			for _, err = io.WriteString(c, "HTTP/1.1 200 OK\r\n"); err == nil; {
				_, err = c.Write(line)
			}
			c.Close()
		}
	}()
	ask := func(path string) net.Conn {
		t.Helper()
		c, err := r.box.Dial(t.Context(), "tcp", "192.0.0.1:3128")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "GET http://good.test:8081%s HTTP/1.1\r\nHost: good.test:8081\r\n\r\n", path)
		return c
	}
	endless := ask("/endless")
	defer endless.Close()
	if resp, err := http.ReadResponse(bufio.NewReader(endless), nil); err != nil || resp.StatusCode != http.StatusBadGateway {
		t.Errorf("a head without end: %+v, %v", resp, err)
	}
	ask("/silent").Close()
	if err := <-gone; err == nil {
		t.Error("a server that nobody waits for any more is sent something")
	}
}

func TestNothingIsServedWithoutRules(t *testing.T) {
	r := newRuled(t, nil)
	if said, err := r.byProxy(t, "good.test"); err == nil {
		t.Errorf("a proxy says %q", said)
	}
}
