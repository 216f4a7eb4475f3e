package network

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// proxies and indexes are the variables that name hosts which code inside is meant to
// reach: proxies, and package indexes with their mirrors. Case does not matter.
var (
	proxies = []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY", "PIP_PROXY"}
	indexes = []string{
		"PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_TRUSTED_HOST",
		"UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS", "UV_INSECURE_HOST",
		"NPM_CONFIG_REGISTRY", "YARN_REGISTRY", "GOPROXY", "CONDA_CHANNEL_ALIAS",
	}
)

// Translate makes an environment of the server one for sandboxes: proxies and package
// indexes on the host's loopback are named by the gateway's address. The endpoints are
// those of all proxies, and those of all indexes, for [Policy].Exceptions, each once. Other variables stay
// as they are.
func Translate(environ []string) (out []string, proxied, indexed []Endpoint) {
	out = slices.Clone(environ)
	moved := false
	for i, e := range out {
		name, value, _ := strings.Cut(e, "=")
		name = strings.ToUpper(name)
		if !slices.Contains(proxies, name) && !slices.Contains(indexes, name) {
			continue
		}
		trust := strings.HasSuffix(name, "_HOST") // in what an index is, which another variable names
		fields := separated(value)
		for j, field := range fields {
			at := authority(field, trust || slices.Contains(proxies, name))
			if at == nil {
				continue
			}
			if at.port != 0 && !trust {
				e, to := Endpoint{at.host, at.port}, &indexed
				if slices.Contains(proxies, name) {
					to = &proxied
				}
				*to = append(*to, e)
			}
			if loopback(at.host) {
				fields[j] = at.before + Gateway4.String() + at.after
				moved = true
			}
		}
		out[i] = e[:len(e)-len(value)] + strings.Join(fields, "")
	}
	if moved {
		unproxied(out)
	}
	return out, unique(proxied), unique(indexed)
}

// ByRules makes of an environment, as Translate gives it, that of a sandbox with [Rules], for which the gateway is
// what any proxy was.
func ByRules(environ []string) []string {
	out := slices.Clone(environ)
	for i, e := range out {
		name, value, _ := strings.Cut(e, "=")
		if slices.Contains(proxies, strings.ToUpper(name)) && value != "" {
			out[i] = name + "=http://" + Endpoint{Gateway4.String(), ProxyPort}.String()
		}
	}
	return out
}

// unproxied lets the gateway go past a proxy where loopback did.
func unproxied(environ []string) {
	for i, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		if strings.ToUpper(name) == "NO_PROXY" && slices.ContainsFunc(strings.Split(value, ","), func(host string) bool {
			return loopback(strings.TrimSpace(host))
		}) {
			environ[i] = e + "," + Gateway4.String()
		}
	}
}

// separated are the fields of a list and, between them, what separates them: spaces, and
// the commas and bars of GOPROXY.
func separated(value string) []string {
	var fields []string
	for value != "" {
		n := strings.IndexAny(value, " \t\n,|")
		switch {
		case n < 0:
			n = len(value)
		case n == 0:
			n = 1
		}
		fields, value = append(fields, value[:n]), value[n:]
	}
	return fields
}

// place is where in a text a host stands.
type place struct {
	host          string
	port          uint16 // 0 if none is named and none is usual
	before, after string // the text around the host; after has the port
}

// authority finds the host of a URL (RFC 3986, section 3.2), before which a name and "="
// may stand, as in UV_INDEX. Where bare, a host needs no scheme. Nil if there is none.
func authority(text string, bare bool) *place {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		if !bare {
			return nil
		}
		scheme, rest = "", text
	}
	if _, after, named := strings.Cut(scheme, "="); named {
		scheme = after
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	host := rest[:end]
	host = host[strings.LastIndexByte(host, '@')+1:]
	start := len(text) - len(rest) + end - len(host)
	port := ""
	if _, p, err := net.SplitHostPort(host); err == nil {
		port = p
		host = host[:len(host)-len(p)-1]
	}
	at := &place{
		host:   strings.Trim(host, "[]"),
		before: text[:start],
		after:  text[start+len(host):],
	}
	if at.host == "" {
		return nil
	}
	at.port = portOf(scheme, port)
	return at
}

// portOf is a port, or a scheme's usual one.
func portOf(scheme, port string) uint16 {
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return 0
		}
		return uint16(n)
	}
	switch strings.ToLower(strings.TrimPrefix(scheme, "git+")) {
	case "http", "":
		return 80
	case "https":
		return 443
	case "socks4", "socks4a", "socks5", "socks5h":
		return 1080
	}
	return 0
}

// loopback tells if a host's name or address is the host's loopback, or unspecified,
// which leads there too.
func loopback(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && dialled(a).IsLoopback()
}

func unique(list []Endpoint) []Endpoint {
	var out []Endpoint
	for _, e := range list {
		if !slices.Contains(out, e) {
			out = append(out, e)
		}
	}
	return out
}
