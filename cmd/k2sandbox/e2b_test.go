package main_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestEnv(t *testing.T) {
	t.Parallel()
	run(t, call{args: []string{"env"}, env: []string{"K2_API_URL=", "K2_API_KEY="}}).expect(t, 0, "export K2_API_URL='http://127.0.0.1:8900'\n")
	run(t, call{args: []string{"env"}, env: []string{"K2_API_URL=unix:/a'b", "K2_API_KEY=k"}}).expect(t, 0, "export K2_API_URL='unix:/a'\\''b'\nexport K2_API_KEY='k'\n")
	run(t, call{args: []string{"env", "--e2b"}, env: []string{"K2_API_URL=", "K2_API_KEY="}}).expect(t, 0,
		"export E2B_API_URL='http://127.0.0.1:8900'\nexport E2B_SANDBOX_URL='http://127.0.0.1:8900'\nexport E2B_API_KEY='e2b_0000000000000000000000000000000000000000'\n")
	own := run(t, call{args: []string{"env", "--e2b", "--url", "https://k2.example/"}, env: []string{"K2_API_KEY=mine"}})
	own.expect(t, 0, "export E2B_API_URL='https://k2.example'\nexport E2B_SANDBOX_URL='https://k2.example'\nexport E2B_API_KEY='mine'\n")
	own.complains(t, "E2B_VALIDATE_API_KEY")
	socket := run(t, call{args: []string{"env", "--e2b", "--url", "unix:/k2.sock"}})
	socket.expect(t, 1, "")
	socket.complains(t, "unix socket", "--url")
}

func TestDebugPortsAreRefused(t *testing.T) {
	t.Parallel()
	serve := []string{"serve", "--python", interpreter, "--listen", "127.0.0.1:0", "--state-dir", t.TempDir(), "--e2b-debug-ports"}
	keys := run(t, call{args: serve, env: []string{"K2_API_KEYS=a:b"}})
	keys.expect(t, 1, "")
	keys.complains(t, "--e2b-debug-ports", "keys")
	off := run(t, call{args: append(serve, "--e2b=false")})
	off.expect(t, 1, "")
	off.complains(t, "--e2b-debug-ports", "--e2b")
}

// inE2B sends a request to a port of a sandbox, and returns the status and the body of the answer.
func (h *house) inE2B(t *testing.T, id, port, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("E2b-Sandbox-Id", id)
	req.Header.Set("E2b-Sandbox-Port", port)
	resp, err := h.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestServeE2B(t *testing.T) {
	t.Parallel()
	h := openHouse(t)
	h.key = "e2b_0"
	var can struct{ Fronts []string }
	if h.ask(t, "GET", "/v1/capabilities", "", 200, &can); !slices.Equal(can.Fronts, []string{"e2b", "jupyter", "mcp", "console"}) {
		t.Errorf("its fronts are %v", can.Fronts)
	}
	var box struct{ SandboxID string }
	h.ask(t, "POST", "/v2/sandboxes", `{"templateID":"code-interpreter-v1","envVars":{"GREETING":"hello"}}`, 201, &box)
	if status, text := h.inE2B(t, box.SandboxID, "49983", "/health"); status != 204 {
		t.Errorf("status %d: %s", status, text)
	}
	if got := h.in(box.SandboxID).printed(t, "import os; print(os.environ['GREETING'], os.getcwd())"); got != "hello /home/user\n" {
		t.Errorf("code in it prints %q", got)
	}
	if status, text := h.inE2B(t, box.SandboxID, "8000", "/"); status != 502 || !strings.Contains(text, "port is not open") {
		t.Errorf("status %d: %s", status, text)
	}
	h.in(box.SandboxID).printed(t, `
import http.server, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.path.encode()
        self.send_response(302 if self.path == "/away" else 200)
        if self.path == "/away": self.send_header("Location", "/here?x")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()`)
	for path, want := range map[string]string{"/v1/x?y=%20": "/v1/x?y=%20", "/": "/", "/away": "/here?x"} {
		if status, text := h.inE2B(t, box.SandboxID, "8000", path); status != 200 || text != want {
			t.Errorf("%s: status %d: %s", path, status, text)
		}
	}
	h.ask(t, "DELETE", "/sandboxes/"+box.SandboxID, "", 204, nil)
	if status, text := h.inE2B(t, box.SandboxID, "49983", "/health"); status != 502 || !strings.Contains(text, "The sandbox was not found") || !strings.Contains(text, "was killed at") {
		t.Errorf("status %d: %s", status, text)
	}

	h = openHouse(t, "--e2b=false", "--jupyter=false", "--mcp=false", "--console=false")
	if h.ask(t, "GET", "/v1/capabilities", "", 200, &can); len(can.Fronts) != 0 {
		t.Errorf("its fronts are %v", can.Fronts)
	}
	for _, path := range []string{"/v2/sandboxes", "/api/kernels", "/jupyter/sb_x/api", "/mcp", "/console/"} {
		h.ask(t, "GET", path, "", 404, nil)
	}
}
