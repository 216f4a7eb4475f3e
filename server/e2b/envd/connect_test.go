package envd_test

import (
	"net/http"
	"strings"
	"testing"
)

// What is no call as the protocol has it is told so, by the code that there is for it, and is
// never our own failure.
func TestUnaryCallsThatAreNone(t *testing.T) {
	const stat = "filesystem.Filesystem/Stat"
	for _, message := range []string{"", "  ", "{", "[]", `"x"`, `{"path":1}`, `{"path":"x"} {}`, "{\"path\":\"\xff\"}", strings.Repeat("[", 20_000)} {
		refused(t, http.StatusBadRequest, "invalid_argument", stat, message)
	}
	refused(t, http.StatusTooManyRequests, "resource_exhausted", stat, `{"path":"`+strings.Repeat("x", 1<<20)+`"}`)
	refused(t, http.StatusNotImplemented, "unimplemented", "filesystem.Filesystem/Nothing", object{})
	refused(t, http.StatusNotImplemented, "unimplemented", "process.Process/", object{})
	refused(t, http.StatusBadRequest, "invalid_argument", stat, object{}, "Connect-Timeout-Ms", "soon")
	refused(t, http.StatusBadRequest, "invalid_argument", stat, object{}, "Connect-Timeout-Ms", "-1")
	refused(t, http.StatusBadRequest, "invalid_argument", stat, object{}, "Connect-Timeout-Ms", "12345678901")
	refused(t, http.StatusNotImplemented, "unimplemented", stat, object{}, "Content-Encoding", "zstd")
	refused(t, http.StatusUnauthorized, "unauthenticated", stat, object{}, "Authorization", "Basic bm9ib2R5Og==")
	call(t, stat, object{"path": home, "unknown": 1}, "Content-Encoding", "identity", "Accept-Encoding", "identity", "Connect-Timeout-Ms", "60000", "Authorization", "Basic dXNlcjo=")
	call(t, stat, object{"path": home}, "Authorization", "Basic cm9vdDo=")
	call(t, stat, object{"path": home}, "Authorization", "Bearer something")

	for _, typ := range []string{"", "application/proto", "application/connect+json", "application/grpc", "text/plain", "application/json; charset"} {
		resp := request(t, "POST", "/"+stat, strings.NewReader(`{"path":"/"}`), "Content-Type", typ)
		if body := read(t, resp); resp.StatusCode != http.StatusUnsupportedMediaType && typ != "application/json; charset" || !strings.HasPrefix(resp.Header.Get("Accept-Post")+"application/json", "application/json") {
			t.Errorf("Content-Type %q: %s %s", typ, resp.Status, body)
		}
	}
	if resp := request(t, "POST", "/"+stat, strings.NewReader(`{"path":"/"}`), "Content-Type", "application/json; charset=utf-8"); resp.StatusCode != http.StatusOK {
		t.Errorf("with a charset: %s", resp.Status)
	}
	if resp := request(t, "GET", "/"+stat, nil); resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != "POST" {
		t.Errorf("GET: %s", resp.Status)
	}
	if resp := request(t, "POST", "/"+stat, strings.NewReader("{}"), "Content-Type", "application/json", "Connect-Protocol-Version", "2"); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("version 2: %s", resp.Status)
	}
}

func TestStreamsThatAreNone(t *testing.T) {
	const start = "process.Process/Start"
	for body, code := range map[string]string{
		"":                                    "invalid_argument",
		"\x00\x00":                            "invalid_argument",
		"\x00\x00\x00\x00\x09{}":              "invalid_argument",
		envelope(0, ""):                       "invalid_argument",
		envelope(0, "{"):                      "invalid_argument",
		envelope(0, "{}"):                     "invalid_argument", // no command
		envelope(0, `{"process":{"cmd":""}}`): "invalid_argument",
		envelope(0, "{}") + envelope(0, "{}"): "invalid_argument",
		envelope(2, "{}"):                     "invalid_argument",
		envelope(4, "{}"):                     "invalid_argument",
		envelope(1, "{}"):                     "unimplemented",
		envelope(0, `{"process":{"cmd":"echo","args":["\ud800"]}}`): "invalid_argument",
		"\x00\xff\xff\xff\xff{}":                                    "resource_exhausted",
	} {
		send(t, site.URL, start, strings.NewReader(body)).failed(t, code)
	}
	stream(t, "process.Process/Nothing", object{}).failed(t, "unimplemented")
	stream(t, start, object{}, "Authorization", "Basic bm9ib2R5Og==").failed(t, "unauthenticated")
	stream(t, start, object{}, "Connect-Content-Encoding", "gzip").failed(t, "unimplemented")
	stream(t, start, object{}, "Connect-Timeout-Ms", "x").failed(t, "invalid_argument")
	if resp := request(t, "POST", "/"+start, strings.NewReader("{}"), "Content-Type", "application/json"); resp.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("a stream as unary: %s", resp.Status)
	}
}

func TestPaths(t *testing.T) {
	for path, status := range map[string]int{"/": 404, "/nothing": 404, "/init": 404, "/v1/code": 404, "/files/x": 404, "/filesystem.Filesystem": 404} {
		resp := request(t, "POST", path, strings.NewReader("{}"), "Content-Type", "application/json")
		if resp.StatusCode != status || !strings.HasPrefix(read(t, resp), `{"code":404,"message":"`) {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	if resp := request(t, "DELETE", "/files", nil); resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("DELETE /files: %s", resp.Status)
	}
}
