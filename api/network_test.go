package api_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
)

func TestParseDestination(t *testing.T) {
	at := netip.MustParsePrefix
	for text, want := range map[string]api.Destination{
		"example.org":              {Name: "example.org"},
		"Example.ORG.":             {Name: "example.org"},
		"example.org:443":          {Name: "example.org", Port: 443},
		"*.example.org":            {Name: "*.example.org"},
		"*.example.org:8443":       {Name: "*.example.org", Port: 8443},
		"*":                        {Name: "*"},
		"*:443":                    {Name: "*", Port: 443},
		"db":                       {Name: "db"},
		"_srv.example.org":         {Name: "_srv.example.org"},
		"xn--bcher-kva.example":    {Name: "xn--bcher-kva.example"},
		"192.0.2.7":                {Prefix: at("192.0.2.7/32")},
		"192.0.2.7:5432":           {Prefix: at("192.0.2.7/32"), Port: 5432},
		"10.1.0.0/16":              {Prefix: at("10.1.0.0/16")},
		"10.1.0.0/16:22":           {Prefix: at("10.1.0.0/16"), Port: 22},
		"0.0.0.0/0":                {Prefix: at("0.0.0.0/0")},
		"2001:db8::1":              {Prefix: at("2001:db8::1/128")},
		"2001:db8::/32":            {Prefix: at("2001:db8::/32")},
		"[2001:db8::1]":            {Prefix: at("2001:db8::1/128")},
		"[2001:db8::1]:443":        {Prefix: at("2001:db8::1/128"), Port: 443},
		"[2001:db8::/32]:443":      {Prefix: at("2001:db8::/32"), Port: 443},
		"::ffff:10.1.0.0/112":      {Prefix: at("10.1.0.0/16")},
		"::ffff:10.1.2.3":          {Prefix: at("10.1.2.3/32")},
		"1.2.3.4.in-addr.arpa.x-y": {Name: "1.2.3.4.in-addr.arpa.x-y"},
	} {
		if got, err := api.ParseDestination(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", " ", "*.", "a b", "http://example.org", "example.org/path", "example.org:", "example.org:0", "example.org:65536", "example.org:x", "a:1:2",
		"*example.org", "a.*.org", "**", "*.*.org", "-a.org", "a-.org", "a..org", ".a.org", "bücher.example", "a\x00b", "a\nb", "user@example.org",
		"10.1.2.3/8", "10.0.0.0/33", "10.0.0", "127.1", "2130706433", "0x7f000001", "0x7f.1", "010.0.0.1", "fe80::1%eth0", "[fe80::1%eth0]:1", "[::1", "::1]", "[::1]x", "[]", "::/129",
		strings.Repeat("a", 64) + ".org", strings.Repeat("a.", 127) + "org",
	} {
		if got, err := api.ParseDestination(text); err == nil {
			t.Errorf("%q is %+v", text, got)
		}
	}
}

func TestDestinationsHaveNames(t *testing.T) {
	for _, c := range []struct {
		destination, name string
		port              uint16
		want              bool
	}{
		{"example.org", "example.org", 1, true},
		{"example.org", "a.example.org", 1, false},
		{"example.org", "notexample.org", 1, false},
		{"example.org", "example.org.evil.test", 1, false},
		{"example.org:443", "example.org", 443, true},
		{"example.org:443", "example.org", 80, false},
		{"*.example.org", "a.example.org", 1, true},
		{"*.example.org", "a.b.example.org", 1, true},
		{"*.example.org", "example.org", 1, false},
		{"*.example.org", ".example.org", 1, false},
		{"*.example.org", "aexample.org", 1, false},
		{"*", "anything.test", 1, true},
		{"*", "", 1, false},
		{"10.0.0.0/8", "10.0.0.1", 1, false},
	} {
		d, err := api.ParseDestination(c.destination)
		if err != nil || d.Names(c.name, c.port) != c.want {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestNetworkRequest(t *testing.T) {
	for _, good := range []api.NetworkRequest{
		{}, {Mode: "full"}, {Mode: "none"}, {Mode: "packages"}, {Mode: "allow"}, {Allow: []string{"a.test"}}, {Mode: "packages", Allow: []string{"a.test"}},
		{Mode: "allow", Allow: make256()},
	} {
		if err := good.Validate(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	for field, bad := range map[string]api.NetworkRequest{
		"mode":     {Mode: "some"},
		"allow":    {Mode: "full", Allow: []string{"a.test"}},
		"allow[1]": {Allow: []string{"a.test", "http://b.test"}},
		"allow[0]": {Mode: "packages", Allow: []string{""}},
	} {
		var told *api.Error
		if err := bad.Validate(); !errors.As(err, &told) || told.Details["field"] != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	many := api.NetworkRequest{Allow: append(make256(), "b.test")}
	if err := many.Validate(); err == nil {
		t.Error("too many destinations pass")
	}
}

func make256() []string {
	all := make([]string, api.MaxAllow)
	for i := range all {
		all[i] = "a.test"
	}
	return all
}

func FuzzParseDestination(f *testing.F) {
	f.Add("*.example.org:443")
	f.Add("[2001:db8::/32]:1")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := api.ParseDestination(text)
		if err == nil && (d.Name == "") != d.Prefix.IsValid() {
			t.Errorf("%q is %+v", text, d)
		}
	})
}

func TestRefusalsAreBounded(t *testing.T) {
	var r api.Refusals
	for i := range 100 {
		r.Add(api.Refusal{Protocol: "tcp", Destination: string(rune('a'+i%20)) + ".test:80", Reason: "no rule"})
	}
	if err := r.Validate(); err != nil || len(r.Refusals) != api.MaxRefusals || r.Refusals[0].Count != 5 || r.More != 60 {
		t.Errorf("%+v, %v", r, err)
	}
}
