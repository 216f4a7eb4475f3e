package main_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/k2sandbox/k2sandbox/api"
)

// openGateway starts a gateway as variables say.
func openGateway(t *testing.T, env []string, flags ...string) *house {
	t.Helper()
	state := filepath.Join(t.TempDir(), "state")
	args := append([]string{"gateway", "--python", interpreter, "--state-dir", state, "--log-json"}, flags...)
	return listening(t, call{args: args, env: env}, state, "")
}

// message is a message of a kernel or for one, as a text frame has it.
type message struct {
	Channel string         `json:"channel"`
	Header  map[string]any `json:"header"`
	Parent  map[string]any `json:"parent_header"`
	Meta    map[string]any `json:"metadata"`
	Content map[string]any `json:"content"`
}

// joined is a client of a kernel.
type joined struct {
	t    *testing.T
	conn *websocket.Conn
}

// join connects to a kernel, as far as the test lasts.
func (h *house) join(t *testing.T, kernel, query string) *joined {
	t.Helper()
	return h.joinWith(t, kernel, query, nil)
}

func (h *house) joinWith(t *testing.T, kernel, query string, o *websocket.DialOptions) *joined {
	t.Helper()
	conn, resp, err := websocket.Dial(t.Context(), h.base+"/api/kernels/"+kernel+"/channels?session_id=s1"+query, o)
	if err != nil {
		t.Fatal(err, resp)
	}
	conn.SetReadLimit(1 << 20)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return &joined{t, conn}
}

// run sends a cell and returns what it prints.
func (j *joined) run(code string) string {
	j.t.Helper()
	request, err := json.Marshal(message{
		Channel: "shell", Parent: map[string]any{}, Meta: map[string]any{},
		Header:  map[string]any{"msg_id": code, "msg_type": "execute_request", "session": "s1", "username": "ada", "version": "5.3", "date": "2026-01-01T00:00:00.000000Z"},
		Content: map[string]any{"code": code, "silent": false},
	})
	if err != nil {
		j.t.Fatal(err)
	}
	if err := j.conn.Write(j.t.Context(), websocket.MessageText, request); err != nil {
		j.t.Fatal(err)
	}
	printed, replied, idle := "", false, false
	for !replied || !idle {
		m := j.next(j.t.Context())
		switch {
		case m.Parent["msg_id"] != code:
		case m.Header["msg_type"] == "stream":
			printed += m.Content["text"].(string)
		case m.Header["msg_type"] == "execute_reply":
			replied = true
		case m.Header["msg_type"] == "status" && m.Content["execution_state"] == "idle":
			idle = true
		}
	}
	return printed
}

func (j *joined) next(ctx context.Context) (m message) {
	j.t.Helper()
	_, text, err := j.conn.Read(ctx)
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil {
		j.t.Fatal(err)
	}
	return m
}

func TestGateway(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := strconv.Itoa(taken.Addr().(*net.TCPAddr).Port)
	h := openGateway(t, []string{
		"KG_AUTH_TOKEN=secret-of-kg", "KG_PORT=" + port, "KG_BASE_URL=/kg/", "KG_MAX_KERNELS=2", "KG_ENV_WHITELIST=LEVEL", "KG_ENV_PROCESS_WHITELIST=SITE,KG_AUTH_TOKEN", "SITE=here",
		"KG_NO_SUCH=1", "KG_ALLOW_ORIGIN=https://lab.example.org",
	})
	if !strings.HasSuffix(h.base, "/kg") || strings.Contains(h.base, port) {
		t.Errorf("it listens at %s", h.base)
	}
	h.ask(t, "GET", "/api/kernels", "", 401, nil)
	h.key = "secret-of-kg"
	var k api.JupyterKernel
	h.ask(t, "POST", "/api/kernels", `{"name":"python3","env":{"KERNEL_WHO":"ada","LEVEL":"3","OTHER":"x"}}`, 201, &k)
	client := h.join(t, k.ID, "&token=secret-of-kg")
	const ask = "import os; print([os.environ.get(n) for n in ('KERNEL_WHO', 'LEVEL', 'OTHER', 'SITE', 'KERNEL_GATEWAY', 'KG_AUTH_TOKEN')])"
	if got := client.run(ask); got != "['ada', '3', None, 'here', '1', None]\n" {
		t.Errorf("it prints %q", got)
	}
	var all []api.JupyterKernel
	if h.ask(t, "GET", "/api/kernels", "", 200, &all); len(all) != 1 || all[0].ID != k.ID || all[0].Connections != 1 {
		t.Errorf("there are %+v", all)
	}
	var other api.JupyterKernel
	h.ask(t, "POST", "/api/kernels", `{"name":"bash"}`, 201, &other)
	h.ask(t, "POST", "/api/kernels", `{}`, 403, nil)
	h.ask(t, "DELETE", "/api/kernels/"+k.ID, "", 204, nil)
	h.ask(t, "DELETE", "/api/kernels/"+other.ID, "", 204, nil)
	if h.ask(t, "GET", "/api/kernels", "", 200, &all); len(all) != 0 {
		t.Errorf("there are %+v", all)
	}
	h.stopped(t)
	for _, part := range []string{"KG_NO_SUCH has no effect"} {
		if !strings.Contains(h.log.String(), part) {
			t.Errorf("%q is not in the log: %s", part, h.log)
		}
	}
	if strings.Contains(h.log.String(), "secret-of-kg") {
		t.Errorf("the token is in the log: %s", h.log)
	}
}

// Kernels begin with a notebook, some before anybody asks for one.
func TestGatewaySeedsAndPrespawns(t *testing.T) {
	t.Parallel()
	seed := filepath.Join(t.TempDir(), "seed.ipynb")
	const cells = `{"cell_type":"markdown","source":"1/0","metadata":{}},` +
		`{"cell_type":"code","source":["import os\n","seeded = 6 * 7"],"outputs":[],"execution_count":null,"metadata":{}},` +
		`{"cell_type":"code","source":"1 / int(os.environ.get('KERNEL_ONE', 1))","outputs":[],"execution_count":null,"metadata":{}}`
	const text = `{"cells":[` + cells + `],"metadata":{"kernelspec":{"name":"python3","display_name":"Python 3"}},"nbformat":4,"nbformat_minor":4}`
	if err := os.WriteFile(seed, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h := openGateway(t, []string{"KG_SEED_URI=" + seed, "KG_PRESPAWN_COUNT=1", "KG_WS_PING_INTERVAL_SECS=1", "KG_TRUST_XHEADERS=True", "KG_PORT_RETRIES=1000"})
	var all []api.JupyterKernel
	for len(all) == 0 {
		h.ask(t, "GET", "/api/kernels", "", 200, &all)
	}
	pinged := make(chan struct{}, 100)
	j := h.joinWith(t, all[0].ID, "", &websocket.DialOptions{OnPingReceived: func(context.Context, []byte) bool {
		select {
		case pinged <- struct{}{}:
		default:
		}
		return true
	}})
	if got := j.run("import time; print(seeded); time.sleep(2)"); got != "42\n" {
		t.Errorf("a kernel of before prints %q", got)
	}
	<-pinged
	var k, other api.JupyterKernel
	h.ask(t, "POST", "/api/kernels", "null", 201, &k)
	if got := h.join(t, k.ID, "").run("print(seeded)"); got != "42\n" {
		t.Errorf("a kernel prints %q", got)
	}
	h.ask(t, "POST", "/api/kernels", `{"name":"bash"}`, 201, &other) // for which there is no notebook
	h.ask(t, "POST", "/api/kernels", `{"env":{"KERNEL_ONE":"0"}}`, 500, nil)
	h.ask(t, "POST", "/api/sessions", "null", 400, nil)
	if h.ask(t, "GET", "/api/kernels", "", 200, &all); len(all) != 3 {
		t.Errorf("there are %+v", all)
	}
	req, err := http.NewRequestWithContext(t.Context(), "DELETE", h.base+"/api/kernels/"+other.ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Forwarded-For", "203.0.113.9, 192.0.2.7")
	resp, err := h.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	h.stopped(t)
	if !strings.Contains(h.log.String(), "192.0.2.7:0") {
		t.Errorf("where a client is that a proxy tells of is not in the log: %s", h.log)
	}
}

// A kernel that a notebook made and a context of the native API are one thing seen twice.
func TestJupyterAndNativeSeeTheSame(t *testing.T) {
	t.Parallel()
	h := openHouse(t)
	box := h.create(t)
	h.in(box.SandboxID).printed(t, "x = 6 * 7")
	var specs api.JupyterSpecs
	if h.ask(t, "GET", "/api/kernelspecs", "", 200, &specs); specs.Default != "python3" || specs.Specs["bash"].Spec.Language != "bash" {
		t.Errorf("the kernelspecs are %+v", specs)
	}
	for name, spec := range specs.Specs {
		for _, at := range spec.Resources {
			h.ask(t, "GET", at, "", 200, nil)
		}
		h.ask(t, "GET", "/api/kernelspecs/"+name, "", 200, nil)
	}
	id := api.KernelID(box.SandboxID, "default")
	client := h.join(t, id, "")
	if got := client.run("x += 1; print(x)"); got != "43\n" {
		t.Errorf("it prints %q", got)
	}
	if got := h.in(box.SandboxID).printed(t, "print(x)"); got != "43\n" {
		t.Errorf("natively it prints %q", got)
	}

	var k api.JupyterKernel
	h.ask(t, "POST", "/api/kernels?sandbox="+box.SandboxID, `{"name":"bash"}`, 201, &k)
	_, context, _ := api.ParseKernelID(k.ID)
	h.ask(t, "GET", "/v1/sandboxes/"+box.SandboxID+"/contexts/"+context, "", 200, nil)
	var session api.JupyterSession
	h.ask(t, "POST", "/jupyter/"+box.SandboxID+"/api/sessions", `{"path":"a.ipynb","type":"notebook","kernel":{"id":"`+k.ID+`"}}`, 201, &session)
	var sessions []api.JupyterSession
	if h.ask(t, "GET", "/api/sessions", "", 200, &sessions); len(sessions) != 1 || sessions[0].ID != session.ID {
		t.Errorf("the sessions are %+v", sessions)
	}
	h.ask(t, "POST", "/api/kernels/"+id+"/restart", "{}", 200, &k)
	if got := client.run("print('x' in globals())"); got != "False\n" {
		t.Errorf("after a restart it prints %q", got)
	}
	h.ask(t, "POST", "/api/kernels/"+id+"/interrupt", "{}", 204, nil)
	h.ask(t, "DELETE", "/api/sessions/"+session.ID, "", 204, nil)
	var all []api.JupyterKernel
	if h.ask(t, "GET", "/api/kernels", "", 200, &all); len(all) != 1 || all[0].ID != id {
		t.Errorf("there are %+v", all)
	}
	h.ask(t, "DELETE", "/v1/sandboxes/"+box.SandboxID, "", 204, nil)
	for err := error(nil); err == nil; { // the client is cut
		_, _, err = client.conn.Read(t.Context())
	}
	h.ask(t, "GET", "/api/kernels/"+id, "", 404, nil)
	h.stopped(t)
}

func TestAgentIsAJupyterServer(t *testing.T) {
	t.Parallel()
	e := serve(t, "127.0.0.1:0", "--root", t.TempDir())
	h := &house{endpoint: *e}
	var all []api.JupyterKernel
	if h.ask(t, "GET", "/jupyter/api/kernels", "", 200, &all); len(all) != 1 || all[0].ID != "local-default-k-k-k" {
		t.Errorf("there are %+v", all)
	}
	h.base += "/jupyter"
	if got := h.join(t, all[0].ID, "").run("print(6*7)"); got != "42\n" {
		t.Errorf("it prints %q", got)
	}
	e.stop(t)
}

func TestGatewayRefuses(t *testing.T) {
	t.Parallel()
	key, refused := filepath.Join(t.TempDir(), "none"), func(env string, args ...string) result {
		return run(t, call{args: append([]string{"gateway", "--listen", "127.0.0.1:0", "--python", interpreter}, args...), env: []string{env}})
	}
	for env, want := range map[string]string{
		"KG_PORT=x": "KG_PORT", "KG_MAX_KERNELS=-1": "KG_MAX_KERNELS", "KG_LIST_KERNELS=maybe": "KG_LIST_KERNELS", "KG_API=kernel_gateway.notebook_http": "KG_API",
		"KG_ALLOW_ORIGIN=*": "API keys", "KG_ALLOW_ORIGIN=lab": "origin", "KG_BASE_URL=/a?b": "KG_BASE_URL", "KG_CLIENT_CA=" + key: "--tls-cert", "KG_AUTH_TOKEN=a b": "$KG_AUTH_TOKEN",
		"KG_SEED_URI=" + key: "$KG_SEED_URI", "KG_PRESPAWN_COUNT=1000000": "KG_PRESPAWN_COUNT", "KG_WS_PING_INTERVAL_SECS=-1": "KG_WS_PING_INTERVAL_SECS", "KG_TRUST_XHEADERS=x": "KG_TRUST_XHEADERS",
	} {
		got := refused(env)
		got.expect(t, 1, "")
		got.complains(t, want)
	}
	refused("KG_IP=0.0.0.0", "--listen", "0.0.0.0:0").complains(t, "reachable from other machines")
}

func TestEnvOfJupyter(t *testing.T) {
	t.Parallel()
	run(t, call{args: []string{"env", "--jupyter", "--url", "https://k2.example/"}, env: []string{"K2_API_KEY=mine"}}).expect(t, 0,
		"export JUPYTER_GATEWAY_URL='https://k2.example'\nexport JUPYTER_GATEWAY_AUTH_TOKEN='mine'\n")
	run(t, call{args: []string{"env", "--jupyter", "--url", "unix:/k2.sock"}}).complains(t, "unix socket")
}
