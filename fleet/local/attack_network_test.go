package local_test

import "fmt"

// networkAttacks are on what can be reached by a network.
func networkAttacks(h *host) []attack {
	connect := func(addresses any) string {
		return fmt.Sprintf(`
def connect(address):
    with socket.create_connection((address, %d), 5) as s:
        s.recv(1)
return each(connect, %s)`, worldPort, addresses)
	}
	refused := only("TIMEOUTERROR", "GAIERROR", "ECONNREFUSED", "ECONNRESET", "ENETUNREACH", "EHOSTUNREACH", "ETIMEDOUT", "ENETDOWN", "EACCES", "EINVAL", "EADDRNOTAVAIL")
	return []attack{
		{"the outside, which is no attack", connect(list(publicAddresses...)), `done\(.*\) done\(.*\)`, rootNamespace},
		{"the host's loopback", connect(`["127.0.0.1", "127.9.9.9", "localhost", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1", "127.1", "2130706433"]`), refused, namespace},
		{"the host's loopback by the gateway", connect(`["192.0.0.1", "192.0.0.3", "fd6b:3273:616e::1"]`), refused, namespace},
		{"the host's own addresses", connect(list(hostAddresses...)), refused, namespace},
		{"metadata services and private networks", connect(list(outsideAddresses...)), refused, namespace},
		{"private networks in other spellings", connect(`["::ffff:169.254.169.254", "fe80::1%eth0", "0251.0376.0251.0376", "2852039166", "0xa9fea9fe"]`), refused, namespace},
		{"the same by datagrams", fmt.Sprintf(`
def ask(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(0.2)
        s.connect((address, %d))
        s.send(b"x")
        s.recv(1)
return each(ask, %s)`, worldPort, list("127.0.0.1", "203.0.113.5", "169.254.169.254")), refused, namespace},
		{"another sandbox's port", connect(`["192.0.0.2", "fd6b:3273:616e::2"]`), refused, namespace},
		{"raw sockets", `return each(lambda p: socket.socket(*p), [(socket.AF_INET, socket.SOCK_RAW, 1), (socket.AF_INET, socket.SOCK_RAW, 255), (socket.AF_INET6, socket.SOCK_RAW, 58)])`, "EPERM", everyone},
		{"sockets of packets", `return each(lambda kind: socket.socket(17, kind, 0x0300), [socket.SOCK_RAW, socket.SOCK_DGRAM])`, "EAFNOSUPPORT", everyone},
		{"other addresses and routes", `
def ask(kind):
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as s:
        body = struct.pack("=BBBBI", 2, 32, 0, 0, 1) + struct.pack("=HH4s", 8, 2, bytes([10, 9, 8, 7])) if kind == 20 else struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 4, 0, 1, 0) + struct.pack("=HHI", 8, 4, 1) if kind == 24 else struct.pack("=BxHiII", 0, 0, 1, 0, 1)
        s.send(struct.pack("=IHHII", 16 + len(body), kind, 5 | 0x400, 1, 0) + body)
        code = struct.unpack("=i", s.recv(4096)[16:20])[0]
        if code:
            raise OSError(-code, "")
return each(ask, [20, 24, 16])`, "EPERM", everyone},
		{"the network device itself", `
request = struct.pack("16sH14x", b"eth0", 1)
with socket.socket() as s:
    return came_to(os.open, "/dev/net/tun", os.O_RDWR), came_to(fcntl.ioctl, s, 0x8914, request), came_to(fcntl.ioctl, s, 0x8916, struct.pack("16sHH4s8x", b"eth0", 2, 0, bytes([10, 9, 8, 7])))`, `\('(ENOENT|EACCES)', '(EPERM|ENODEV)', '(EPERM|ENODEV)'\)`, everyone},
		{"answers in the name of others", `
with socket.socket() as s:
    return came_to(s.setsockopt, 0, 19, 1), came_to(s.bind, ("203.0.113.5", 80)), came_to(s.setsockopt, socket.SOL_SOCKET, 36, 1)`, `\('EPERM', '(EADDRNOTAVAIL|EACCES)', 'EPERM'\)`, namespace},
		{"the firewall", `
with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as s:
    s.send(struct.pack("=IHHII", 20, 10 << 8 | 1, 5, 1, 0) + struct.pack("=BBH", 0, 0, 0))
    code = struct.unpack("=i", s.recv(4096)[16:20])[0]
    raise OSError(-code, "")`, "EPROTONOSUPPORT", everyone},
	}
}

// list spells a list of Python.
func list(words ...string) string {
	s := "["
	for _, w := range words {
		s += fmt.Sprintf("%q, ", w)
	}
	return s + "]"
}
