package inside_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/files"
)

func TestArchiveOverHTTP(t *testing.T) {
	dir := t.TempDir()
	call(t, "PUT", fileURL("", dir+"/from/a/f"), strings.Repeat("content", 1000))
	if err := syscall.Mkfifo(filepath.Join(dir, "from", "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for compression, typ := range map[string]string{"none": "application/x-tar", "gzip": "application/gzip"} {
		resp := call(t, "GET", fileURL("/archive", dir+"/from", "compression", compression), nil)
		archive := read(t, resp)
		if resp.Header.Get("Content-Type") != typ || resp.Trailer.Get("X-Archive-Skipped") != "1" {
			t.Errorf("%v, %v", resp.Header, resp.Trailer)
		}
		done := get[files.Extracted](t, call(t, "PUT", fileURL("/archive", dir+"/"+compression), archive), 200)
		if done.Entries != 2 || onDisk(t, dir+"/"+compression+"/a/f") != strings.Repeat("content", 1000) {
			t.Errorf("got %+v", done)
		}
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range []string{"good", "../evil"} {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: 1, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	e := refused(t, call(t, "PUT", fileURL("/archive", dir+"/in"), b.String()), 422, api.Unprocessable)
	if raw, _ := json.Marshal(e.Details); string(raw) != `{"extracted":{"bytes":1,"entries":1}}` || !strings.Contains(e.Message, "../evil") {
		t.Errorf("got %+v", e)
	}
	refused(t, call(t, "PUT", fileURL("/archive", dir+"/in"), strings.Repeat("no archive", 100)), 422, api.Unprocessable)
}

// TestAnAnswerThatIsNotWholeIsCut: a client sees that, and takes it for no file.
func TestAnAnswerThatIsNotWholeIsCut(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	for _, operation := range []string{"", "/archive"} {
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(1 << 30); err != nil {
			t.Fatal(err)
		}
		resp := call(t, "GET", fileURL(operation, name), nil)
		if _, err := io.ReadFull(resp.Body, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(10); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err == nil {
			t.Errorf("%q: it is whole", operation)
		}
	}
}
