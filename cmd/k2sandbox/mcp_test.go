package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// bridge is `k2sandbox mcp` and its client.
type bridge struct {
	*sdk.ClientSession
	cmd *exec.Cmd
}

// startBridge starts a client that starts the command.
func startBridge(t *testing.T, c call) *bridge {
	t.Helper()
	b := &bridge{cmd: c.command(t)}
	b.cmd.Stdin, b.cmd.Stderr = nil, os.Stderr // the client has the pipes
	client := sdk.NewClient(&sdk.Implementation{Name: "test", Version: "1"}, nil)
	var err error
	if b.ClientSession, err = client.Connect(t.Context(), &sdk.CommandTransport{Command: b.cmd}, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.Close()
		nothingLeft(t, c.temp)
	})
	return b
}

// run runs code, and returns what the answer says first.
func (b *bridge) run(t *testing.T, code string) (text string, failed bool) {
	t.Helper()
	result, err := b.CallTool(t.Context(), &sdk.CallToolParams{Name: "run_code", Arguments: map[string]any{"code": code}})
	if err != nil {
		t.Fatal(err)
	}
	said, _ := result.Content[0].(*sdk.TextContent)
	if said == nil {
		t.Fatalf("got %+v", result.Content)
	}
	return said.Text, result.IsError
}

func TestMCP(t *testing.T) {
	t.Parallel()
	h := openIn(t, filepath.Join(t.TempDir(), "state"), []string{"K2_API_KEYS=ada:key-of-ada-0123456789"})
	h.key = "key-of-ada-0123456789"
	b := startBridge(t, call{args: []string{"mcp", "--url", h.base}, env: []string{"K2_API_KEY=" + h.key}})
	for code, want := range map[string]string{"x = 41\nprint('hello')": "hello"} {
		if got, failed := b.run(t, code); got != want || failed {
			t.Errorf("%q: %q", code, got)
		}
	}
	if got, _ := b.run(t, "x + 1"); got != "42" {
		t.Errorf("x + 1 is %q", got)
	}
	var list struct {
		Sandboxes []struct{ Metadata map[string]string }
	}
	if h.ask(t, "GET", "/v1/sandboxes", "", 200, &list); len(list.Sandboxes) != 1 || list.Sandboxes[0].Metadata["k2sandbox"] != "mcp" {
		t.Errorf("there are %+v", list)
	}
	b.Close()
	if h.ask(t, "GET", "/v1/sandboxes?state=running", "", 200, &list); len(list.Sandboxes) != 0 { // its end may take longer than the client waits
		t.Errorf("after the client there are %+v", list)
	}
	stranger := startBridge(t, call{args: []string{"mcp", "--url", h.base}, env: []string{"K2_API_KEY=wrong"}})
	if got, failed := stranger.run(t, "1"); !failed || !strings.Contains(got, "API key") {
		t.Errorf("without a key: %q", got)
	}
}

// The client sees at once that the command is there, and by the first call why there is no server.
func TestMCPWithoutServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	run := filepath.Join(dir, "run")
	if err := os.Mkdir(run, 0o700); err != nil {
		t.Fatal(err)
	}
	b := startBridge(t, call{args: []string{"mcp"}, env: []string{
		"K2_API_URL=", "XDG_RUNTIME_DIR=" + run, "XDG_STATE_HOME=" + filepath.Join(dir, "state"), "XDG_DATA_HOME=" + filepath.Join(dir, "file"),
	}})
	if page, err := b.ListTools(t.Context(), nil); err != nil || len(page.Tools) != 9 {
		t.Errorf("%v, %v", page, err)
	}
	for range 2 {
		if got, failed := b.run(t, "1"); !failed || !strings.Contains(got, "unavailable: ") || !strings.Contains(got, "not a directory") {
			t.Errorf("got %q", got)
		}
	}
}

func TestMCPEndsWithItsClient(t *testing.T) {
	t.Parallel()
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		b := startBridge(t, call{args: []string{"mcp", "--url", "http://127.0.0.1:1"}})
		if err := b.cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		if err := b.Wait(); err != nil && b.cmd.ProcessState == nil {
			t.Logf("%v: %v", signal, err)
		}
	}
	refused := run(t, call{args: []string{"mcp", "--url", "ftp://x"}})
	refused.expect(t, 1, "")
	refused.complains(t, "ftp://x")
	both := run(t, call{args: []string{"mcp", "--session", "a", "--sandbox", "b"}})
	both.expect(t, 1, "")
}
