package network_test

import (
	"slices"
	"testing"

	"github.com/k2sandbox/k2sandbox/fleet/local/network"
)

func TestTranslate(t *testing.T) {
	for _, c := range []struct {
		in, out   string
		endpoints []network.Endpoint
	}{
		{"HTTP_PROXY=http://127.0.0.1:3128", "HTTP_PROXY=http://192.0.0.1:3128", []network.Endpoint{{Host: "127.0.0.1", Port: 3128}}},
		{"https_proxy=localhost:3128", "https_proxy=192.0.0.1:3128", []network.Endpoint{{Host: "localhost", Port: 3128}}},
		{"http_proxy=proxy:3128", "http_proxy=proxy:3128", []network.Endpoint{{Host: "proxy", Port: 3128}}},
		{"ALL_PROXY=socks5h://u:p@[::1]/", "ALL_PROXY=socks5h://u:p@192.0.0.1/", []network.Endpoint{{Host: "::1", Port: 1080}}},
		{"PIP_INDEX_URL=https://me:pw@10.0.0.7/simple?x#y", "PIP_INDEX_URL=https://me:pw@10.0.0.7/simple?x#y", []network.Endpoint{{Host: "10.0.0.7", Port: 443}}},
		{"PIP_INDEX_URL=http://me:l@calhost@localhost/simple", "PIP_INDEX_URL=http://me:l@calhost@192.0.0.1/simple", []network.Endpoint{{Host: "localhost", Port: 80}}},
		{"PIP_EXTRA_INDEX_URL=http://0.0.0.0:81/a  http://b.test:82/c", "PIP_EXTRA_INDEX_URL=http://192.0.0.1:81/a  http://b.test:82/c", []network.Endpoint{{Host: "0.0.0.0", Port: 81}, {Host: "b.test", Port: 82}}},
		{"UV_INDEX=mine=http://localhost:8000/simple other=https://b.test/s", "UV_INDEX=mine=http://192.0.0.1:8000/simple other=https://b.test/s", []network.Endpoint{{Host: "localhost", Port: 8000}, {Host: "b.test", Port: 443}}},
		{"GOPROXY=http://127.0.0.1:8081|https://p.test,direct", "GOPROXY=http://192.0.0.1:8081|https://p.test,direct", []network.Endpoint{{Host: "127.0.0.1", Port: 8081}, {Host: "p.test", Port: 443}}},
		{"PIP_TRUSTED_HOST=localhost:8000", "PIP_TRUSTED_HOST=192.0.0.1:8000", nil},
		{"PIP_FIND_LINKS=/srv/wheels", "PIP_FIND_LINKS=/srv/wheels", nil},
		{"PIP_INDEX_URL=file:///srv/simple", "PIP_INDEX_URL=file:///srv/simple", nil},
		{"PIP_INDEX_URL=http://localhost:99999/", "PIP_INDEX_URL=http://192.0.0.1:99999/", nil},
		{"DATABASE_URL=http://localhost:5432", "DATABASE_URL=http://localhost:5432", nil},
		{"NO_PROXY=localhost,a.test", "NO_PROXY=localhost,a.test", nil},
		{"HTTP_PROXY=", "HTTP_PROXY=", nil},
		{"HTTP_PROXY", "HTTP_PROXY", nil},
		{"HTTP_PROXY=://:@:", "HTTP_PROXY=://:@:", nil},
	} {
		in := []string{c.in}
		out, proxies, indexes := network.Translate(in)
		endpoints := append(proxies, indexes...)
		if out[0] != c.out || !slices.Equal(endpoints, c.endpoints) {
			t.Errorf("%s\n got %s, %v\nwant %s, %v", c.in, out[0], endpoints, c.out, c.endpoints)
		}
		if in[0] != c.in {
			t.Errorf("the environment of the caller has changed: %s", in[0])
		}
	}
}

func TestTranslateGoesPastTheProxyAsBefore(t *testing.T) {
	out, proxies, indexes := network.Translate([]string{
		"HTTP_PROXY=http://proxy:3128", "PIP_INDEX_URL=http://localhost:8000/", "no_proxy=127.0.0.1, a.test", "UV_INDEX_URL=http://localhost:8000/",
	})
	want := []string{
		"HTTP_PROXY=http://proxy:3128", "PIP_INDEX_URL=http://192.0.0.1:8000/", "no_proxy=127.0.0.1, a.test,192.0.0.1", "UV_INDEX_URL=http://192.0.0.1:8000/",
	}
	if !slices.Equal(out, want) {
		t.Errorf("got %q", out)
	}
	if len(proxies) != 1 || len(indexes) != 1 {
		t.Errorf("endpoints twice, or as others: %v, %v", proxies, indexes)
	}
}

func FuzzTranslate(f *testing.F) {
	f.Add("http://me:pw@localhost:80/x")
	f.Add("[::1]:3128")
	f.Add("a=b=://@[/?#")
	f.Fuzz(func(t *testing.T, value string) {
		for _, name := range []string{"HTTP_PROXY", "UV_INDEX"} {
			if out, _, _ := network.Translate([]string{name + "=" + value}); len(out) != 1 {
				t.Errorf("%q", out)
			}
		}
	})
}

func TestResolvConf(t *testing.T) {
	const host = "# mine\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\nnameserver nonsense\nsearch a.test b.test\noptions edns0 trust-ad\n"
	if got := network.ResolvConf(host); got != "nameserver 192.0.0.1\nsearch a.test b.test\noptions edns0 trust-ad\n" {
		t.Errorf("got %q", got)
	}
	got := network.Resolvers(host)
	if len(got) != 2 || got[0].String() != "127.0.0.53:53" || got[1].String() != "[fe80::1%eth0]:53" {
		t.Errorf("got %v", got)
	}
	if got := network.Resolvers(""); len(got) != 1 || got[0].String() != "127.0.0.1:53" {
		t.Errorf("got %v", got)
	}
}

func TestHosts(t *testing.T) {
	const host = "127.0.0.1 localhost vm\n127.0.1.1 index.test # here\n::1 localhost ip6-loopback\n10.0.0.3 db.test db\nff02::1 ip6-allnodes\nbad line\n10.0.0.4 box\n"
	const want = "127.0.0.1 localhost box\n::1 localhost ip6-localhost ip6-loopback\n192.0.0.1 vm\n192.0.0.1 index.test\n10.0.0.3 db.test db\n"
	if got := network.Hosts(host, "box"); got != want {
		t.Errorf("got\n%s", got)
	}
}
