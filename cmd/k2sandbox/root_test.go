package main_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/executor"
)

func TestAgentWithARoot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Symlink("/etc", filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	e := serve(t, "127.0.0.1:0", "--root", dir)
	defer e.stop(t)
	ask := func(method, query, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, e.base+"/v1/files"+query, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := e.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(raw)
	}
	if status, text := ask("PUT", "?path=/d/f", "hello"); status != http.StatusCreated {
		t.Errorf("%d %s", status, text)
	}
	if raw, err := os.ReadFile(filepath.Join(dir, "d", "f")); string(raw) != "hello" {
		t.Errorf("got %q, %v", raw, err)
	}
	if end := e.run(t, map[string]any{"code": "assert open('d/f').read() == 'hello'; open('made', 'w').write('here')"}).end(); end.Status != executor.OK {
		t.Errorf("end %+v", end)
	}
	if status, text := ask("GET", "?path=made", ""); status != http.StatusOK || text != "here" {
		t.Errorf("%d %s", status, text)
	}
	for path, want := range map[string]int{"/out/passwd": http.StatusForbidden, "/../etc/passwd": http.StatusBadRequest, "/etc/passwd": http.StatusNotFound} {
		if status, text := ask("GET", "?path="+path, ""); status != want {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	refused := run(t, call{args: []string{"agent", "--listen", "127.0.0.1:0", "--root", dir + "/none"}})
	refused.expect(t, 1, "")
	refused.complains(t, "--root")
}
