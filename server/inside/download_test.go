package inside_test

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
)

func TestRangesOfAFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	etag := call(t, "PUT", fileURL("", name), "0123456789").Header.Get("ETag")
	for given, want := range map[string]string{"bytes=0-3": "0123", "bytes=4-": "456789", "bytes=-2": "89", "bytes=8-100": "89"} {
		resp := call(t, "GET", fileURL("", name), nil, "Range", given)
		if text := read(t, resp); text != want || resp.StatusCode != http.StatusPartialContent {
			t.Errorf("%s: %d %q", given, resp.StatusCode, text)
		}
	}
	if text := read(t, call(t, "GET", fileURL("", name), nil, "Range", "bytes=0-3", "If-Range", etag)); text != "0123" {
		t.Errorf("If-Range: %q", text)
	}
	if text := read(t, call(t, "GET", fileURL("", name), nil, "Range", "bytes=0-3", "If-Range", `"old"`)); text != "0123456789" {
		t.Errorf("If-Range of another version: %q", text)
	}
	resp := call(t, "GET", fileURL("", name), nil, "Range", "bytes=10-20")
	refused(t, resp, 416, api.RangeInvalid)
	if got := resp.Header.Get("Content-Range"); got != "bytes */10" {
		t.Errorf("Content-Range %q", got)
	}
	two := call(t, "GET", fileURL("", name), nil, "Range", "bytes=0-0,9-9")
	if text := read(t, two); two.StatusCode != 206 || !strings.HasPrefix(two.Header.Get("Content-Type"), "multipart/byteranges") || !strings.Contains(text, "bytes 9-9/10") {
		t.Errorf("%d %s", two.StatusCode, text)
	}
}

func TestRangesThatAreNone(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	call(t, "PUT", fileURL("", name), "0123456789")
	for _, given := range []string{"items=0-3", "nonsense"} {
		if resp := call(t, "GET", fileURL("", name), nil, "Range", given); read(t, resp) != "0123456789" || resp.StatusCode != 200 {
			t.Errorf("%s: status %d", given, resp.StatusCode)
		}
	}
	if resp := call(t, "HEAD", fileURL("", name), nil, "Range", "bytes=0-3"); resp.StatusCode != 200 || resp.ContentLength != 10 {
		t.Errorf("HEAD: status %d, length %d", resp.StatusCode, resp.ContentLength)
	}
	if text := read(t, call(t, "GET", fileURL("", name), nil, "Range", "Bytes=0-3")); text != "0123" {
		t.Errorf("got %q", text)
	}
	for _, given := range []string{"bytes=5-2", "bytes=x", "bytes=-0"} {
		resp := call(t, "GET", fileURL("", name), nil, "Range", given)
		refused(t, resp, 416, api.RangeInvalid)
		if got := resp.Header.Get("Content-Range"); got != "bytes */10" {
			t.Errorf("%s: Content-Range %q", given, got)
		}
	}
	call(t, "PUT", fileURL("", name), "")
	if resp := call(t, "GET", fileURL("", name), nil, "Range", "bytes=-5"); resp.StatusCode != 200 || resp.Header.Get("Content-Range") != "" {
		t.Errorf("of an empty file: status %d, Content-Range %q", resp.StatusCode, resp.Header.Get("Content-Range"))
	}
}

func TestVersionsOfAFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	put := func(text string, headers ...string) *http.Response {
		return call(t, "PUT", fileURL("", name), text, headers...)
	}
	refused(t, put("x", "If-Match", "*"), 412, api.PreconditionFailed)
	first := put("1", "If-None-Match", "*").Header.Get("ETag")
	refused(t, put("2", "If-None-Match", "*"), 412, api.PreconditionFailed)
	second := put("2", "If-Match", `"other", `+first).Header.Get("ETag")
	refused(t, put("3", "If-Match", first), 412, api.PreconditionFailed)
	refused(t, put("3", "If-Match", "W/"+second), 412, api.PreconditionFailed)
	refused(t, put("3", "If-None-Match", second), 412, api.PreconditionFailed)
	if text := onDisk(t, name); text != "2" {
		t.Errorf("got %q", text)
	}
	if resp := call(t, "GET", fileURL("", name), nil, "If-None-Match", second); resp.StatusCode != http.StatusNotModified {
		t.Errorf("status %d", resp.StatusCode)
	}
	refused(t, call(t, "GET", fileURL("", name), nil, "If-Match", first), 412, api.PreconditionFailed)
	if resp := call(t, "GET", fileURL("", name), nil, "If-None-Match", first); read(t, resp) != "2" {
		t.Errorf("status %d", resp.StatusCode)
	}
}

// TestBrowsersRunNothing: a page that a sandbox wrote comes from our own origin.
func TestBrowsersRunNothing(t *testing.T) {
	dir := t.TempDir()
	for name, want := range map[string]string{
		"page.html": "attachment", "picture.svg": "attachment", "page.xhtml": "attachment", "x.xml": "attachment",
		"picture.png": "inline", "notes": "inline", "page": "inline", "script.js": "attachment",
	} {
		text := "<html><script>alert(1)</script>"
		call(t, "PUT", fileURL("", filepath.Join(dir, name)), text)
		resp := call(t, "GET", fileURL("", filepath.Join(dir, name)), nil)
		how, _, _ := strings.Cut(resp.Header.Get("Content-Disposition"), ";")
		if how != want || !strings.HasPrefix(resp.Header.Get("Content-Security-Policy"), "sandbox") {
			t.Errorf("%s: %v", name, resp.Header)
		}
		if how == "inline" && strings.Contains(resp.Header.Get("Content-Type"), "html") {
			t.Errorf("%s is %s", name, resp.Header.Get("Content-Type"))
		}
	}
}
