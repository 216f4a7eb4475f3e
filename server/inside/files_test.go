package inside_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/files"
)

// fileURL is the URL of an operation on a path, which may be any bytes; query has names and values in turns.
func fileURL(operation, path string, query ...string) string {
	values := url.Values{"path": {path}}
	for i := 0; i < len(query); i += 2 {
		values.Set(query[i], query[i+1])
	}
	return "/v1/files" + operation + "?" + values.Encode()
}

func onDisk(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestFileThereAndBack(t *testing.T) {
	name := filepath.Join(t.TempDir(), "new", "dir", "hello.txt")
	resp := call(t, "PUT", fileURL("", name), "Hello, world\n")
	e := get[files.Entry](t, resp, http.StatusCreated)
	if e.Path != name || e.Size != 13 || e.Type != files.Regular || e.Owner == "" || e.ModifiedAt.IsZero() {
		t.Errorf("got %+v", e)
	}
	etag := resp.Header.Get("ETag")

	got := call(t, "GET", fileURL("", name), nil)
	if text := read(t, got); text != "Hello, world\n" || got.StatusCode != 200 || got.ContentLength != 13 {
		t.Errorf("got %d %q", got.StatusCode, text)
	}
	for header, want := range map[string]string{
		"ETag": etag, "Content-Type": "text/plain; charset=utf-8", "Accept-Ranges": "bytes",
		"X-Content-Type-Options": "nosniff", "Content-Disposition": "inline; filename*=UTF-8''hello.txt",
	} {
		if value := got.Header.Get(header); value != want {
			t.Errorf("%s is %q, want %q", header, value, want)
		}
	}
	if head := call(t, "HEAD", fileURL("", name), nil); head.StatusCode != 200 || head.ContentLength != 13 || read(t, head) != "" {
		t.Errorf("HEAD: %d, %d bytes", head.StatusCode, head.ContentLength)
	}
	again := call(t, "PUT", fileURL("", name, "mode", "0600"), "again")
	if e := get[files.Entry](t, again, http.StatusOK); e.Mode != "0600" {
		t.Errorf("mode %s", e.Mode)
	}
	if e := get[files.Entry](t, call(t, "GET", fileURL("/stat", name), nil), 200); e.Size != 5 {
		t.Errorf("got %+v", e)
	}
	if resp := call(t, "DELETE", fileURL("", name), nil); resp.StatusCode != http.StatusNoContent {
		t.Errorf("status %d", resp.StatusCode)
	}
	refused(t, call(t, "GET", fileURL("", name), nil), 404, api.NotFound)
}

// TestFormsAreNoFiles: what they hold would not be what the user has.
func TestFormsAreNoFiles(t *testing.T) {
	dir := t.TempDir()
	for _, operation := range []string{"", "/archive"} {
		refused(t, call(t, "PUT", fileURL(operation, dir+"/f"), "--x--", "Content-Type", "multipart/form-data; boundary=x"), 415, api.UnsupportedMedia)
	}
	for _, typ := range []string{"application/x-www-form-urlencoded", "multipart/related; boundary=x", "no type;;"} {
		get[files.Entry](t, call(t, "PUT", fileURL("", dir+"/f"+typ[:3]), "--x--", "Content-Type", typ), http.StatusCreated)
	}
}

func TestFileErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	call(t, "PUT", fileURL("", file), "x")
	if err := os.Symlink("loop", filepath.Join(dir, "loop")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(dir, strings.Repeat("n", 256))
	for _, c := range []struct {
		method, path string
		status       int
		code         api.Code
	}{
		{"GET", fileURL("", dir+"/none"), 404, api.NotFound},
		{"GET", fileURL("", dir), 409, api.Conflict},
		{"GET", fileURL("", file+"/deeper"), 409, api.Conflict},
		{"GET", fileURL("", dir+"/loop"), 409, api.Conflict},
		{"GET", fileURL("", dir+"/fifo"), 422, api.Unprocessable},
		{"GET", fileURL("", "/dev/zero"), 422, api.Unprocessable},
		{"PUT", fileURL("", dir+"/fifo"), 422, api.Unprocessable},
		{"PUT", fileURL("", dir), 409, api.Conflict},
		{"PUT", fileURL("", dir+"/new/"), 409, api.Conflict},
		{"PUT", fileURL("", file+"/deeper"), 409, api.Conflict},
		{"PUT", fileURL("", "/"), 409, api.Conflict},
		{"DELETE", fileURL("", dir), 409, api.Conflict},
		{"DELETE", fileURL("", dir+"/none", "recursive", "true"), 404, api.NotFound},
		{"DELETE", fileURL("", "/", "recursive", "true"), 409, api.Conflict},
		{"GET", fileURL("/list", file), 409, api.Conflict},
		{"GET", fileURL("/list", dir+"/none"), 404, api.NotFound},
		{"GET", fileURL("/stat", dir+"/none"), 404, api.NotFound},
		{"GET", fileURL("/watch", file), 409, api.Conflict},
		{"GET", fileURL("/watch", dir+"/none"), 404, api.NotFound},
		{"GET", fileURL("/archive", dir+"/none"), 404, api.NotFound},
		{"GET", fileURL("/archive", dir+"/fifo"), 422, api.Unprocessable},
		{"PUT", fileURL("/archive", file), 409, api.Conflict},
	} {
		e := refused(t, call(t, c.method, c.path, nil), c.status, c.code)
		if strings.Contains(e.Message, "internal") {
			t.Errorf("%s %s: %s", c.method, c.path, e.Message)
		}
	}
	for path, field := range map[string]string{
		"/v1/files":                   "path",
		"/v1/files?path=":             "path",
		fileURL("", "a\x00b"):         "path",
		fileURL("", "/../etc/passwd"): "path",
		fileURL("", strings.Repeat("../", 50)+"etc/passwd"): "path",
		fileURL("", long):                              "path",
		fileURL("", strings.Repeat("/n", 2050)):        "path",
		"/v1/files?path_base64=!":                      "path_base64",
		fileURL("/list", dir, "depth", "0"):            "depth",
		fileURL("/list", dir, "depth", "65"):           "depth",
		fileURL("/list", dir, "limit", "10001"):        "limit",
		fileURL("/list", dir, "cursor", "Li4"):         "cursor",
		fileURL("/archive", dir, "compression", "zip"): "compression",
		fileURL("/watch", dir, "recursive", "yes"):     "recursive",
		fileURL("/stat", dir, "recursive", "true"):     "recursive",
	} {
		if e := refused(t, call(t, "GET", path, nil), 400, api.InvalidRequest); e.Details["field"] != field {
			t.Errorf("%s: %+v", path, e)
		}
	}
	for _, mode := range []string{"", "abc", "-1", "1000", "00644", "8"} {
		e := refused(t, call(t, "PUT", fileURL("", file, "mode", mode), "y"), 400, api.InvalidRequest)
		if e.Details["field"] != "mode" {
			t.Errorf("%q: %+v", mode, e)
		}
	}
	refused(t, call(t, "PUT", fileURL("", file), "y", "Content-Range", "bytes 0-0/1"), 400, api.InvalidRequest)
	refused(t, call(t, "PUT", fileURL("", file), "y", "Content-Encoding", "gzip"), 415, api.UnsupportedMedia)
	if text := onDisk(t, file); text != "x" {
		t.Errorf("got %q", text)
	}
	for body, field := range map[string]string{
		`{}`: "from", `{"from":"/a"}`: "to", `{"from":"","to":"/b"}`: "from", `{"from":"/a","to":"/../b"}`: "from",
		`{"from":"` + file + `","to":"/../b"}`: "to", `{"from":"/..","to":"/b"}`: "from", `{"from_base64":"!","to":"/b"}`: "from_base64",
		`{"from":"/a","to":"/b","force":true}`: "force",
	} {
		resp := call(t, "POST", "/v1/files/move", body)
		if field == "from" && strings.Contains(body, `"/a"`) {
			refused(t, resp, 404, api.NotFound) // it looks for the one before it looks at the other
			continue
		}
		if e := refused(t, resp, 400, api.InvalidRequest); e.Details["field"] != field {
			t.Errorf("%s: %+v", body, e)
		}
	}
	for body, field := range map[string]string{`{}`: "path", `{"path":"/x","mode":"9"}`: "mode", `{"path":"/.."}`: "path"} {
		if e := refused(t, call(t, "POST", "/v1/files/mkdir", body), 400, api.InvalidRequest); e.Details["field"] != field {
			t.Errorf("%s: %+v", body, e)
		}
	}
}

func TestDirectories(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if e := must[files.Entry](t)(c.MakeDir(t.Context(), at("a/b"), "0750")); e.Mode != "0750" || e.Type != files.Dir {
		t.Errorf("got %+v", e)
	}
	must[files.Entry](t)(c.MakeDir(t.Context(), at("a/b"), "")) // it is there
	call(t, "PUT", fileURL("", at("a/b/f")), "f")
	call(t, "PUT", fileURL("", at("g")), "g")
	_, err := c.MoveFile(t.Context(), at("g"), at("a/b/f"), false)
	refuses(t, err, 409, api.Conflict)
	if e := must[files.Entry](t)(c.MoveFile(t.Context(), at("g"), at("a/b/f"), true)); e.Path != at("a/b/f") {
		t.Errorf("got %+v", e)
	}
	var paths []string
	cursor := ""
	for {
		page := get[api.FileList](t, call(t, "GET", fileURL("/list", dir, "depth", "3", "limit", "1", "cursor", cursor), nil), 200)
		for _, e := range page.Entries {
			paths = append(paths, strings.TrimPrefix(e.Path, dir))
		}
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	if got := strings.Join(paths, " "); got != "/a /a/b /a/b/f" {
		t.Errorf("got %s", got)
	}
	refuses(t, c.RemoveFile(t.Context(), at("a"), false), 409, api.Conflict)
	if err := c.RemoveFile(t.Context(), at("a"), true); err != nil {
		t.Error(err)
	}
	if page := get[api.FileList](t, call(t, "GET", fileURL("/list", dir), nil), 200); page.Entries == nil || len(page.Entries) != 0 {
		t.Errorf("got %+v", page)
	}
}

func TestNamesThatAreNotUTF8(t *testing.T) {
	dir := t.TempDir()
	name := dir + "/caf\xe9"
	call(t, "PUT", fileURL("", name), "latin 1")
	page := get[api.FileList](t, call(t, "GET", fileURL("/list", dir), nil), 200)
	if len(page.Entries) != 1 || string(page.Entries[0].PathBase64) != name || !strings.HasSuffix(page.Entries[0].Path, "/caf\uFFFD") {
		t.Fatalf("got %+v", page)
	}
	encoded := base64.StdEncoding.EncodeToString(page.Entries[0].PathBase64)
	resp := call(t, "GET", "/v1/files?"+url.Values{"path": {page.Entries[0].Path}, "path_base64": {encoded}}.Encode(), nil)
	if text := read(t, resp); text != "latin 1" || !strings.Contains(resp.Header.Get("Content-Disposition"), "caf_") {
		t.Errorf("got %q, %v", text, resp.Header)
	}
	moved := base64.StdEncoding.EncodeToString([]byte(dir + "/\xff"))
	e := get[files.Entry](t, call(t, "POST", "/v1/files/move", api.MoveRequest{FromBase64: encoded, ToBase64: moved}), 200)
	if string(e.PathBase64) != dir+"/\xff" {
		t.Errorf("got %+v", e)
	}
	refused(t, call(t, "GET", fileURL("", name), nil), 404, api.NotFound)
}

// TestClientThatLeavesHalfWay: what it sent is not kept.
func TestClientThatLeavesHalfWay(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, "old")
	call(t, "PUT", fileURL("", old), "old")
	for _, head := range []string{
		"PUT " + fileURL("", old) + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nhalf of it",
		"PUT " + fileURL("", dir+"/new/f") + " HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf \r\n",
		"PUT " + fileURL("/archive", dir+"/in") + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nhalf of it",
	} {
		conn, err := net.Dial("tcp", site.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, head); err != nil {
			t.Fatal(err)
		}
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); err != nil { // until the server has done
			t.Fatal(err)
		}
		conn.Close()
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || onDisk(t, old) != "old" {
		t.Errorf("%v, %v", entries, err)
	}
}

// again runs a test in a user namespace, where it may mount.
func again(t *testing.T) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run", "^"+t.Name()+"$")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("without the right to mount a tmpfs a full disk cannot be tested, nor in a user namespace: %v\n%s", err, out)
	}
}

func TestFullDiskIs507(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil && os.Getuid() != 0 {
		again(t)
		return
	} else if err != nil {
		t.Fatal(err)
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH)
	refused(t, call(t, "PUT", fileURL("", dir+"/f"), strings.Repeat("x", 2<<20)), 507, api.DiskFull)
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("%v, %v", entries, err)
	}
}

// TestFiveGigabytes reads the end of a large file, and all of it in little memory.
func TestFiveGigabytes(t *testing.T) {
	const size = 5 << 30
	dir := t.TempDir()
	if syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m") == nil { // where holes cost no cache
		defer syscall.Unmount(dir, syscall.MNT_DETACH)
	}
	name := filepath.Join(dir, "big")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("the end"), size-7); err != nil {
		t.Fatal(err)
	}
	resp := call(t, "GET", fileURL("", name), nil, "Range", fmt.Sprintf("bytes=%d-", size-7))
	if text := read(t, resp); text != "the end" || resp.StatusCode != 206 {
		t.Errorf("%d %q", resp.StatusCode, text)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	resp = call(t, "GET", fileURL("", name), nil)
	buf := make([]byte, 1<<20)
	got, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, buf)
	if err != nil || got != size {
		t.Errorf("%d bytes, %v", got, err)
	}
	if runtime.ReadMemStats(&after); after.TotalAlloc-before.TotalAlloc > size/8 { // with -race pools lose much
		t.Errorf("%d bytes were allocated", after.TotalAlloc-before.TotalAlloc)
	}
}

func TestThousandRequestsAtOnce(t *testing.T) {
	dir := t.TempDir()
	var work sync.WaitGroup
	for i := range 1000 {
		work.Go(func() {
			name := filepath.Join(dir, fmt.Sprint(i%100), fmt.Sprint(i))
			resp := call(t, "PUT", fileURL("", name), fmt.Sprint(i))
			if text := read(t, resp); resp.StatusCode != 201 {
				t.Errorf("%d %s", resp.StatusCode, text)
				return
			}
			if text := read(t, call(t, "GET", fileURL("", name), nil)); text != fmt.Sprint(i) {
				t.Errorf("%d: %q", i, text)
			}
		})
	}
	work.Wait()
}

func TestDocumentHasTheWordsOfFiles(t *testing.T) {
	doc := document(t)
	var documented []string
	for _, schema := range []string{"Entry", "FileEvent"} {
		documented = append(documented, texts(doc.at(doc, "components", "schemas", schema, "properties", "type")["enum"])...)
	}
	same(t, "types of files and their events", documented, append(constants(t, "files", "Type"), "end", "ping"))

	var fields []string
	for _, line := range []any{files.Event{}, api.StreamEnd{}} {
		for f := range reflect.TypeOf(line).Fields() {
			if field, _, _ := strings.Cut(f.Tag.Get("json"), ","); field != "-" && !slices.Contains(fields, field) {
				fields = append(fields, field)
			}
		}
	}
	same(t, "fields of FileEvent", slices.Collect(maps.Keys(doc.at(doc, "components", "schemas", "FileEvent", "properties"))), fields)
}

// pyString is a Python literal.
func pyString(s string) string { return fmt.Sprintf("%q", s) }
