package network

import (
	"fmt"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// aliasTTL is how long, in seconds, a sandbox may keep an address that stands for a name.
const aliasTTL = 60

// answerBy answers a question of a sandbox with rules, of which nothing leaves this process: an address that stands for
// the name where some rule has it, and else that there is no such name. Of IPv6 addresses and other records there are none.
func (s *Stack) answerBy(rules *Rules, question []byte) []byte {
	var p dnsmessage.Parser
	head, err := p.Start(question)
	if err != nil {
		return reply(question, rcodeRefused)
	}
	q, err := p.Question()
	if err != nil {
		return reply(question, rcodeRefused)
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: head.ID, Response: true, RecursionDesired: head.RecursionDesired, RecursionAvailable: true},
		Questions: []dnsmessage.Question{q},
	}
	switch name := strings.ToLower(strings.TrimSuffix(q.Name.String(), ".")); {
	case !rules.names(name, 0):
		m.RCode = dnsmessage.RCodeNameError
		if !strings.HasSuffix(name, ".arpa") { // who asks for the name of an address wants to reach nothing
			s.refuse("dns", legible(name), fmt.Errorf("%w: %s: %w", ErrRefused, legible(name), errNoRule))
		}
	case q.Type == dnsmessage.TypeA && q.Class == dnsmessage.ClassINET:
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: aliasTTL},
			Body:   &dnsmessage.AResource{A: s.aliases.of(name).As4()},
		}}
	}
	b, err := m.Pack()
	if err != nil {
		return reply(question, rcodeServerFailure)
	}
	return b
}
