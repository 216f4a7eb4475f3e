package wire_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

const tcp = `{"transport":"tcp","ip":"127.0.0.1","shell_port":57503,"iopub_port":"40885","stdin_port":52597,
	"control_port":50160,"hb_port":42540,"key":"a0436f6c","signature_scheme":"hmac-sha256","kernel_name":"python3","jupyter_session":"x","later":{"a":1}}`

func TestParseConnection(t *testing.T) {
	info, err := wire.ParseConnection([]byte(tcp))
	if err != nil {
		t.Fatal(err)
	}
	if info.Key != "a0436f6c" || info.KernelName != "python3" || info.IOPubPort != 40885 {
		t.Errorf("got %+v", info)
	}
	data, err := json.Marshal(info)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := wire.ParseConnection(data); err != nil || again != info {
		t.Errorf("written and read: %+v, %v", again, err)
	}
}

func TestEndpoint(t *testing.T) {
	for _, c := range []struct{ transport, ip, want string }{
		{"tcp", "127.0.0.1", "tcp://127.0.0.1:2"},
		{"tcp", "::1", "tcp://[::1]:2"},
		{"tcp", "*", "tcp://127.0.0.1:2"},
		{"ipc", "/run/k2/s", "ipc:///run/k2/s-2"},
		{"ipc", "/" + strings.Repeat("x", 104), "ipc:///" + strings.Repeat("x", 104) + "-2"},
	} {
		info := wire.ConnectionInfo{Transport: c.transport, IP: c.ip, ControlPort: 2}
		if got, err := info.Endpoint(wire.Control); got != c.want || err != nil {
			t.Errorf("%s %s: %s, %v", c.transport, c.ip, got, err)
		}
	}
}

func TestParseConnectionNamesTheField(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{`{"transport"`, `["transport"`, "connection file"},
		{`"tcp"`, `"udp"`, "transport"},
		{`"tcp"`, `7`, "transport"},
		{`"127.0.0.1"`, `""`, "ip"},
		{`"tcp","ip":"127.0.0.1"`, `"ipc","ip":"/` + strings.Repeat("x", 105) + `"`, "ip: the socket path"},
		{`57503`, `0`, "shell_port"},
		{`57503`, `70000`, "shell_port"},
		{`"40885"`, `"4e3"`, "iopub_port"},
		{`52597`, `-1`, "stdin_port"},
		{`50160`, `null`, "control_port"},
		{`42540`, `1.5`, "hb_port"},
		{`"a0436f6c"`, `1`, "key"},
		{`hmac-sha256`, `none`, "signature_scheme"},
		{`"later"`, `"curve_publickey":"Z85","later"`, "curve_publickey"},
	} {
		data := strings.Replace(tcp, c.old, c.new, 1)
		if _, err := wire.ParseConnection([]byte(data)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.new, err)
		}
	}
}

func FuzzConnection(f *testing.F) {
	f.Add([]byte(tcp))
	f.Add([]byte(`{"transport":"ipc","ip":"/a","shell_port":1,"iopub_port":2,"stdin_port":3,"control_port":4,"hb_port":5,"key":""}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		info, err := wire.ParseConnection(data)
		if err != nil {
			return
		}
		for _, ch := range []wire.Channel{wire.Shell, wire.Control, wire.IOPub, wire.Stdin, wire.Heartbeat} {
			if e, err := info.Endpoint(ch); err != nil || !strings.HasPrefix(e, info.Transport+"://") {
				t.Fatalf("%s: %q, %v", ch, e, err)
			}
		}
	})
}
