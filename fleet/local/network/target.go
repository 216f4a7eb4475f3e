package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// target is what a sandbox wants to reach: an address, or the name that it was given one for.
type target struct {
	name string // in lower case, without a dot at its end; "": the address counts
	to   netip.AddrPort
}

func (t target) String() string {
	if t.name == "" {
		return t.to.String()
	}
	return legible(t.name) + ":" + strconv.Itoa(int(t.to.Port()))
}

// legible is a name that a sandbox has made up, fit to be read.
func legible(name string) string {
	if strings.IndexFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) >= 0 {
		name = strconv.QuoteToASCII(name)
	}
	return name[:min(len(name), 300)]
}

// meant is what a sandbox means by an address.
func (s *Stack) meant(to netip.AddrPort) target {
	return target{s.aliases.name(to.Addr()), to}
}

// errNoRule is why something is refused that is not named.
var errNoRule = errors.New("no rule of this sandbox's network allows it")

// permit is nil unless a target is refused whatever its name's addresses are.
func (s *Stack) permit(rules *Rules, t target) error {
	switch a := t.to.Addr(); {
	case !rules.allows(t):
		return fmt.Errorf("%w: %s: %w", ErrRefused, t, errNoRule)
	case t.name != "" || isGateway(a):
		return nil
	case rules != nil && aliasRange.Contains(plain(a)):
		return fmt.Errorf("%w: %s stands for no name", ErrRefused, a)
	}
	return s.judge(rules, t.to)
}

// reach are the addresses to dial for a target, or why none.
func (s *Stack) reach(ctx context.Context, t target) ([]netip.AddrPort, error) {
	rules := s.rules.Load()
	switch err := s.permit(rules, t); {
	case errors.Is(err, errNoRule):
		return nil, err
	case err != nil:
		is := func(a netip.Addr) bool { return a == plain(t.to.Addr()) && rangeOf(a).kind != forbidden }
		if len(s.excepted(ctx, t.to.Port(), is)) == 0 {
			return nil, err
		}
	case t.name != "":
		return s.named(ctx, rules, t)
	case isGateway(t.to.Addr()):
		found := s.excepted(ctx, t.to.Port(), netip.Addr.IsLoopback)
		if len(found) == 0 {
			return nil, fmt.Errorf("%w: the gateway serves nothing at port %d", ErrRefused, t.to.Port())
		}
		return found, nil
	}
	return []netip.AddrPort{t.to}, nil
}

// judge is the policy's word on an address, where the rules may open a private one.
func (s *Stack) judge(rules *Rules, to netip.AddrPort) error {
	p := s.o.Policy
	p.AllowPrivate = p.AllowPrivate || rules != nil && rules.open(to)
	return p.Check(to.Addr())
}

// named looks a name up, and are those of its addresses that the policy lets be dialled: what a name server says
// opens nothing.
func (s *Stack) named(ctx context.Context, rules *Rules, t target) ([]netip.AddrPort, error) {
	found, err := s.lookup(ctx, t.name)
	if err != nil {
		return nil, fmt.Errorf("cannot look up %s: %w", legible(t.name), err)
	}
	configured := slices.ContainsFunc(s.o.Policy.Exceptions, func(e Endpoint) bool {
		return e.Port == t.to.Port() && strings.EqualFold(strings.TrimSuffix(e.Host, "."), t.name)
	})
	var reached []netip.AddrPort
	for _, a := range found[:min(len(found), maxAddresses)] {
		to := netip.AddrPortFrom(dialled(a), t.to.Port())
		bad := s.judge(rules, to)
		if bad == nil || configured && rangeOf(to.Addr()).kind != forbidden {
			reached = append(reached, to)
		} else {
			err = fmt.Errorf("%w (%s)", bad, legible(t.name))
		}
	}
	if len(reached) == 0 && err == nil {
		err = fmt.Errorf("cannot look up %s: it has no addresses", legible(t.name))
	}
	if len(reached) > 0 {
		err = nil
	}
	return reached, err
}

// lookup asks for the addresses of a name as it stands, without the host's search list. It takes a socket beside that of who
// dials: there is one for addresses of each version.
func (s *Stack) lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	if !s.lookups.take() {
		return nil, errors.New("too many names are being looked up")
	}
	defer s.lookups.give()
	if !s.o.Sockets.take() {
		return nil, errors.New("too many sockets")
	}
	defer s.o.Sockets.give()
	return s.o.Lookup(ctx, name+".")
}

// maxAddresses is how many addresses of a name are tried.
const maxAddresses = 8

// dial connects to a target, where the rules and the policy let it.
func (s *Stack) dial(ctx context.Context, network string, t target) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	targets, err := s.reach(ctx, t)
	if err != nil {
		if errors.Is(err, ErrRefused) {
			s.refuse(network, t.String(), err)
		}
		return nil, err
	}
	var out net.Conn
	for _, to := range targets { // each has its share of the time
		one, cancel := context.WithTimeout(ctx, dialTimeout/time.Duration(len(targets)))
		out, err = s.o.Dial(one, network, to.String())
		cancel()
		if err == nil {
			return out, nil
		}
	}
	return nil, err
}
