package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
)

// ConnectionInfo is a kernel's connection file. Keys that it does not know are ignored.
// https://jupyter-client.readthedocs.io/en/stable/kernels.html#connection-files
type ConnectionInfo struct {
	Transport       string `json:"transport"` // "tcp" or "ipc"
	IP              string `json:"ip"`        // for ipc: a prefix of the sockets' paths
	ShellPort       Port   `json:"shell_port"`
	IOPubPort       Port   `json:"iopub_port"`
	StdinPort       Port   `json:"stdin_port"`
	ControlPort     Port   `json:"control_port"`
	HBPort          Port   `json:"hb_port"`
	Key             string `json:"key"` // "": messages are not signed
	SignatureScheme string `json:"signature_scheme"`
	KernelName      string `json:"kernel_name,omitempty"`

	CurvePublicKey string `json:"curve_publickey,omitempty"` // of an encrypted transport, which Validate refuses
}

// Port is a TCP port or, for ipc, a small number that ends a socket's path.
// In JSON it may also be a string of digits (JEP 106).
type Port int

// UnmarshalJSON accepts 5555 and "5555".
func (p *Port) UnmarshalJSON(b []byte) error {
	s := string(b)
	if len(b) > 0 && b[0] == '"' {
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return fmt.Errorf("%s is not a port number", b)
	}
	*p = Port(n)
	return nil
}

// ParseConnection reads a connection file. The error names the field at fault.
func ParseConnection(data []byte) (ConnectionInfo, error) {
	// Each field by itself: the errors of Unmarshal do not say whose port it was.
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return ConnectionInfo{}, fmt.Errorf("connection file: %w", err)
	}
	info := ConnectionInfo{Transport: "tcp"}
	for name, to := range map[string]any{
		"transport": &info.Transport, "ip": &info.IP,
		"shell_port": &info.ShellPort, "iopub_port": &info.IOPubPort, "stdin_port": &info.StdinPort,
		"control_port": &info.ControlPort, "hb_port": &info.HBPort,
		"key": &info.Key, "signature_scheme": &info.SignatureScheme,
		"kernel_name": &info.KernelName, "curve_publickey": &info.CurvePublicKey,
	} {
		raw, ok := fields[name]
		if !ok {
			continue
		}
		if err := json.Unmarshal(raw, to); err != nil {
			return ConnectionInfo{}, fmt.Errorf("connection file: %s: %w", name, err)
		}
	}
	if err := info.Validate(); err != nil {
		return ConnectionInfo{}, fmt.Errorf("connection file: %w", err)
	}
	return info, nil
}

// Validate returns an error that names the first field which cannot be connected to.
func (c ConnectionInfo) Validate() error {
	if c.CurvePublicKey != "" {
		return errors.New("curve_publickey: encrypted transports are not supported")
	}
	if _, err := NewSigner(c.SignatureScheme, c.Key); err != nil {
		return err
	}
	for _, ch := range []Channel{Shell, IOPub, Stdin, Control, Heartbeat} {
		if _, err := c.Endpoint(ch); err != nil {
			return err
		}
	}
	return nil
}

// maxPath is the longest path of a unix socket (sun_path less its zero byte).
const maxPath = 107

// Endpoint returns the address of a channel: tcp://IP:PORT or ipc://IP-PORT.
func (c ConnectionInfo) Endpoint(ch Channel) (string, error) {
	port := map[Channel]Port{Shell: c.ShellPort, IOPub: c.IOPubPort, Stdin: c.StdinPort,
		Control: c.ControlPort, Heartbeat: c.HBPort}[ch]
	if port <= 0 || port > 65535 {
		return "", fmt.Errorf("%s_port: %d is not a port number", ch, port)
	}
	if c.IP == "" {
		return "", errors.New("ip: empty")
	}
	switch c.Transport {
	case "tcp":
		ip := c.IP
		if ip == "*" || ip == "0.0.0.0" { // what a kernel binds to is no place to connect to
			ip = "127.0.0.1"
		}
		return "tcp://" + net.JoinHostPort(ip, strconv.Itoa(int(port))), nil
	case "ipc":
		path := c.IP + "-" + strconv.Itoa(int(port))
		if len(path) > maxPath {
			return "", fmt.Errorf("ip: the socket path %s is longer than %d bytes", path, maxPath)
		}
		return "ipc://" + path, nil
	}
	return "", fmt.Errorf("transport: %q is not tcp or ipc", c.Transport)
}
