package main_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/k2sandbox/k2sandbox/api"
)

// keyed sends an API key with each request.
type keyed struct{ key string }

func (k keyed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+k.key)
	return http.DefaultTransport.RoundTrip(r)
}

// tools are those of a server as a client sees them.
type tools struct {
	*sdk.ClientSession
	progress chan *sdk.ProgressNotificationParams
}

// connectTools connects the SDK's own client.
func connectTools(t *testing.T, transport sdk.Transport) *tools {
	t.Helper()
	m := &tools{progress: make(chan *sdk.ProgressNotificationParams, 1000)}
	client := sdk.NewClient(&sdk.Implementation{Name: "test", Version: "1"}, &sdk.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, r *sdk.ProgressNotificationClientRequest) { m.progress <- r.Params },
	})
	var err error
	if m.ClientSession, err = client.Connect(t.Context(), transport, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// answer is what a tool answered with.
type answer struct {
	sdk  *sdk.CallToolResult
	text string
	api.MCPRun
	Entries []api.MCPEntry
	Created bool
	Sandbox string `json:"sandbox_id"`
}

type object = map[string]any

// use calls a tool, which is to work.
func (m *tools) use(t *testing.T, name string, arguments object) answer {
	t.Helper()
	a := m.call(t, name, arguments)
	if a.sdk.IsError {
		t.Fatalf("%s %v: %s", name, arguments, a.text)
	}
	return a
}

func (m *tools) call(t *testing.T, name string, arguments object) (a answer) {
	t.Helper()
	p := &sdk.CallToolParams{Name: name, Arguments: arguments}
	p.SetProgressToken(name)
	var err error
	if a.sdk, err = m.CallTool(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	for _, c := range a.sdk.Content {
		if text, ok := c.(*sdk.TextContent); ok {
			a.text += text.Text
		}
	}
	structured := a.sdk.StructuredContent
	if structured == nil {
		structured = a.sdk.Meta["k2sandbox/answer"]
	}
	raw, err := json.Marshal(structured)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	return a
}

// Every tool, called by the SDK's own client over both transports, with real kernels in sandboxes.
func TestMCPTools(t *testing.T) {
	t.Parallel()
	const key = "key-of-ada-0123456789"
	h := openIn(t, filepath.Join(t.TempDir(), "state"), []string{"K2_API_KEYS=ada:" + key})
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	bridge := (&call{args: []string{"mcp", "--url", h.base}, env: []string{"K2_API_KEY=" + key}}).command(t)
	bridge.Stdin = nil // the client has the pipe
	for name, transport := range map[string]sdk.Transport{
		"http":  &sdk.StreamableClientTransport{Endpoint: h.base + "/mcp", HTTPClient: &http.Client{Transport: keyed{key}}},
		"stdio": &sdk.CommandTransport{Command: bridge},
	} {
		t.Run(name, func(t *testing.T) {
			m := connectTools(t, transport)
			for _, part := range []func(*tools, *testing.T){(*tools).code, (*tools).runsThatGoOn, (*tools).commands, (*tools).files, (*tools).cancelled, (*tools).longOutput, (*tools).largeImage, (*tools).manage} {
				part(m, t)
			}
		})
	}
}

func (m *tools) code(t *testing.T) {
	if a := m.use(t, "run_code", object{"code": "x = 20; print('hi'); x + 1"}); a.Stdout != "hi\n" || a.Result != "21\n" || a.text != "hi\n\nresult:\n21" {
		t.Errorf("%+v", a)
	}
	if a := m.use(t, "run_code", object{"code": "1 / 0"}); a.Status != "error" || a.Error.Name != "ZeroDivisionError" || !strings.Contains(a.text, "division by zero") {
		t.Errorf("%+v", a)
	}
	if a := m.use(t, "run_code", object{"code": "echo $((6 * 7))", "language": "bash"}); a.Stdout != "42\n" {
		t.Errorf("%+v", a)
	}
	for tool, arguments := range map[string]object{
		"run_code": {"code": "1", "timeout_s": -1}, "get_run": {"run_id": "ex_none"}, "read_file": {"path": "/none"}, "run_command": {}, "list_files": {"depth": "x"},
	} {
		if a := m.call(t, tool, arguments); !a.sdk.IsError || !regexp.MustCompile(`^[a-z_]+: .*\. try: `).MatchString(a.text) {
			t.Errorf("%s: %s", tool, a.text)
		}
	}
}

func (m *tools) runsThatGoOn(t *testing.T) {
	a := m.use(t, "run_code", object{"code": "import time\nfor i in range(600): print(i, flush=True); time.sleep(0.1)", "timeout_s": 0.5})
	if a.Status != "running" || !strings.Contains(a.text, "still running") {
		t.Fatalf("%+v", a)
	}
	for len(m.progress) > 0 {
		<-m.progress
	}
	more := m.use(t, "get_run", object{"run_id": a.RunID, "after": a.NextCursor, "wait_s": 2.5})
	if more.Status != "running" || more.Stdout == "" || a.Stdout != "" && strings.HasPrefix(more.Stdout, "0\n") {
		t.Errorf("%+v", more)
	}
	last := -1.0
	for range 2 {
		p := <-m.progress
		for p.ProgressToken != "get_run" { // it is of the call before
			p = <-m.progress
		}
		if p.Progress <= last {
			t.Errorf("progress %v after %v", p.Progress, last)
		}
		last = p.Progress
	}
	if a := m.use(t, "interrupt_run", object{"run_id": a.RunID}); a.Status != "interrupted" {
		t.Errorf("%+v", a)
	}
	if a := m.use(t, "run_code", object{"code": "x"}); a.text != "20" {
		t.Errorf("%s", a.text)
	}
}

func (m *tools) commands(t *testing.T) {
	a := m.use(t, "run_command", object{"argv": []string{"sh", "-c", "echo out; echo err >&2; exit 3"}})
	if a.ExitCode == nil || *a.ExitCode != 3 || a.text != "out\n\nstderr:\nerr\n[exit status 3]" {
		t.Errorf("%+v", a)
	}
	if a := m.use(t, "install_packages", object{"packages": []string{"pip"}}); a.RunID == "" {
		t.Errorf("%+v", a)
	}
}

func (m *tools) files(t *testing.T) {
	if a := m.use(t, "write_file", object{"path": "a/b.txt", "content": "one\ntwo\n"}); !a.Created {
		t.Errorf("%+v", a)
	}
	if a := m.use(t, "read_file", object{"path": "a/b.txt", "offset": 2}); a.text != "two" {
		t.Errorf("%q", a.text)
	}
	if a := m.use(t, "list_files", object{"path": "a"}); len(a.Entries) != 1 || a.Entries[0].Size != 8 {
		t.Errorf("%+v", a)
	}
}

func (m *tools) cancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p := &sdk.CallToolParams{Name: "run_code", Arguments: object{"code": "kept = 5\nprint('begun', flush=True)\nimport time; time.sleep(300)"}}
	p.SetProgressToken("cancelled")
	go func() {
		for told := range m.progress {
			if told.ProgressToken == "cancelled" && told.Message == "begun" {
				cancel()
				return
			}
		}
	}()
	if _, err := m.CallTool(ctx, p); err == nil {
		t.Error("it was not cancelled")
	}
	if a := m.use(t, "run_code", object{"code": "kept"}); a.text != "5" {
		t.Errorf("%s", a.text)
	}
}

func (m *tools) longOutput(t *testing.T) {
	a := m.use(t, "run_code", object{"code": "print('\\n'.join(f'{i:09}' for i in range(500_000)))"})
	before, rest, _ := strings.Cut(a.Stdout, "[… ")
	_, after, _ := strings.Cut(rest, " …]\n")
	if shown := len(before) + len(after); !a.Truncated || a.Omitted[0].Chars != int64(5_000_000-shown) || len(a.Stdout) > 21_000 {
		t.Errorf("%d are shown, and %+v", shown, a.Omitted)
	}
	more := m.use(t, "get_run", object{"run_id": a.RunID, "after": a.Omitted[0].After})
	if want := fmt.Sprintf("%09d\n", len(before)/10); !strings.HasPrefix(more.Stdout, want) {
		t.Errorf("%.20q, want %q", more.Stdout, want)
	}
}

func (m *tools) largeImage(t *testing.T) {
	a := m.use(t, "run_code", object{"code": `
import os, io, hashlib
from PIL import Image
from IPython.display import display, Image as Picture
b = io.BytesIO(); Image.frombytes('RGB', (1300, 1050), os.urandom(1300 * 1050 * 3)).save(b, 'PNG')
display(Picture(b.getvalue())); print(hashlib.sha256(b.getvalue()).hexdigest())`})
	if len(a.sdk.Content) != 3 || len(a.Outputs) != 1 || a.Outputs[0].Size < 4_000_000 {
		t.Fatalf("%+v %s", a.Outputs, a.text)
	}
	if image, ok := a.sdk.Content[1].(*sdk.ImageContent); !ok || len(image.Data) > api.MaxMCPImage*3/4 {
		t.Errorf("%T", a.sdk.Content[1])
	}
	link, _ := a.sdk.Content[2].(*sdk.ResourceLink)
	read, err := m.ReadResource(t.Context(), &sdk.ReadResourceParams{URI: link.URI})
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(read.Contents[0].Blob); hex.EncodeToString(sum[:])+"\n" != a.Stdout {
		t.Errorf("%s has another sum", link.URI)
	}
	if again := m.use(t, "read_file", object{"path": a.Outputs[0].Path}); len(again.sdk.Content) != 3 {
		t.Errorf("%+v", again.sdk.Content)
	}
}

func (m *tools) manage(t *testing.T) {
	other := m.use(t, "sandbox", object{"action": "create"}).Sandbox
	if a := m.use(t, "run_code", object{"code": "'x' in dir()", "sandbox_id": other}); a.text != "False" || a.Sandbox != other {
		t.Errorf("%+v", a)
	}
	for _, action := range []string{"info", "list", "extend", "delete"} {
		arguments := object{"action": action, "sandbox_id": other}
		switch action {
		case "list":
			delete(arguments, "sandbox_id")
		case "extend":
			arguments["timeout_s"] = 900
		}
		if a := m.use(t, "sandbox", arguments); !strings.Contains(a.text, other) {
			t.Errorf("%s: %s", action, a.text)
		}
	}
	if a := m.call(t, "run_code", object{"code": "1", "sandbox_id": other}); !a.sdk.IsError || !strings.Contains(a.text, "try: ") {
		t.Errorf("%s", a.text)
	}
}
