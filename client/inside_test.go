package client_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/client"
	"github.com/k2sandbox/k2sandbox/files"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/packages"
	"github.com/k2sandbox/k2sandbox/process"
)

func testProcesses(t *testing.T) {
	ctx := t.Context()
	var out bytes.Buffer
	for e, err := range c.RunProcess(ctx, api.ProcessRequest{Cmd: "cat; echo done; exit 3", Stdin: api.StdinText("in ")}) {
		ok(t, err)
		out.Write(e.Output())
		if e.Type == journal.End && (e.ExitCode != 3 || e.Status != process.Failed) {
			t.Errorf("got %+v", e)
		}
	}
	if out.String() != "in done\n" {
		t.Errorf("got %q", out.String())
	}

	p := must[api.Process](t)(c.StartProcess(ctx, api.ProcessRequest{Args: []string{"cat"}, Stdin: api.OpenStdin}))
	ok(t, c.WriteStdin(ctx, p.Pid, strings.NewReader("hello"), true))
	end := first(t, c.ProcessEvents(ctx, p.Pid, 1), func(e client.ProcessEvent) bool { return e.Type == journal.End })
	if got := must[api.Process](t)(c.Process(ctx, p.Pid)); got.State != process.Done || end.ExitCode != 0 {
		t.Errorf("got %+v and %+v", got, end)
	}
	if list := must[[]api.Process](t)(c.Processes(ctx)); len(list) < 2 || list[0].Pid != p.Pid {
		t.Errorf("got %+v", list)
	}
	ok(t, c.DeleteProcess(ctx, p.Pid))

	p = must[api.Process](t)(c.StartProcess(ctx, api.ProcessRequest{Cmd: "stty size; read line; stty size; sleep 600", Pty: &api.Pty{Rows: 10, Cols: 20}}))
	first(t, c.ProcessEvents(ctx, p.Pid, 0), func(e client.ProcessEvent) bool { return bytes.Contains(e.Output(), []byte("10 20")) })
	ok(t, c.ResizeProcess(ctx, p.Pid, 30, 40))
	ok(t, c.WriteStdin(ctx, p.Pid, strings.NewReader("\n"), false))
	first(t, c.ProcessEvents(ctx, p.Pid, 0), func(e client.ProcessEvent) bool { return bytes.Contains(e.Output(), []byte("30 40")) })
	ok(t, c.SignalProcess(ctx, p.Pid, "SIGKILL"))
	end = first(t, c.ProcessEvents(ctx, p.Pid, 0), func(e client.ProcessEvent) bool { return e.Type == journal.End })
	if end.Signal == nil || *end.Signal != "SIGKILL" {
		t.Errorf("got %+v", end)
	}
}

func testTerminal(t *testing.T) {
	ctx := t.Context()
	p := must[api.Process](t)(c.StartProcess(ctx, api.ProcessRequest{Cmd: "read a; echo got $a; stty size; read b", Pty: &api.Pty{}}))
	term := must[*client.Terminal](t)(c.Attach(ctx, p.Pid, 0))
	defer term.Close()
	ok(t, term.Resize(33, 44))
	if _, err := io.WriteString(term, "this\n"); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	buf := make([]byte, 64)
	for !bytes.Contains(got.Bytes(), []byte("33 44")) {
		n, err := term.Read(buf)
		ok(t, err)
		got.Write(buf[:n])
	}
	if !strings.Contains(got.String(), "got this") {
		t.Errorf("got %q", got.String())
	}
	ok(t, term.CloseWrite())
	if _, err := io.Copy(&got, term); err != nil {
		t.Fatal(err)
	}
	if end := term.End(); end == nil || end.ExitCode != 1 { // read fails at the end of its input
		t.Errorf("got %+v", end)
	}
	var told *api.Error
	if _, err := c.Attach(ctx, 999999999, 0); !errors.As(err, &told) || told.Code != api.NotFound {
		t.Errorf("got %v", err)
	}
}

func testPackages(t *testing.T) {
	ctx := t.Context()
	list := must[[]packages.Distribution](t)(c.Packages(ctx))
	var version string
	for _, p := range list {
		if p.Name == "ipykernel" {
			version = p.Version
		}
	}
	if version == "" {
		t.Fatalf("no ipykernel in %v", list)
	}
	// What is there needs no network.
	events := all(t, c.InstallPackages(ctx, api.PackagesRequest{Packages: []string{"ipykernel==" + version}}))
	if end := events[len(events)-1]; end.Status != "ok" || len(end.Unchanged) != 1 || end.Unchanged[0].Version != version {
		t.Errorf("got %+v", end)
	}
	id := events[0].InstallID
	if got := must[api.Install](t)(c.Install(ctx, id)); got.Status != "ok" {
		t.Errorf("got %+v", got)
	}
	if again := all(t, c.InstallEvents(ctx, id, 0)); len(again) != len(events) {
		t.Errorf("got %d events, and then %d", len(events), len(again))
	}
	var told *api.Error
	if _, err := c.InterruptInstall(ctx, id); !errors.As(err, &told) || told.Code != api.Conflict {
		t.Errorf("interrupted what had ended: %v", err)
	}
	queued := must[api.Install](t)(c.SubmitInstall(ctx, api.PackagesRequest{Packages: []string{"ipykernel"}}))
	first(t, c.InstallEvents(ctx, queued.InstallID, 0), func(e client.InstallEvent) bool { return e.Type == journal.End })
}

const notebookText = `{"cells":[{"cell_type":"code","execution_count":null,"id":"a","metadata":{"tags":["parameters"]},"outputs":[],"source":"n = 1"},
{"cell_type":"code","execution_count":null,"id":"b","metadata":{},"outputs":[],"source":"print(n * 2)"}],
"metadata":{"kernelspec":{"name":"python3","display_name":"Python 3","language":"python"}},"nbformat":4,"nbformat_minor":5}`

func testNotebooks(t *testing.T) {
	ctx := t.Context()
	events := all(t, c.RunNotebook(ctx, api.NotebookRequest{Notebook: []byte(notebookText), Parameters: []byte(`{"n":21}`)}))
	var text string
	for _, e := range events {
		text += e.Text
	}
	end := events[len(events)-1]
	if !strings.Contains(text, "42") || end.Status != "ok" {
		t.Errorf("got %q and %+v", text, end)
	}
	id := end.NotebookID
	executed := must[io.ReadCloser](t)(c.ExecutedNotebook(ctx, id))
	raw := must[[]byte](t)(io.ReadAll(executed))
	executed.Close()
	if !bytes.Contains(raw, []byte("42")) {
		t.Errorf("got %s", raw)
	}
	if got := must[api.Notebook](t)(c.Notebook(ctx, id)); got.Status != "ok" || got.Cells != 3 && got.Cells != 2 {
		t.Errorf("got %+v", got)
	}
	if list := must[[]api.Notebook](t)(c.Notebooks(ctx, 1)); len(list) != 1 || list[0].NotebookID != id {
		t.Errorf("got %+v", list)
	}
	again := all(t, c.NotebookEvents(ctx, id, events[1].Seq))
	if len(again) != len(events)-2 {
		t.Errorf("got %d events, and then %d", len(events), len(again))
	}
	slow := strings.Replace(notebookText, "print(n * 2)", "import time; time.sleep(600)", 1)
	n := must[api.Notebook](t)(c.SubmitNotebook(ctx, api.NotebookRequest{Notebook: []byte(slow)}))
	first(t, c.NotebookEvents(ctx, n.NotebookID, 0), func(e client.NotebookEvent) bool { return e.Type == "cell_start" && e.CellID == "b" })
	must[api.Notebook](t)(c.InterruptNotebook(ctx, n.NotebookID))
	if end := first(t, c.NotebookEvents(ctx, n.NotebookID, 0), func(e client.NotebookEvent) bool { return e.Type == journal.End }); end.Status == "ok" {
		t.Errorf("got %+v", end)
	}
}

func testFiles(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	watching := make(chan struct{})
	seen := make(chan client.FileEvent)
	go func() {
		defer close(seen)
		for e, err := range c.WatchFiles(ctx, dir, true, func() { close(watching) }) {
			if err != nil {
				t.Error(err)
			}
			if e.Type == files.Created && e.Path == at("a/b.txt") {
				seen <- e
				return
			}
		}
	}()
	<-watching
	e := must[files.Entry](t)(c.WriteFile(ctx, at("a/b.txt"), strings.NewReader("hello"), client.WriteOptions{Mode: "0600"}))
	if e.Size != 5 || e.Mode != "0600" {
		t.Errorf("got %+v", e)
	}
	<-seen
	d := must[*client.Download](t)(c.ReadFile(ctx, at("a/b.txt"), 1, 3))
	if got := must[[]byte](t)(io.ReadAll(d)); string(got) != "ell" || d.Size != 3 || d.ETag == "" {
		t.Errorf("got %q of %+v", got, d)
	}
	d.Close()
	var told *api.Error
	_, err := c.WriteFile(ctx, at("a/b.txt"), strings.NewReader("x"), client.WriteOptions{IfNoneMatch: "*"})
	if !errors.As(err, &told) || told.Code != api.PreconditionFailed {
		t.Errorf("got %v", err)
	}
	must[files.Entry](t)(c.WriteFile(ctx, at("a/b.txt"), strings.NewReader("x"), client.WriteOptions{IfMatch: d.ETag}))
	must[files.Entry](t)(c.MakeDir(ctx, at("c\xff"), "0700"))
	must[files.Entry](t)(c.MoveFile(ctx, at("c\xff"), at("d"), false))
	var names []string
	for e, err := range c.ListFiles(ctx, dir, 2) {
		ok(t, err)
		names = append(names, e.Name)
	}
	if got := strings.Join(names, " "); got != "a b.txt d" {
		t.Errorf("got %q", got)
	}
	if e := must[files.Entry](t)(c.StatFile(ctx, at("d"))); e.Type != files.Dir || e.Mode != "0700" {
		t.Errorf("got %+v", e)
	}
	archive := must[io.ReadCloser](t)(c.PackFiles(ctx, at("a")))
	packed := must[[]byte](t)(io.ReadAll(archive))
	archive.Close()
	for r := tar.NewReader(bytes.NewReader(packed)); ; {
		h, err := r.Next()
		ok(t, err)
		if strings.HasSuffix(h.Name, "b.txt") {
			break
		}
	}
	if got := must[files.Extracted](t)(c.ExtractFiles(ctx, at("d"), bytes.NewReader(packed))); got.Bytes != 1 {
		t.Errorf("got %+v", got)
	}
	ok(t, c.RemoveFile(ctx, at("a"), true))
	if _, err := c.StatFile(ctx, at("a")); !errors.As(err, &told) || told.Code != api.NotFound {
		t.Errorf("got %v", err)
	}
}

func testPorts(t *testing.T) {
	ctx := t.Context()
	inner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s", r.Method, r.URL.RequestURI(), raw)
	}))
	defer inner.Close()
	port := inner.Listener.Addr().(*net.TCPAddr).Port
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
		req := must[*http.Request](t)(http.NewRequestWithContext(ctx, method, "http://inside/a%2Fb?c=d", strings.NewReader("body")))
		resp := must[*http.Response](t)(c.Port(port).Do(req))
		got := must[[]byte](t)(io.ReadAll(resp.Body))
		resp.Body.Close()
		if want := method + " /a%2Fb?c=d body"; string(got) != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	resp := must[*http.Response](t)(http.Get(strings.TrimSuffix(c.PortURL(port, "/"), "/")))
	defer resp.Body.Close()
	if got := must[[]byte](t)(io.ReadAll(resp.Body)); string(got) != "GET / " {
		t.Errorf("got %q", got)
	}
}
