package k2sandbox_test

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/inside"
)

// seen is what the tour shows, in this order, of each of its stops. What terminals
// write is base64.
var seen = []string{
	`"text":"42\nand more\n"`, `"text/plain": "0.3333333333333333"`, `"status":"ok"`,
	`"name":"KeyboardInterrupt"`, `"status":"interrupted"`,
	"hello Ada",
	`"name":"xs"`, `"matches":["append"]`,
	`"name":"ipykernel"`, `"unchanged":[{"name":"ipykernel"`,
	`"type":"dir"`, `"name":"hello.txt"`, `hello{"entries":[{"name":"a"`,
	`{"entries":1,"bytes":19}`, `"name":"c"`, `"type":"created"`, `"type":"renamed"`, `"reason":"removed"`,
	`"text":"SHOUTED\n"`, `"exit_code":3`,
	`"text":"one more line\n"`, `"exit_code":0`,
	`"data":"MzAgMTAwDQo="`, `"signal":"SIGTERM"`,
	"<title>Directory listing",
	`"text":"42\n"`, `"notebook":{"cells":[`,
	`"context_id":"default"`, `"type":"created"`, `"type":"run_ended"`, `"type":"process_ended"`,
	`"type":"hello"`, `"source":"metrics"`,
}

// The tour works with curl alone, and the README shows parts of it.
func TestTour(t *testing.T) {
	box, err := agent.New(t.Context(), agent.Options{Spec: kernel.PythonSpec(os.Getenv("K2_TEST_PYTHON")), Cwd: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	srv := httptest.NewServer(inside.New(box, server.Options{}))
	defer srv.Close()
	out, err := exec.CommandContext(t.Context(), "sh", "examples/tour.sh", srv.URL).CombinedOutput()
	rest := string(out)
	if err != nil {
		t.Fatalf("%v:\n%s", err, rest)
	}
	for _, part := range seen {
		_, after, found := strings.Cut(rest, part)
		if !found {
			t.Fatalf("%s is not, or not there, in\n%s", part, out)
		}
		rest = after
	}
	if n := len(box.Contexts()); n != 1 {
		t.Errorf("%d contexts are left", n)
	}

	_, shown, _ := strings.Cut(read(t, "README.md"), "<!-- examples/tour.sh -->\n```sh\n")
	shown, _, found := strings.Cut(shown, "```")
	if !found {
		t.Fatal("README.md shows nothing of the tour")
	}
	rest = read(t, "examples/tour.sh")
	for line := range strings.Lines(shown) {
		_, after, found := strings.Cut(rest, line)
		if !found && strings.TrimSpace(line) != "" {
			t.Errorf("README.md shows a line that is not, or not there, in the tour: %s", line)
		}
		if found {
			rest = after
		}
	}
}
