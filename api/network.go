package api

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// NetworkRequest says what a sandbox may reach: a part of what creates one, and the body of PUT /v1/sandboxes/{id}/network.
type NetworkRequest struct {
	Mode  NetworkMode `json:"mode,omitempty"`  // "" is NetworkAllow where there are destinations, else the server's default
	Allow []string    `json:"allow,omitempty"` // destinations of NetworkAllow, and beside the indexes of NetworkPackages: see ParseDestination
}

// NetworkMode is a kind of network.
type NetworkMode string

// The kinds of network that a sandbox can have.
const (
	NetworkFull     NetworkMode = "full"     // the internet, and neither the host's own addresses nor other sandboxes
	NetworkPackages NetworkMode = "packages" // the server's package indexes, and what is allowed besides
	NetworkAllow    NetworkMode = "allow"    // what is allowed, and nothing else
	NetworkNone     NetworkMode = "none"
)

// NetworkModes are all modes.
var NetworkModes = []NetworkMode{NetworkFull, NetworkPackages, NetworkAllow, NetworkNone}

// MaxAllow is how many destinations a sandbox can be allowed.
const MaxAllow = 256

// Validate returns an *Error that names the first wrong field.
func (n *NetworkRequest) Validate() error { return n.validate("") }

// Chosen returns the mode that is asked for; "" is the server's default.
func (n *NetworkRequest) Chosen() NetworkMode {
	if n.Mode == "" && len(n.Allow) > 0 {
		return NetworkAllow
	}
	return n.Mode
}

// validate is Validate of a part, whose name comes before those of the fields.
func (n *NetworkRequest) validate(part string) error {
	if n == nil {
		return nil
	}
	switch n.Chosen() {
	case "", NetworkFull, NetworkNone:
		if len(n.Allow) > 0 {
			return Invalid(part+"allow", "goes with the modes %q and %q, got %q", NetworkAllow, NetworkPackages, n.Mode)
		}
	case NetworkPackages, NetworkAllow:
	default:
		return Invalid(part+"mode", "expected one of %q, got %.100q", NetworkModes, n.Mode)
	}
	if len(n.Allow) > MaxAllow {
		return Invalid(part+"allow", "has %d destinations, %d are the most", len(n.Allow), MaxAllow)
	}
	for i, text := range n.Allow {
		if _, err := ParseDestination(text); err != nil {
			return Invalid(fmt.Sprintf("%sallow[%d]", part, i), "%v", err)
		}
	}
	return nil
}

// Destination is something to reach.
type Destination struct {
	Name   string       // of a host, in lower case; "*.example.org": of all below it, "*": of all. "": Prefix counts
	Prefix netip.Prefix // of addresses
	Port   uint16       // 0 is any
}

// ParseDestination reads a destination: the name of a host, "*.example.org" for all names below example.org, "*" for all names,
// an address, or a range of addresses (CIDR). ":PORT" may follow; addresses of IPv6 that have one are in brackets.
func ParseDestination(text string) (Destination, error) {
	host, port, err := splitPort(text)
	if err != nil {
		return Destination{}, err
	}
	if prefix, err := parsePrefix(host); err == nil {
		if prefix != prefix.Masked() {
			return Destination{}, fmt.Errorf("%.100q has address bits beyond its length: %s is the range", text, prefix.Masked())
		}
		return Destination{Prefix: prefix, Port: port}, nil
	}
	name := strings.ToLower(host)
	if name != "*." {
		name = strings.TrimSuffix(name, ".")
	}
	if err := checkName(name); err != nil {
		return Destination{}, fmt.Errorf("%.100q is neither a host, a wildcard (*.example.org) nor a range of addresses (CIDR): %w", text, err)
	}
	return Destination{Name: name, Port: port}, nil
}

// Names reports whether the destination has a name, in lower case and without a dot at its end, at a port.
func (d Destination) Names(name string, port uint16) bool {
	if d.Name == "" || d.Port != 0 && d.Port != port {
		return false
	}
	below, wild := strings.CutPrefix(d.Name, "*")
	return d.Name == name || wild && strings.HasSuffix(name, below) && len(name) > len(below)
}

// Contains reports whether the destination has an address at a port.
func (d Destination) Contains(a netip.Addr, port uint16) bool {
	return d.Name == "" && (d.Port == 0 || d.Port == port) && d.Prefix.Contains(a)
}

// splitPort takes the port off a destination.
func splitPort(text string) (host string, port uint16, err error) {
	host, rest, inBrackets := strings.Cut(strings.TrimPrefix(text, "["), "]")
	switch bracketed := strings.HasPrefix(text, "["); {
	case bracketed && !inBrackets, bracketed && rest != "" && rest[0] != ':':
		return "", 0, fmt.Errorf("%.100q has a bracket too many", text)
	case bracketed && rest == "":
		return host, 0, nil
	case bracketed:
		rest = rest[1:]
	case strings.Count(text, ":") != 1:
		return text, 0, nil
	default:
		host, rest, _ = strings.Cut(text, ":")
	}
	n, err := strconv.ParseUint(rest, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("%.100q has no port from 1 to 65535 after its colon", text)
	}
	return host, uint16(n), nil
}

// parsePrefix reads an address or a range of them.
func parsePrefix(text string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		var a netip.Addr
		if a, err = netip.ParseAddr(text); err != nil {
			return prefix, err
		}
		if a.Zone() != "" {
			return prefix, fmt.Errorf("%s has a zone", a)
		}
		prefix = netip.PrefixFrom(a, a.BitLen())
	}
	if a := prefix.Addr(); a.Is4In6() && prefix.Bits() >= 96 {
		prefix = netip.PrefixFrom(a.Unmap(), prefix.Bits()-96)
	}
	return prefix, nil
}

// checkName tells why a text is no name of a host (RFC 1123, section 2.1) or wildcard.
func checkName(name string) error {
	if name == "*" {
		return nil
	}
	name = strings.TrimPrefix(name, "*.")
	if name == "" || len(name) > 253 {
		return fmt.Errorf("a name has 1 to 253 characters")
	}
	label := ""
	for label = range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return fmt.Errorf("%.70q is no part of a name", label)
		}
		if at := strings.IndexFunc(label, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_' }); at >= 0 {
			return fmt.Errorf("%.70q has other characters than letters, digits, - and _ (international names are written as xn--…)", label)
		}
	}
	if _, err := strconv.ParseUint(label, 0, 64); err == nil || strings.Trim(label, "0123456789") == "" {
		return fmt.Errorf("it ends in a number")
	}
	return nil
}

// Refusal is something that a sandbox wanted to reach and was refused.
type Refusal struct {
	Protocol    string `json:"protocol"`    // "tcp", "udp", or "dns": a name was asked for
	Destination string `json:"destination"` // an address and port, a name and port, or a name
	Reason      string `json:"reason"`
	Count       int    `json:"count"` // how often, since it was told before
}

// Refusals are what a server tells a sandbox's agent of.
type Refusals struct {
	Refusals []Refusal `json:"refusals"`
	More     int       `json:"more"` // others beside
}

// MaxRefusals is how many are told of at a time.
const MaxRefusals = 8

// Add adds one, where there is room.
func (r *Refusals) Add(one Refusal) {
	for i := range r.Refusals {
		if same := &r.Refusals[i]; same.Protocol == one.Protocol && same.Destination == one.Destination && same.Reason == one.Reason {
			same.Count++
			return
		}
	}
	if len(r.Refusals) == MaxRefusals {
		r.More++
		return
	}
	one.Count = 1
	r.Refusals = append(r.Refusals, one)
}

// Validate returns an *Error that names the first wrong field.
func (r *Refusals) Validate() error {
	if len(r.Refusals) > MaxRefusals {
		return Invalid("refusals", "are %d, %d are the most", len(r.Refusals), MaxRefusals)
	}
	return nil
}
