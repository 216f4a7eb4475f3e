package envd_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func zip(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// form returns the body of an upload as E2B's clients send it, and its type.
func form(t *testing.T, parts ...[2]string) (body, typ string) {
	t.Helper()
	var b strings.Builder
	w := multipart.NewWriter(&b)
	for _, p := range parts {
		part, err := w.CreatePart(textproto.MIMEHeader{
			"Content-Disposition": {`form-data; name="file"; filename="` + p[0] + `"`}, "Content-Type": {"text/plain"},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(part, p[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String(), w.FormDataContentType()
}

type info struct {
	Path, Name, Type string
	Metadata         map[string]string
}

// posted uploads what has to be taken.
func posted(t *testing.T, query, body string, headers ...string) (all []info) {
	t.Helper()
	resp := request(t, "POST", "/files"+query, strings.NewReader(body), headers...)
	text := read(t, resp)
	if resp.StatusCode != http.StatusOK || json.Unmarshal([]byte(text), &all) != nil {
		t.Fatalf("%s %s", resp.Status, text)
	}
	return all
}

// denied checks the status of a request about files that fails, and its body.
func denied(t *testing.T, status int, resp *http.Response) string {
	t.Helper()
	text := read(t, resp)
	var e struct {
		Code    int
		Message string
	}
	if err := json.Unmarshal([]byte(text), &e); err != nil || resp.StatusCode != status || e.Code != status || e.Message == "" {
		t.Errorf("%s %s, want %d", resp.Status, text, status)
	}
	return e.Message
}

const octets = "application/octet-stream"

func TestUpload(t *testing.T) {
	clean(t, "up")
	all := posted(t, "?path=up/raw.bin&username=user", "\x00raw\xff", "Content-Type", octets)
	if len(all) != 1 || all[0].Path != home+"/up/raw.bin" || all[0].Name != "raw.bin" || all[0].Type != "file" || all[0].Metadata != nil {
		t.Errorf("told %+v", all)
	}
	if got := content(t, "up/raw.bin"); got != "\x00raw\xff" {
		t.Errorf("wrote %q", got)
	}
	posted(t, "?path=up/raw.bin", zip(t, "unzipped"), "Content-Type", octets, "Content-Encoding", "gzip")
	if got := content(t, "up/raw.bin"); got != "unzipped" {
		t.Errorf("wrote %q", got)
	}
	posted(t, "?path=~/up/empty", "", "Content-Type", octets)
	if got := content(t, "up/empty"); got != "" {
		t.Errorf("wrote %q", got)
	}
	large := strings.Repeat("0123456789", 400_000)
	posted(t, "?path="+home+"/up/large", large, "Content-Type", octets)
	if content(t, "up/large") != large {
		t.Error("a large file is another")
	}
	if s, err := os.Stat(filepath.Join(home, "up/large")); err != nil || s.Mode().Perm() != 0o644 {
		t.Errorf("mode %v, %v", s.Mode(), err)
	}
}

func TestUploadOfForms(t *testing.T) {
	clean(t, "form")
	body, typ := form(t, [2]string{"ignored.txt", "one file"})
	if all := posted(t, "?path=form/one.txt", body, "Content-Type", typ); len(all) != 1 || all[0].Path != home+"/form/one.txt" || content(t, "form/one.txt") != "one file" {
		t.Errorf("told %+v", all)
	}
	body, typ = form(t, [2]string{"form/a/ä ✓.txt", "first"}, [2]string{home + "/form/b.txt", "second"})
	all := posted(t, "", body, "Content-Type", typ)
	if len(all) != 2 || all[0].Path != home+"/form/a/ä ✓.txt" || all[1].Name != "b.txt" || content(t, "form/a/ä ✓.txt") != "first" || content(t, "form/b.txt") != "second" {
		t.Errorf("told %+v", all)
	}
	body, typ = form(t, [2]string{"form/zipped", "unzipped"})
	posted(t, "", zip(t, body), "Content-Type", typ, "Content-Encoding", "gzip")
	if got := content(t, "form/zipped"); got != "unzipped" {
		t.Errorf("wrote %q", got)
	}
	post := func(body, typ, query string) *http.Response {
		return request(t, "POST", "/files"+query, strings.NewReader(body), "Content-Type", typ)
	}
	body, typ = form(t, [2]string{"form/same", "1"}, [2]string{"./form/../form/same", "2"})
	denied(t, http.StatusBadRequest, post(body, typ, ""))
	denied(t, http.StatusBadRequest, post(body, typ, "?path=form/same"))
	body, typ = form(t)
	denied(t, http.StatusBadRequest, post(body, typ, ""))
	body, typ = form(t, [2]string{"form/cut", "content"})
	denied(t, http.StatusBadRequest, post(body[:len(body)-10], typ, ""))
	denied(t, http.StatusBadRequest, post("no form", typ, ""))
	denied(t, http.StatusBadRequest, post(body, "multipart/form-data", ""))
	denied(t, http.StatusBadRequest, post(strings.Replace(body, "; filename=", "; other=", 1), typ, ""))
	if _, err := os.Stat(filepath.Join(home, "form/cut")); err == nil {
		t.Error("what came half is there")
	}
}

// What cannot be written changes nothing.
func TestUploadsThatFail(t *testing.T) {
	clean(t, "bad")
	write(t, "bad/file", "old")
	post := func(query, body string, headers ...string) *http.Response {
		return request(t, "POST", "/files"+query, strings.NewReader(body), headers...)
	}
	denied(t, http.StatusBadRequest, post("?path=bad", "x", "Content-Type", octets))
	denied(t, http.StatusBadRequest, post("?path=bad/new/", "x", "Content-Type", octets))
	denied(t, http.StatusBadRequest, post("?path=bad/file/below", "x", "Content-Type", octets))
	denied(t, http.StatusBadRequest, post("?path=", "x", "Content-Type", octets))
	denied(t, http.StatusBadRequest, post("", "x", "Content-Type", octets))
	denied(t, http.StatusBadRequest, post("?path=~other/x", "x", "Content-Type", octets))
	denied(t, http.StatusBadRequest, post("?path=bad/file", "x", "Content-Type", "text/plain"))
	denied(t, http.StatusBadRequest, post("?path=bad/file", "x"))
	denied(t, http.StatusUnauthorized, post("?path=bad/file&username=nobody", "x", "Content-Type", octets))
	denied(t, http.StatusBadRequest, post("?path=bad/file", "x", "Content-Type", octets, "Content-Encoding", "br"))
	denied(t, http.StatusBadRequest, post("?path=bad/file", "no gzip", "Content-Type", octets, "Content-Encoding", "gzip"))
	for _, name := range []string{"file", "fresh"} {
		denied(t, http.StatusBadRequest, post("?path=bad/"+name, zip(t, strings.Repeat("x", 1000))[:20], "Content-Type", octets, "Content-Encoding", "gzip"))
	}
	if got := content(t, "bad/file"); got != "old" {
		t.Errorf("the file is %q", got)
	}
	if left, err := os.ReadDir(filepath.Join(home, "bad")); err != nil || len(left) != 1 {
		t.Errorf("left are %v, %v", left, err)
	}
}

func TestMetadata(t *testing.T) {
	clean(t, "metadata")
	headers := []string{"Content-Type", octets, "X-Metadata-Author", "mish", "x-metadata-purpose", "up load"}
	want := "map[author:mish purpose:up load]"
	told := func() string {
		t.Helper()
		return fmt.Sprint(at(call(t, fs+"Stat", object{"path": "metadata/file"}), "entry", "metadata"))
	}
	for range 2 { // a new file, and one that is there
		if all := posted(t, "?path=metadata/file", "x", headers...); fmt.Sprint(all[0].Metadata) != want || told() != want {
			t.Errorf("told %v and %s", all, told())
		}
	}
	if all := posted(t, "?path=metadata/file", "y", "Content-Type", octets, "X-Metadata-Other", "z"); fmt.Sprint(all[0].Metadata) != "map[other:z]" || told() != "map[other:z]" {
		t.Errorf("told %v and %s", all, told())
	}
	if all := posted(t, "?path=metadata/file", "y", "Content-Type", octets); all[0].Metadata != nil || told() != "<nil>" {
		t.Errorf("told %v and %s", all, told())
	}
	body, typ := form(t, [2]string{"metadata/a", "1"}, [2]string{"metadata/b", "2"})
	for _, one := range posted(t, "", body, "Content-Type", typ, "X-Metadata-Source", "suite") {
		if one.Metadata["source"] != "suite" {
			t.Errorf("told %v", one)
		}
	}
	for _, bad := range [][2]string{
		{"X-Metadata-", "x"}, {"X-Metadata-Key", "tab\tin"}, {"X-Metadata-Key", "ä"}, {"X-Metadata-" + strings.Repeat("k", 247), "x"}, {"X-Metadata-Key", strings.Repeat("v", 4100)},
	} {
		denied(t, http.StatusBadRequest, request(t, "POST", "/files?path=metadata/never", strings.NewReader("x"), "Content-Type", octets, bad[0], bad[1]))
	}
	for size := 3900; size < 4096-len("user.e2b.key"); size += 8 { // what is near the bound is kept, or refused for what it is
		resp := request(t, "POST", "/files?path=metadata/large", strings.NewReader("x"), "Content-Type", octets, "X-Metadata-Key", strings.Repeat("v", size))
		text := read(t, resp)
		if resp.StatusCode != http.StatusOK && (resp.StatusCode != http.StatusBadRequest || !strings.Contains(text, "attributes")) {
			t.Errorf("%d bytes: %d %s", size, resp.StatusCode, text)
		}
	}
	if _, err := os.Stat(filepath.Join(home, "metadata/never")); err == nil {
		t.Error("it was written")
	}
}

func TestDownload(t *testing.T) {
	write(t, "down/file.txt", "0123456789")
	get := func(query string, headers ...string) *http.Response {
		return request(t, "GET", "/files"+query, nil, headers...)
	}
	resp := get("?path=down/file.txt&username=user")
	if body := read(t, resp); resp.StatusCode != http.StatusOK || body != "0123456789" || resp.Header.Get("Content-Disposition") != "inline; filename=file.txt" ||
		resp.Header.Get("Vary") != "Accept-Encoding" || resp.Header.Get("Content-Length") != "10" || resp.Header.Get("Accept-Ranges") != "bytes" {
		t.Errorf("%s %v %q", resp.Status, resp.Header, body)
	}
	etag, modified := resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")
	if resp := get("?path=down/file.txt", "Range", "bytes=2-4"); resp.StatusCode != http.StatusPartialContent || read(t, resp) != "234" {
		t.Errorf("a range: %s", resp.Status)
	}
	denied(t, http.StatusRequestedRangeNotSatisfiable, get("?path=down/file.txt", "Range", "bytes=20-"))
	for name, value := range map[string]string{"If-None-Match": etag, "If-Modified-Since": modified} {
		if resp := get("?path=down/file.txt", name, value, "Accept-Encoding", "gzip"); resp.StatusCode != http.StatusNotModified {
			t.Errorf("%s: %s", name, resp.Status)
		}
	}
	if resp := request(t, "HEAD", "/files?path=down/file.txt", nil); resp.StatusCode != http.StatusOK || resp.ContentLength != 10 {
		t.Errorf("HEAD: %s", resp.Status)
	}
	if text := denied(t, http.StatusNotFound, get("?path=down/nothing")); text != "path '"+home+"/down/nothing' does not exist" {
		t.Errorf("says %q", text)
	}
	denied(t, http.StatusBadRequest, get("?path=down"))
	denied(t, http.StatusBadRequest, get(""))
	denied(t, http.StatusBadRequest, get("?path=/../x"))
	denied(t, http.StatusBadRequest, get("?path=%00"))
	denied(t, http.StatusBadRequest, get("?path=/dev/null"))
	denied(t, http.StatusUnauthorized, get("?path=down/file.txt&username=x"))
	if resp := get("?path=/proc/self/status"); resp.StatusCode != http.StatusOK || !strings.Contains(read(t, resp), "Pid:") {
		t.Errorf("of /proc: %s", resp.Status)
	}
}

func TestDownloadOfGzip(t *testing.T) {
	text := strings.Repeat("compressible ", 100_000)
	write(t, "down/large.txt", text)
	for encoding, packed := range map[string]bool{
		"gzip": true, "GZIP;q=0.5": true, "gzip, deflate": false, "gzip, deflate, br, zstd": false, "identity": false, "gzip, identity;q=0": true, "gzip, br, *;q=0": true, "gzip;q=0": false, "br": false, "*": false,
	} {
		resp := request(t, "GET", "/files?path=down/large.txt", nil, "Accept-Encoding", encoding)
		body := io.Reader(resp.Body)
		if got := resp.Header.Get("Content-Encoding") == "gzip"; got != packed {
			t.Errorf("%s: packed %v", encoding, got)
		}
		if packed {
			var err error
			if body, err = gzip.NewReader(body); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := io.ReadAll(body); err != nil || string(got) != text {
			t.Errorf("%s: %d bytes, %v", encoding, len(got), err)
		}
	}
	denied(t, http.StatusNotAcceptable, request(t, "GET", "/files?path=down/large.txt", nil, "Accept-Encoding", "br, identity;q=0"))
	denied(t, http.StatusNotAcceptable, request(t, "GET", "/files?path=down/large.txt", nil, "Accept-Encoding", "gzip, *;q=0", "Range", "bytes=0-1"))
}

func TestCompose(t *testing.T) {
	clean(t, "compose")
	write(t, "compose/a", "one, ")
	write(t, "compose/b", "two")
	post := func(message object) *http.Response {
		return request(t, "POST", "/files/compose", strings.NewReader(encode(t, message)), "Content-Type", "application/json")
	}
	denied(t, http.StatusBadRequest, post(object{"source_paths": []string{}, "destination": "compose/c"}))
	denied(t, http.StatusBadRequest, post(object{"source_paths": []string{"compose/a"}}))
	denied(t, http.StatusBadRequest, post(object{"source_paths": []string{"compose/a"}, "destination": "./compose/a"}))
	denied(t, http.StatusBadRequest, post(object{"source_paths": []string{"compose"}, "destination": "compose/c"}))
	if err := os.Symlink(".", filepath.Join(home, "compose/link")); err != nil {
		t.Fatal(err)
	}
	denied(t, http.StatusBadRequest, post(object{"source_paths": []string{"compose/link/a"}, "destination": "compose/a"}))
	if got := content(t, "compose/a"); got != "one, " {
		t.Errorf("what is source and destination is %q", got)
	}
	if err := os.Remove(filepath.Join(home, "compose/link")); err != nil {
		t.Fatal(err)
	}
	denied(t, http.StatusNotFound, post(object{"source_paths": []string{"compose/a", "compose/x"}, "destination": "compose/c"}))
	denied(t, http.StatusUnauthorized, post(object{"source_paths": []string{"compose/a"}, "destination": "compose/c", "username": "x"}))
	resp := post(object{"source_paths": []string{"compose/a", "compose/b"}, "destination": "compose/new/c"})
	if body := read(t, resp); resp.StatusCode != http.StatusOK || !strings.Contains(body, home+"/compose/new/c") || content(t, "compose/new/c") != "one, two" {
		t.Errorf("%s %s", resp.Status, body)
	}
	if left, err := os.ReadDir(filepath.Join(home, "compose")); err != nil || len(left) != 1 {
		t.Errorf("left are %v, %v", left, err)
	}
}

// A disk that is full says so, and what was there stays.
func TestFullDisk(t *testing.T) {
	mkdir(t, "disk")
	dir := filepath.Join(home, "disk")
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatalf("cannot mount a tmpfs, without which a full disk cannot be tested: %v (run the tests as root, or under unshare -rm)", err)
	}
	defer func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	posted(t, "?path=disk/there", "old", "Content-Type", octets)
	large := strings.Repeat("x", 2<<20)
	for _, name := range []string{"there", "new"} {
		denied(t, http.StatusInsufficientStorage, request(t, "POST", "/files?path=disk/"+name, strings.NewReader(large), "Content-Type", octets))
		body, typ := form(t, [2]string{"disk/" + name, large})
		denied(t, http.StatusInsufficientStorage, request(t, "POST", "/files", strings.NewReader(body), "Content-Type", typ))
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 || content(t, "disk/there") != "old" {
		t.Errorf("left are %v, %v", left, err)
	}
}

func TestHealthMetricsEnvs(t *testing.T) {
	if resp := request(t, "GET", "/health", nil); resp.StatusCode != http.StatusNoContent {
		t.Errorf("health: %s", resp.Status)
	}
	var envs map[string]string
	if err := json.Unmarshal([]byte(read(t, request(t, "GET", "/envs", nil))), &envs); err != nil || len(envs) != 2 || envs["GIVEN"] != "to the sandbox" {
		t.Errorf("envs %v, %v", envs, err)
	}
	for range 2 {
		var m map[string]float64
		if err := json.Unmarshal([]byte(read(t, request(t, "GET", "/metrics", nil))), &m); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"ts", "cpu_count", "mem_total", "mem_used", "mem_total_mib", "mem_used_mib", "disk_used", "disk_total"} {
			if m[name] <= 0 {
				t.Errorf("%s is %v", name, m[name])
			}
		}
		if _, ok := m["mem_cache"]; !ok || m["cpu_used_pct"] < 0 || m["cpu_used_pct"] > 100 || m["mem_used"] > m["mem_total"] {
			t.Errorf("metrics %v", m)
		}
	}
}
